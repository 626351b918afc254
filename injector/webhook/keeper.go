package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// checkMost is how often everything is looked at where nothing is told or due.
	checkMost = 30 * time.Second
	// checkLeast keeps a disagreement with somebody from becoming a storm.
	checkLeast = 100 * time.Millisecond
	// authoritiesKey and bundleKey are the Secret's: all authorities with their keys, and, for people,
	// their certificates alone.
	authoritiesKey, bundleKey = "authorities.pem", "ca.crt"
)

// keeper keeps an authority in a Secret that all replicas share, its certificate in the webhook
// configuration, and a serving certificate of it in memory, which is each replica's own.
//
// A new authority is made when a third of the old one's life is left. Its certificate is added to
// the bundle, and only when the bundle has had it for Options.Settle does a replica show certificates of it;
// the old one stays in the bundle until it expires. Hence at every moment what is shown is
// trusted, whichever replica and whichever API server meet. The webhook configuration is read
// before the Secret: a replica that has not seen a new authority then finds its patch refused, since
// whoever made the authority has patched in between.
type keeper struct {
	// immutable after newKeeper
	api     *API
	log     *slog.Logger
	options Options
	names   []string // DNS names of the serving certificate
	serve   func(*tls.Certificate)
	kick    chan struct{} // something has changed

	// owned by run
	since   map[string]time.Time // by certificate: when the bundle was first seen to have it
	issuer  *authority           // of current
	current *tls.Certificate
	said    string // the last problem logged

	placed  atomic.Bool // the bundle was in place once
	problem atomic.Pointer[string]
	expiry  atomic.Int64  // of the newest authority, Unix time
	writes  atomic.Uint64 // of the webhook configuration
}

func newKeeper(o Options, serve func(*tls.Certificate)) *keeper {
	name := o.Service + "." + o.Namespace
	return &keeper{api: o.API, log: o.Log, options: o, serve: serve, kick: make(chan struct{}, 1), since: map[string]time.Time{},
		names: []string{name + ".svc", name + ".svc.cluster.local", name, o.Service}}
}

// waiting says why the API server cannot trust us yet; empty: it does, or did once.
func (k *keeper) waiting() string {
	if k.placed.Load() {
		return ""
	}
	if p := k.problem.Load(); p != nil {
		return *p
	}
	return "no authority yet"
}

// run keeps everything up to date until ctx ends.
func (k *keeper) run(ctx context.Context) {
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		k.watch(ctx)
	}()
	defer func() { <-watching }()
	failures := 0
	for ctx.Err() == nil {
		wait, err := k.reconcile(ctx)
		k.report(ctx, err)
		if err != nil {
			wait = backoff(failures)
			failures++
		} else {
			failures = 0
		}
		timer := time.NewTimer(max(wait, checkLeast))
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-k.kick:
			sleep(ctx, checkLeast)
		}
		timer.Stop()
	}
}

// report logs a problem once, and its end.
func (k *keeper) report(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	text := ""
	if err != nil {
		text = err.Error()
		k.problem.Store(&text)
	} else {
		k.placed.Store(true)
	}
	switch {
	case text == k.said:
	case text == "":
		k.log.Info("certificate and bundle are in order again")
	default:
		k.log.Error("certificate or bundle cannot be kept up to date", "error", err)
	}
	k.said = text
}

// watch kicks whenever the webhook configuration changes, until ctx ends.
func (k *keeper) watch(ctx context.Context) {
	query := url.Values{"fieldSelector": {"metadata.name=" + k.options.Webhook}}
	for failures := 0; ctx.Err() == nil; failures++ {
		err := k.api.watch(ctx, configurations+"?"+query.Encode(), nil, func(e event) error {
			failures = 0
			if e.Type != "BOOKMARK" {
				select {
				case k.kick <- struct{}{}:
				default:
				}
			}
			return nil
		})
		if err == nil {
			failures = 0
		}
		sleep(ctx, backoff(failures))
	}
}

// reconcile looks at everything, puts it right, and returns when to look again. Where somebody
// has changed something in between, it looks anew.
func (k *keeper) reconcile(ctx context.Context) (wait time.Duration, err error) {
	for range 5 {
		wait, err = k.look(ctx)
		// 422 is what a patch gets whose test fails.
		if !isCode(err, http.StatusConflict) && !isCode(err, http.StatusUnprocessableEntity) {
			break
		}
	}
	return wait, err
}

func (k *keeper) look(ctx context.Context) (time.Duration, error) {
	hooks, err := k.configuration(ctx)
	if err != nil {
		return 0, err
	}
	all, err := k.authorities(ctx)
	if err != nil {
		return 0, err
	}
	k.expiry.Store(all[len(all)-1].cert.NotAfter.Unix())
	if err := k.place(ctx, hooks, all); err != nil {
		return 0, err
	}
	return k.renew(all, time.Now())
}

// renew shows a new certificate where one is due, and returns when to look again.
func (k *keeper) renew(all []*authority, now time.Time) (time.Duration, error) {
	chosen, settled := k.choose(all, now)
	life := k.options.CertificateLife
	if k.current == nil || !chosen.cert.Equal(k.issuer.cert) || !now.Before(due(k.current.Leaf.NotAfter, life)) {
		pair, err := chosen.issue(now, life, k.names)
		if err != nil {
			return 0, err
		}
		k.issuer, k.current = chosen, pair
		k.serve(pair)
		k.log.Info("certificate issued", "expires", pair.Leaf.NotAfter, "authority_expires", chosen.cert.NotAfter)
	}
	next := now.Add(checkMost)
	for _, t := range []time.Time{settled, due(k.current.Leaf.NotAfter, life), due(all[len(all)-1].cert.NotAfter, k.options.AuthorityLife)} {
		if t.After(now) && t.Before(next) {
			next = t
		}
	}
	return next.Sub(now), nil
}

// choose is the newest authority that every API server knows by now, else the oldest. settled is
// when a newer one will be.
func (k *keeper) choose(all []*authority, now time.Time) (chosen *authority, settled time.Time) {
	chosen = all[0]
	for _, a := range all[1:] {
		since, ok := k.since[string(a.cert.Raw)]
		if !ok {
			continue
		}
		if known := since.Add(k.options.Settle); now.Before(known) {
			settled = known
		} else {
			chosen = a
		}
	}
	return chosen, settled
}

// authorities are those of the Secret that hold, the oldest first, one at least. What is
// missing or due is made, by one replica only: the others find what it has written.
func (k *keeper) authorities(ctx context.Context) ([]*authority, error) {
	for range 5 {
		secret, err := k.secret(ctx)
		if err != nil {
			return nil, err
		}
		stored, err := decode(secret.Data[authoritiesKey])
		if err != nil {
			k.log.Error("the authorities in the Secret cannot be read, new ones replace them", "secret", k.options.Secret, "error", err)
			stored = nil
		}
		now := time.Now()
		all := unexpired(stored, now)
		if len(all) > 0 && now.Before(due(all[len(all)-1].cert.NotAfter, k.options.AuthorityLife)) {
			return all, nil
		}
		made, err := newAuthority(now, k.options.AuthorityLife)
		if err != nil {
			return nil, fmt.Errorf("make an authority: %w", err)
		}
		all = append(all, made)
		err = k.store(ctx, secret, all)
		if isCode(err, http.StatusConflict) {
			continue // another replica was faster
		}
		if err != nil {
			return nil, err
		}
		k.log.Info("authority made", "secret", k.options.Secret, "expires", made.cert.NotAfter)
		return all, nil
	}
	return nil, fmt.Errorf("secret %s: others keep changing it", k.options.Secret)
}

// secret reads the Secret; one that is not there is empty, without a version.
func (k *keeper) secret(ctx context.Context) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := k.api.call(ctx, http.MethodGet, k.secrets()+"/"+k.options.Secret, nil, nil, secret)
	if isCode(err, http.StatusNotFound) {
		return &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
			ObjectMeta: metav1.ObjectMeta{Name: k.options.Secret, Namespace: k.options.Namespace}}, nil
	}
	return secret, err
}

func (k *keeper) secrets() string { return "/api/v1/namespaces/" + k.options.Namespace + "/secrets" }

// store writes authorities to the Secret as it was read: Conflict where it has changed since.
func (k *keeper) store(ctx context.Context, secret *corev1.Secret, all []*authority) error {
	text, err := encode(all)
	if err != nil {
		return fmt.Errorf("write authorities: %w", err)
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[authoritiesKey], secret.Data[bundleKey] = text, bundle(all)
	if secret.ResourceVersion == "" {
		return k.api.call(ctx, http.MethodPost, k.secrets(), nil, secret, nil)
	}
	return k.api.call(ctx, http.MethodPut, k.secrets()+"/"+k.options.Secret, nil, secret, nil)
}

// configurations is where webhook configurations are.
const configurations = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations"

// configuration reads the webhook configuration.
func (k *keeper) configuration(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	hooks := &admissionregistrationv1.MutatingWebhookConfiguration{}
	err := k.api.call(ctx, http.MethodGet, configurations+"/"+k.options.Webhook, nil, nil, hooks)
	return hooks, err
}

// ours reports whether a webhook is one that the API server sends to us.
func (k *keeper) ours(h *admissionregistrationv1.MutatingWebhook) bool {
	s := h.ClientConfig.Service
	return s != nil && s.Namespace == k.options.Namespace && s.Name == k.options.Service
}

// operation is one of a JSON patch.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// place puts the certificates of all into our entries of the webhook configuration, where
// somebody has not done so, and notes since when they are there.
func (k *keeper) place(ctx context.Context, hooks *admissionregistrationv1.MutatingWebhookConfiguration, all []*authority) error {
	want, found := bundle(all), false
	patch := []operation{{"test", "/metadata/resourceVersion", hooks.ResourceVersion}}
	for i := range hooks.Webhooks {
		h := &hooks.Webhooks[i]
		if !k.ours(h) {
			continue
		}
		found = true
		k.forget(h.ClientConfig.CABundle, all)
		if !bytes.Equal(h.ClientConfig.CABundle, want) {
			patch = append(patch, operation{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), want})
		}
	}
	if !found {
		return fmt.Errorf("webhook configuration %s has no webhook for the service %s/%s", k.options.Webhook, k.options.Namespace, k.options.Service)
	}
	if len(patch) > 1 {
		err := k.api.call(ctx, http.MethodPatch, configurations+"/"+k.options.Webhook, map[string]string{"Content-Type": "application/json-patch+json"}, patch, nil)
		if err != nil {
			return err
		}
		k.writes.Add(1)
		k.log.Info("bundle written to the webhook configuration", "webhook", k.options.Webhook, "authorities", len(all))
	}
	k.note(all, time.Now())
	return nil
}

// forget ends the time of those that a bundle does not have, so that it begins anew.
func (k *keeper) forget(text []byte, all []*authority) {
	for _, a := range all {
		if !contains(text, a) {
			delete(k.since, string(a.cert.Raw))
		}
	}
}

// note begins the time of those that are in the bundle now, and ends that of all others.
func (k *keeper) note(all []*authority, now time.Time) {
	since := map[string]time.Time{}
	for _, a := range all {
		raw := string(a.cert.Raw)
		since[raw] = now
		if before, ok := k.since[raw]; ok {
			since[raw] = before
		}
	}
	k.since = since
}
