package admission

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// The load of the tests of rotation.
const (
	pods   = 1000
	atOnce = 20
	pace   = 30 * time.Millisecond // of each of those: the machine belongs to others, too
)

// load makes pods until it is told to end.
type load struct {
	m    *mesh
	end  chan struct{}
	all  sync.WaitGroup
	made atomic.Int64
	bare atomic.Int64 // without a sidecar

	mu       sync.Mutex
	failures []error
}

// load begins to make pods, atOnce of them at any time.
func (m *mesh) load(ctx context.Context) *load {
	l := &load{m: m, end: make(chan struct{})}
	for worker := range atOnce {
		l.all.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				l.one(fmt.Sprintf("p-%d-%d", worker, i))
				select {
				case <-l.end:
					return
				case <-time.After(pace):
				}
			}
		})
	}
	return l
}

func (l *load) one(name string) {
	kept, _, err := l.m.create("shop", plain(name), "")
	switch {
	case err != nil:
		l.mu.Lock()
		defer l.mu.Unlock()
		l.failures = append(l.failures, err)
	case sidecar(kept) == nil:
		l.bare.Add(1)
	}
	l.made.Add(1)
}

// finish waits for enough of them, ends, and judges.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.m.until("enough pods", func() error {
		if n := l.made.Load(); n < pods {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	close(l.end)
	l.all.Wait()
	t.Logf("%d pods, %d failures", l.made.Load(), len(l.failures))
	if len(l.failures) > 0 || l.bare.Load() > 0 {
		t.Errorf("%d of %d failed, %d without a sidecar; the first: %v", len(l.failures), l.made.Load(), l.bare.Load(), errors.Join(l.failures[:min(3, len(l.failures))]...))
	}
}

// Authorities are replaced while twenty at once make pods, with the failure policy Fail, and then the
// replicas themselves: no pod is refused, and each is injected. The long form (LARBOARD_LONG)
// leaves all to the replicas, with lives of seconds.
func TestRotationUnderLoad(t *testing.T) {
	m := install(t, manifests(t))
	flags := []string{"--authority-life", "1h", "--certificate-life", "10m", "--settle", "3s", "--drain", "3s", "--linger", "10s"}
	long := os.Getenv("LARBOARD_LONG") != ""
	if long {
		flags = append(flags, "--authority-life", "45s", "--certificate-life", "20s")
	} else { // this one is due already: another is made at once, and used as soon as it is known
		m.keep([]*pki.CA{m.authority("first", 15*time.Minute)})
	}
	replicas := []*replica{m.start(flags...), m.start(flags...)}
	m.namespace("shop", meshed)
	l := m.load(t.Context())
	if long {
		m.rotations(replicas[0], 5)
	} else { // the next one is made by nobody here, as all but one replica of an installation see it
		m.issued(replicas, 2)
		m.add(m.authority("further", 2*time.Hour))
		m.issued(replicas, 3)
	}
	// An upgrade: for each replica another one, and then it goes.
	replicas = append(replicas, m.start(flags...), m.start(flags...))
	for _, r := range replicas[:2] {
		r.lead(false)
		r.terminate()
	}
	for _, r := range replicas[:2] {
		if code := r.stop(); code != 0 {
			t.Errorf("%s: exit code %d", r.name, code)
		}
	}
	l.finish(t)
	for _, r := range replicas[2:] {
		for _, bad := range []string{"failed", "panicked", "malformed", "too_large", "refused"} {
			if n := r.metric(fmt.Sprintf("larboard_injector_reviews_total{outcome=%q}", bad)); n != 0 {
				t.Errorf("%s: %v reviews %s", r.name, n, bad)
			}
		}
	}
}

// rotations waits until a replica has seen n authorities.
func (m *mesh) rotations(r *replica, n int) {
	m.t.Helper()
	seen := map[float64]bool{}
	for late := time.Now().Add(10 * time.Minute); len(seen) < n; time.Sleep(50 * time.Millisecond) {
		seen[r.metric("larboard_injector_authority_expiry_timestamp_seconds")] = true
		if time.Now().After(late) {
			m.t.Fatalf("%d authorities", len(seen))
		}
	}
}

// authority makes one.
func (m *mesh) authority(name string, life time.Duration) *pki.CA {
	return pki.NewWith(m.t, name, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(life) })
}

const secret = "/api/v1/namespaces/larboard-system/secrets/larboard-injector-ca"

// keep makes these the authorities, before any replica does.
func (m *mesh) keep(all []*pki.CA) {
	m.t.Helper()
	s := &corev1.Secret{Data: map[string][]byte{"authorities.pem": m.encode(all)}}
	s.Name = "larboard-injector-ca"
	if err := m.Call(http.MethodPost, path.Dir(secret), s, nil); err != nil {
		m.t.Fatal(err)
	}
}

// add has another replica make an authority: it writes it beside the others, and then changes
// the webhook configuration, which all follow.
func (m *mesh) add(a *pki.CA) {
	m.t.Helper()
	s := &corev1.Secret{}
	m.get(secret, s)
	s.Data["authorities.pem"] = append(s.Data["authorities.pem"], m.encode([]*pki.CA{a})...)
	if err := m.Call(http.MethodPut, secret, s, nil); err != nil {
		m.t.Fatal(err)
	}
	if err := m.Call(http.MethodPatch, configurations+"larboard-injector", fmt.Sprintf(`{"metadata":{"annotations":{"touched":%q}}}`, a.Cert.NotAfter), nil); err != nil {
		m.t.Fatal(err)
	}
}

func (m *mesh) encode(all []*pki.CA) (text []byte) {
	for _, a := range all {
		pair := tls.Certificate{Certificate: [][]byte{a.Cert.Raw}, PrivateKey: a.Key}
		text = append(text, pki.CertPEM(pair)...)
		text = append(text, pki.KeyPEM(m.t, pair)...)
	}
	return text
}

// issued waits until each replica has shown n certificates.
func (m *mesh) issued(replicas []*replica, n int) {
	m.t.Helper()
	for _, r := range replicas {
		m.until("certificates", func() error {
			if seen := strings.Count(r.log.String(), "certificate issued"); seen < n {
				return fmt.Errorf("%s has shown %d", r.name, seen)
			}
			return nil
		})
	}
}
