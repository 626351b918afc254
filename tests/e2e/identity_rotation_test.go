package e2e

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
)

// svidTTL is the life of the certificates of these tests.
const svidTTL = 10 * time.Second

// workloadSource is go-spiffe's own client of a Workload API.
func workloadSource(t testing.TB, socket string) *workloadapi.X509Source {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	s, err := workloadapi.NewX509Source(ctx, workloadapi.WithClientOptions(workloadapi.WithAddr("unix://"+socket)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// certificate is what a source has at the moment.
func certificate(t testing.TB, s *workloadapi.X509Source) func() tls.Certificate {
	return func() tls.Certificate {
		svid, err := s.GetX509SVID()
		if err != nil {
			t.Errorf("workload api: %v", err)
			return tls.Certificate{}
		}
		c := tls.Certificate{PrivateKey: svid.PrivateKey, Leaf: svid.Certificates[0]}
		for _, one := range svid.Certificates {
			c.Certificate = append(c.Certificate, one.Raw)
		}
		return c
	}
}

// TestCertificatesOfTenSecondsUnderLoad: web's sidecar calls api's, whose instances
// are a sidecar and a server of the test; a caller of the test holds connections to
// api's sidecar. All certificates are of one development authority and last ten
// seconds.
func TestCertificatesOfTenSecondsUnderLoad(t *testing.T) {
	t.Parallel()
	dir := shortDir(t)
	state := filepath.Join(dir, "authority")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: pair.test, ttl: %v, state: %q, socket: %q, id: %q}}\n",
			svidTTL, state, filepath.Join(dir, service+".sock"), svcID("pair.test", service))
	}
	called := start(t, "api", identity("api")+fmt.Sprintf(
		"workload: {service: api, address: %q, listen: 127.0.0.1:0, allow: [%q]}\n", startWorkload(t, "api").address, svcID("pair.test", "web")))
	var served, held lifelines
	endpoint := served.endpoint(t, certificate(t, workloadSource(t, filepath.Join(dir, "api.sock"))))
	caller := start(t, "web", identity("web")+fmt.Sprintf(
		"upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q, %q]}]\n", called.address("inbound"), endpoint))

	stop := make(chan struct{})
	var holders sync.WaitGroup
	own := certificate(t, workloadSource(t, filepath.Join(dir, "web.sock")))
	for _, pause := range []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 0, 0} {
		holders.Go(func() { held.caller(called.address("inbound"), own, pause, stop) })
	}
	holders.Go(func() { watchAges(t, called.address("inbound"), stop) })
	gets := send(t, load.Options{Addr: caller.address("api")})
	posts := send(t, load.Options{Addr: caller.address("api"), Method: "POST", Body: []byte("not to be repeated"), Rate: 100})
	gets.pass(either(22*time.Second, 2*time.Minute))
	if r := gets.endClean(); r.Dials != 8 {
		t.Errorf("%d connections of a plain client, want the 8 of the start", r.Dials)
	}
	posts.endClean()
	close(stop)
	holders.Wait()
	held.check(t, "connections of the test to the sidecar")
	served.check(t, "connections of the sidecar to the test")
	for _, p := range []*larboard{called, caller} {
		if n := p.scrape().sum("larboard_refused_total"); n != 0 {
			t.Errorf("%s refused %v connections", p.name, n)
		}
	}
}

// watchAges fails the test if the kernel shows a connection to a sidecar that is
// older than any certificate can be.
func watchAges(t testing.TB, address string, stop <-chan struct{}) {
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Error(err)
		return
	}
	since, oldest, seen := map[string]time.Time{}, time.Duration(0), 0
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			t.Logf("the kernel showed %d connections to the sidecar, the oldest of %v", seen, oldest.Round(time.Millisecond))
			return
		case <-tick.C:
		}
		now, err := established(port)
		if err != nil {
			t.Error(err)
			return
		}
		at := time.Now()
		for conn := range now {
			if since[conn].IsZero() {
				since[conn] = at
				seen++
			}
			oldest = max(oldest, at.Sub(since[conn]))
			if at.Sub(since[conn]) > svidTTL+time.Second { // the end of a certificate is a whole second
				t.Errorf("connection %s is %v old", conn, at.Sub(since[conn]))
				return
			}
		}
		for conn := range since {
			if !now[conn] {
				delete(since, conn)
			}
		}
	}
}
