package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const secretPath = "/api/v1/namespaces/larboard-system/secrets/larboard-injector-ca"

// replica is one injector's keeper and what it shows.
type replica struct {
	keeper  *keeper
	showing atomic.Pointer[tls.Certificate]
}

// replicas runs n of them until the test ends. It is for a bubble of synctest.
func replicas(t *testing.T, f *fakeAPI, n int) []*replica {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	t.Cleanup(func() { cancel(); all.Wait() })
	var made []*replica
	for range n {
		o := Options{API: f.api(), Log: slog.New(slog.DiscardHandler), AuthorityLife: 9 * time.Hour, CertificateLife: 90 * time.Minute, Settle: time.Minute}
		if err := o.complete(); err != nil {
			t.Fatal(err)
		}
		r := &replica{}
		r.keeper = newKeeper(o, r.showing.Store)
		all.Go(func() { r.keeper.run(ctx) })
		made = append(made, r)
	}
	return made
}

// trusted says why an API server with this bundle does not trust what r shows.
func (r *replica) trusted(bundle []byte) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(bundle)
	_, err := r.showing.Load().Leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: "larboard-injector.larboard-system.svc"})
	return err
}

// Each replica shows a certificate that an API server trusts which sees
// the bundle of most of a minute ago, while authorities and certificates change all the time.
func TestEveryCertificateIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.put(hooksPath, hooks())
		all := replicas(t, f, 3)
		time.Sleep(time.Minute)
		judged := map[string]bool{}
		authorities, certificates := map[string]bool{}, map[string]bool{}
		_, late := f.bundles(t)
		for range 36 * 60 { // minutes
			for _, r := range all {
				seen := string(r.showing.Load().Leaf.Raw) + string(late)
				if judged[seen] {
					continue
				}
				if err := r.trusted(late); err != nil {
					t.Fatalf("%v: %v", time.Now(), err)
				}
				judged[seen] = true
				leaf := r.showing.Load().Leaf
				certificates[string(leaf.Raw)], authorities[leaf.Issuer.CommonName] = true, true
			}
			_, late = f.bundles(t)
			time.Sleep(59 * time.Second)
		}
		if len(authorities) < 5 || len(certificates) < 3*30 {
			t.Errorf("%d authorities and %d certificates in a day and a half", len(authorities), len(certificates))
		}
		if n := bytes.Count(late, []byte("BEGIN CERTIFICATE")); n > 2 {
			t.Errorf("%d authorities in the bundle: expired ones stay", n)
		}
		if other, _ := f.bundles(t); other != nil {
			t.Errorf("somebody else's webhook was changed: %s", other)
		}
		if n := f.counted("PUT " + secretPath); n > 3*len(authorities) {
			t.Errorf("the Secret was written %d times", n)
		}
	})
}

// Replicas that start together agree on one authority, whether or not the Secret is there.
func TestReplicasShareTheAuthority(t *testing.T) {
	for name, there := range map[string]bool{"no Secret": false, "an empty Secret": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeAPI()
				f.put(hooksPath, hooks())
				if there {
					f.put(secretPath, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "larboard-injector-ca"}})
				}
				all := replicas(t, f, 5)
				time.Sleep(time.Minute)
				_, bundle := f.bundles(t)
				if n := bytes.Count(bundle, []byte("BEGIN")); n != 1 {
					t.Errorf("%d authorities", n)
				}
				for _, r := range all {
					if err := r.trusted(bundle); err != nil || r.keeper.waiting() != "" {
						t.Errorf("%v, %q", err, r.keeper.waiting())
					}
				}
			})
		})
	}
}

// What somebody does to the bundle is put right at once, and to the Secret in a while.
func TestRepair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.put(hooksPath, hooks())
		r := replicas(t, f, 1)[0]
		time.Sleep(time.Minute)
		_, good := f.bundles(t)
		for name, spoil := range map[string]func(){
			"emptied":                 func() { f.put(hooksPath, hooks()) },
			"deleted and made anew":   func() { f.remove(hooksPath); time.Sleep(time.Hour); f.put(hooksPath, hooks()) },
			"changed to another text": func() { c := hooks(); c.Webhooks[1].ClientConfig.CABundle = []byte("x"); f.put(hooksPath, c) },
		} {
			spoil()
			time.Sleep(time.Second)
			if _, now := f.bundles(t); !bytes.Equal(now, good) {
				t.Errorf("%s: %q", name, now)
			}
		}
		f.put(secretPath, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "larboard-injector-ca"}, Data: map[string][]byte{authoritiesKey: []byte("rubbish")}})
		time.Sleep(2 * checkMost)
		_, now := f.bundles(t)
		if bytes.Equal(now, good) {
			t.Error("the Secret is unreadable, and the old bundle stands")
		}
		if err := r.trusted(now); err != nil {
			t.Error(err)
		}
	})
}

// While the API server is away, what is shown stays; what was due comes when it is back.
func TestAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.put(hooksPath, hooks())
		r := replicas(t, f, 1)[0]
		time.Sleep(time.Minute)
		before := r.showing.Load()
		f.setAway(true)
		time.Sleep(80 * time.Minute) // due after 60
		if r.showing.Load() != before || r.keeper.waiting() != "" {
			t.Errorf("changed while the API server was away: %q", r.keeper.waiting())
		}
		f.setAway(false)
		time.Sleep(time.Minute)
		if r.showing.Load() == before {
			t.Error("the certificate that was due did not come")
		}
	})
}

// A replica that has read the Secret before another one adds an authority does not take that
// out of the bundle again.
func TestStaleReplicaDoesNotUndo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		f.put(hooksPath, hooks())
		slow := replicas(t, f, 1)[0]
		time.Sleep(time.Minute)
		// The other replica adds an authority and places it between slow's two readings.
		now := time.Now()
		old, _ := decode(f.stored(t))
		added, err := newAuthority(now, 9*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		both := append(old, added)
		var done atomic.Bool
		var reads atomic.Int64
		f.mu.Lock()
		f.before = func(method, path string) {
			if method != http.MethodGet || path != secretPath && path != hooksPath || reads.Add(1) != 2 {
				return
			}
			text, _ := encode(both)
			f.put(secretPath, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "larboard-injector-ca"}, Data: map[string][]byte{authoritiesKey: text}})
			c := hooks()
			c.Webhooks[1].ClientConfig.CABundle = bundle(both)
			f.put(hooksPath, c)
			done.Store(true)
		}
		f.mu.Unlock()
		c := hooks()
		c.Webhooks[1].ClientConfig.CABundle = []byte("spoilt, so that slow has something to patch")
		f.put(hooksPath, c)
		lost := false
		f.mu.Lock()
		f.written = func(string) {
			if done.Load() {
				text, _ := f.objects[hooksPath]["webhooks"].([]any)[1].(map[string]any)["clientConfig"].(map[string]any)["caBundle"].(string)
				lost = lost || !strings.Contains(decoded(text), string(bundle([]*authority{added})))
			}
		}
		f.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if !done.Load() || lost {
			t.Errorf("done %v, lost %v", done.Load(), lost)
		}
		if _, now := f.bundles(t); slow.trusted(now) != nil {
			t.Error("not trusted")
		}
	})
}

func TestWaitingSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeAPI()
		r := replicas(t, f, 1)[0]
		time.Sleep(time.Second)
		if why := r.keeper.waiting(); !strings.Contains(why, "mutatingwebhookconfigurations/larboard-injector: 404") {
			t.Errorf("no webhook configuration: %q", why)
		}
		c := hooks()
		c.Webhooks = c.Webhooks[:1]
		f.put(hooksPath, c)
		time.Sleep(time.Second)
		if why := r.keeper.waiting(); !strings.Contains(why, "has no webhook for the service larboard-system/larboard-injector") {
			t.Errorf("none of ours: %q", why)
		}
		f.put(hooksPath, hooks())
		time.Sleep(time.Second)
		if why := r.keeper.waiting(); why != "" {
			t.Errorf("all there: %q", why)
		}
	})
}
