package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
)

// fakeAPI keeps objects as an API server does: versions, conflicts, patches and watches. It is
// what a real one cannot be: fast in virtual time, away at will, and somebody else at will.
type fakeAPI struct {
	mu       sync.Mutex
	version  int
	objects  map[string]map[string]any // by path
	watchers map[*io.PipeWriter]string // to the list that they watch
	away     bool
	// before is called ahead of each request, without mu: what somebody else does meanwhile.
	before func(method, path string)
	// written is called after each change with mu held.
	written func(path string)
	count   map[string]int // requests by method and path
}

func newFakeAPI() *fakeAPI {
	return &fakeAPI{objects: map[string]map[string]any{}, watchers: map[*io.PipeWriter]string{}, count: map[string]int{}}
}

// api is a connection to it.
func (f *fakeAPI) api() *API {
	return &API{host: "https://fake", client: &http.Client{Transport: f}}
}

// put stores an object.
func (f *fakeAPI) put(path string, object any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.set(path, object)
}

func (f *fakeAPI) set(path string, object any) map[string]any {
	data, _ := json.Marshal(object)
	var kept map[string]any
	_ = json.Unmarshal(data, &kept)
	f.version++
	kept["metadata"].(map[string]any)["resourceVersion"] = fmt.Sprint(f.version)
	kind := "MODIFIED"
	if f.objects[path] == nil {
		kind = "ADDED"
	}
	f.objects[path] = kept
	f.tell(kind, path, kept)
	return kept
}

// remove deletes an object.
func (f *fakeAPI) remove(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	old := f.objects[path]
	delete(f.objects, path)
	f.tell("DELETED", path, old)
}

func (f *fakeAPI) tell(kind, path string, object map[string]any) {
	line, _ := json.Marshal(map[string]any{"type": kind, "object": object})
	for w, list := range f.watchers {
		if strings.HasPrefix(path, list+"/") {
			go w.Write(append(line, '\n'))
		}
	}
	if f.written != nil {
		f.written(path)
	}
}

// counted is how many requests of a method for a path there were.
func (f *fakeAPI) counted(request string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.count[request]
}

// setAway lets requests fail, and ends the watches.
func (f *fakeAPI) setAway(away bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.away = away
	if away {
		for w := range f.watchers {
			w.CloseWithError(errors.New("away"))
			delete(f.watchers, w)
		}
	}
}

// RoundTrip answers a request.
func (f *fakeAPI) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	before := f.before
	f.mu.Unlock()
	if before != nil {
		before(r.Method, r.URL.Path)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.count[r.Method+" "+r.URL.Path]++
	if f.away {
		return nil, errors.New("away")
	}
	var body []byte
	if r.Body != nil {
		body, _ = io.ReadAll(r.Body)
	}
	if r.URL.Query().Get("watch") != "" {
		return f.watch(r), nil
	}
	code, answer := f.answer(r, body)
	data, _ := json.Marshal(answer)
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(data)), Request: r}, nil
}

func (f *fakeAPI) watch(r *http.Request) *http.Response {
	reader, writer := io.Pipe()
	f.watchers[writer] = r.URL.Path
	context.AfterFunc(r.Context(), func() {
		writer.CloseWithError(r.Context().Err())
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.watchers, writer)
	})
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: reader, Request: r}
}

func (f *fakeAPI) answer(r *http.Request, body []byte) (int, any) {
	path := r.URL.Path
	object, found := f.objects[path]
	var sent map[string]any
	_ = json.Unmarshal(body, &sent)
	switch r.Method {
	case http.MethodGet:
		if path == "/api/v1/namespaces" {
			return f.list(path)
		}
		if found {
			return http.StatusOK, object
		}
		return http.StatusNotFound, apiError{http.StatusNotFound, "NotFound", "not there"}
	case http.MethodPost:
		path += "/" + sent["metadata"].(map[string]any)["name"].(string)
		if f.objects[path] != nil {
			return http.StatusConflict, apiError{http.StatusConflict, "AlreadyExists", "there already"}
		}
		return http.StatusCreated, f.set(path, sent)
	case http.MethodPut:
		if !found || object["metadata"].(map[string]any)["resourceVersion"] != sent["metadata"].(map[string]any)["resourceVersion"] {
			return http.StatusConflict, apiError{http.StatusConflict, "Conflict", "changed"}
		}
		return http.StatusOK, f.set(path, sent)
	case http.MethodPatch:
		before, _ := json.Marshal(object)
		patch, err := jsonpatch.DecodePatch(body)
		var after []byte
		if err == nil {
			after, err = patch.Apply(before)
		}
		if err != nil {
			return http.StatusUnprocessableEntity, apiError{http.StatusUnprocessableEntity, "Invalid", err.Error()}
		}
		return http.StatusOK, f.set(path, json.RawMessage(after))
	}
	return http.StatusMethodNotAllowed, apiError{http.StatusMethodNotAllowed, "", r.Method}
}

func (f *fakeAPI) list(path string) (int, any) {
	items := []any{}
	for at, object := range f.objects {
		if rest, ok := strings.CutPrefix(at, path+"/"); ok && !strings.Contains(rest, "/") {
			items = append(items, object)
		}
	}
	return http.StatusOK, map[string]any{"metadata": map[string]any{"resourceVersion": fmt.Sprint(f.version)}, "items": items}
}

const hooksPath = configurations + "/larboard-injector"

// hooks is a webhook configuration with an entry of ours and one of somebody else.
func hooks() *admissionregistrationv1.MutatingWebhookConfiguration {
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	c.Name = "larboard-injector"
	for _, service := range []string{"another", "larboard-injector"} {
		c.Webhooks = append(c.Webhooks, admissionregistrationv1.MutatingWebhook{Name: service + ".example",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{Service: &admissionregistrationv1.ServiceReference{Namespace: "larboard-system", Name: service}}})
	}
	return c
}

// bundles are those of the webhook configuration as it stands.
func (f *fakeAPI) bundles(t testing.TB) (other, ours []byte) {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	data, _ := json.Marshal(f.objects[hooksPath])
	var c admissionregistrationv1.MutatingWebhookConfiguration
	if err := json.Unmarshal(data, &c); err != nil {
		t.Fatal(err)
	}
	return c.Webhooks[0].ClientConfig.CABundle, c.Webhooks[1].ClientConfig.CABundle
}
