package webhook

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/larboard-proxy/larboard/injector"
)

const (
	// askTime bounds the question for a namespace that is not known yet, within a review.
	askTime = 2 * time.Second
	// pageSize is how many namespaces are asked for at once.
	pageSize = 500
)

// metadataOnly asks the API server for what it knows of objects without their contents.
func metadataOnly(kind string) map[string]string {
	return map[string]string{"Accept": "application/json;as=" + kind + ";g=meta.k8s.io;v=v1"}
}

// namespaces knows the labels and annotations of all namespaces, by a list and a watch. What
// it knows it keeps while the API server is away.
type namespaces struct {
	api *API
	log *slog.Logger

	mu     sync.RWMutex // guards the rest
	known  map[string]injector.Namespace
	synced bool // known was complete once
}

func newNamespaces(api *API, log *slog.Logger) *namespaces {
	return &namespaces{api: api, log: log, known: map[string]injector.Namespace{}}
}

// get is what is known of a namespace. It asks the API server where that is nothing: a
// namespace may be younger than our watch. One that does not exist has no labels.
func (n *namespaces) get(ctx context.Context, name string) (injector.Namespace, error) {
	n.mu.RLock()
	found, ok := n.known[name]
	n.mu.RUnlock()
	if ok {
		return found, nil
	}
	return n.ask(ctx, name)
}

// newer asks the API server about a namespace whose label, as we know it, does not ask for proxies, and
// returns what is new. The API server may know of a label before our watch does: it selects by it
// the pods that it asks us about, and one that is left alone then would run without its proxy.
func (n *namespaces) newer(ctx context.Context, known injector.Namespace) (now injector.Namespace, changed bool) {
	if label := known.Labels[injector.InjectKey]; label == "enabled" || label == "true" {
		return known, false
	}
	now, err := n.ask(ctx, known.Name)
	if err != nil {
		n.log.Warn("a pod is left alone by what was last known of its namespace", "namespace", known.Name, "error", err)
		return known, false
	}
	return now, !maps.Equal(now.Labels, known.Labels) || !maps.Equal(now.Annotations, known.Annotations)
}

func (n *namespaces) ask(ctx context.Context, name string) (injector.Namespace, error) {
	ctx, cancel := context.WithTimeout(ctx, askTime)
	defer cancel()
	var object metav1.PartialObjectMetadata
	err := n.api.call(ctx, http.MethodGet, "/api/v1/namespaces/"+url.PathEscape(name), metadataOnly("PartialObjectMetadata"), nil, &object)
	if isCode(err, http.StatusNotFound) {
		return injector.Namespace{Name: name}, nil
	}
	if err != nil {
		return injector.Namespace{}, err
	}
	return namespace(&object.ObjectMeta), nil
}

// namespace is what counts of one.
func namespace(m *metav1.ObjectMeta) injector.Namespace {
	return injector.Namespace{Name: m.Name, Labels: counting(m.Labels), Annotations: counting(m.Annotations)}
}

// counting are those labels or annotations that count: others may be a quarter of a megabyte each.
func counting(all map[string]string) map[string]string {
	var ours map[string]string
	for name, value := range all {
		if injector.Counts(name) {
			if ours == nil {
				ours = map[string]string{}
			}
			ours[name] = value
		}
	}
	return ours
}

// waiting says what a review would have to wait for; empty: nothing.
func (n *namespaces) waiting() string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	if !n.synced {
		return "the API server has not told the namespaces yet"
	}
	return ""
}

func (n *namespaces) count() int {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return len(n.known)
}

// run keeps them up to date until ctx ends.
func (n *namespaces) run(ctx context.Context) {
	failures := 0
	for {
		version, err := n.list(ctx)
		if err == nil {
			failures = 0
			err = n.follow(ctx, version)
		}
		if ctx.Err() != nil {
			return
		}
		n.log.Warn("namespaces are not followed, those known are kept", "error", err)
		if !sleep(ctx, backoff(failures)) {
			return
		}
		failures++
	}
}

// list learns all of them and returns the version from which a watch goes on.
func (n *namespaces) list(ctx context.Context) (version string, err error) {
	all := map[string]injector.Namespace{}
	for next := ""; ; {
		var list metav1.PartialObjectMetadataList
		query := url.Values{"limit": {strconv.Itoa(pageSize)}, "continue": {next}}
		if err := n.api.call(ctx, http.MethodGet, "/api/v1/namespaces?"+query.Encode(), metadataOnly("PartialObjectMetadataList"), nil, &list); err != nil {
			return "", err
		}
		for i := range list.Items {
			all[list.Items[i].Name] = namespace(&list.Items[i].ObjectMeta)
		}
		if next = list.Continue; next == "" {
			version = list.ResourceVersion
			break
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.known, n.synced = all, true
	return version, nil
}

// follow applies changes after version until that fails; the API server ends a watch now and
// then, and it goes on where it was.
func (n *namespaces) follow(ctx context.Context, version string) error {
	for {
		query := url.Values{"resourceVersion": {version}}
		err := n.api.watch(ctx, "/api/v1/namespaces?"+query.Encode(), metadataOnly("PartialObjectMetadata"), func(e event) error {
			var object metav1.PartialObjectMetadata
			if err := json.Unmarshal(e.Object, &object); err != nil {
				return err
			}
			version = object.ResourceVersion
			n.apply(e.Type, &object.ObjectMeta)
			return nil
		})
		if err != nil {
			return err
		}
	}
}

func (n *namespaces) apply(kind string, m *metav1.ObjectMeta) {
	n.mu.Lock()
	defer n.mu.Unlock()
	switch kind {
	case "ADDED", "MODIFIED":
		n.known[m.Name] = namespace(m)
	case "DELETED":
		delete(n.known, m.Name)
	}
}
