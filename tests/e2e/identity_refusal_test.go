package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/pki"
)

const meshDomain = "mesh.test"

// ask sends one request over a connection that is made and secured as config says
// (nil: not at all), and returns the status and the reason that the answer names.
func ask(address string, config *tls.Config) (status int, reason string, err error) {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return 0, "", err
	}
	if config != nil {
		conn = tls.Client(conn, config)
	}
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("X-Larboard-Reason"), err
}

// logged is nil when a line of the process log has all of the texts.
func (p *larboard) logged(texts ...string) error {
lines:
	for line := range strings.Lines(p.log()) {
		for _, text := range texts {
			if !strings.Contains(line, text) {
				continue lines
			}
		}
		return nil
	}
	return fmt.Errorf("no line with %q", texts)
}

// stranger is a caller that must not get in, and what is said of it.
type stranger struct {
	name, reason string
	config       *tls.Config // nil: plain text
	says         []string    // of the log line
}

func strangers(t testing.TB, mesh, other *authority) []stranger {
	web := svcID(meshDomain, "web")
	expired := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	}
	future := func(c *x509.Certificate) {
		c.NotBefore, c.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
	}
	ca := func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	old := meshClient(mesh.svid("web"))
	old.MinVersion, old.MaxVersion = 0, tls.VersionTLS12
	stolen := mesh.svid("web")
	stolen.PrivateKey = pki.NewKey(t)
	return []stranger{
		{"other trust domain", "tls_unknown_domain", meshClient(other.svid("web")), []string{svcID("other.test", "web"), "trusted here: mesh.test"}},
		{"another domain's authority with our name", "tls_bad_certificate", meshClient(other.Issue(nil, web)), []string{web, "does not verify"}},
		{"expired", "tls_expired", meshClient(mesh.Issue(expired, web)), []string{web, "expired at"}},
		{"not yet valid", "tls_expired", meshClient(mesh.Issue(future, web)), []string{web, "not valid before"}},
		{"no certificate", "tls_no_certificate", meshClient(), []string{"no certificate was presented"}},
		{"plain text", "tls_plain_text", nil, []string{"plain text"}},
		{"two names", "tls_several_ids", meshClient(mesh.Issue(nil, web, svcID(meshDomain, "api"))), []string{"holds 2 URI names"}},
		{"a name of another kind", "tls_no_id", meshClient(mesh.Issue(nil, "https://mesh.test/svc/web")), []string{"no SPIFFE ID"}},
		{"no name", "tls_no_id", meshClient(mesh.Issue(nil)), []string{"holds no URI name"}},
		{"the name of the domain alone", "tls_no_id", meshClient(mesh.Issue(nil, "spiffe://mesh.test")), []string{"not a workload"}},
		{"an authority's certificate", "tls_bad_certificate", meshClient(mesh.Issue(ca, web)), []string{web, "certificate of an authority"}},
		{"for servers only", "tls_bad_certificate", meshClient(mesh.Issue(serverOnly, web)), []string{web, "does not verify"}},
		{"somebody else's certificate", "tls_handshake", meshClient(stolen), []string{"signature"}},
		{"TLS 1.2", "tls_handshake", old, []string{"version"}},
	}
}

func TestStrangersAreRefusedAndNamed(t *testing.T) {
	mesh, other := newAuthority(t, meshDomain), newAuthority(t, "other.test")
	var asked atomic.Int32
	workload := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("User-Agent") != "larboard-load" {
			asked.Add(1)
		}
		_, _ = io.WriteString(w, "ok")
	}))
	// A listener for each case: lines alike are written once in a while only.
	const inbound = "- {name: %s, address: 127.0.0.1:0, service: api, tls: {spiffe: {}}, allow: [%q]}\n"
	cases, web := strangers(t, mesh, other), svcID(meshDomain, "web")
	var listeners strings.Builder
	fmt.Fprintf(&listeners, "listeners:\n"+inbound, "friends", web)
	for i := range cases {
		fmt.Fprintf(&listeners, inbound, fmt.Sprint("case", i), web)
	}
	p := start(t, "api", newSVIDFiles(t, mesh.svid("api"), mesh).identity()+listeners.String()+
		"services: [{name: api, endpoints: ["+workload+"]}]\n")
	address := p.address("friends")
	friends := send(t, load.Options{Addr: address, TLS: meshClient(mesh.svid("web")), Conns: 4, Rate: 100, WantBody: []byte("ok")})
	friends.await(10)

	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			listener := fmt.Sprint("case", i)
			if status, _, err := ask(p.address(listener), c.config); err == nil {
				t.Errorf("answered with %d", status)
			}
			eventually(t, patience, "refusal in metrics and log", func() error {
				refused := p.scrape().sum("larboard_refused_total", `listener="`+listener+`"`, `reason="`+c.reason+`"`)
				if refused != 1 {
					return fmt.Errorf("%v refused with %s\n%s", refused, c.reason, tail(p.log(), 1))
				}
				return p.logged(append(c.says, "connection refused", "listener="+listener+" ", "reason="+c.reason+" ")...)
			})
		})
	}
	t.Run("other service", func(t *testing.T) {
		status, reason, err := ask(address, meshClient(mesh.svid("billing")))
		if status != 403 || reason != "not_allowed" {
			t.Errorf("got %d %q %v, want 403 not_allowed", status, reason, err)
		}
		eventually(t, patience, "refusal in metrics and log", func() error {
			if n := p.scrape().sum("larboard_requests_total", `listener="friends"`, `reason="not_allowed"`); n != 1 {
				return fmt.Errorf("%v requests with not_allowed", n)
			}
			return p.logged("request refused", "listener=friends ", "reason=not_allowed ", svcID(meshDomain, "billing"))
		})
	})
	friends.endClean()
	if n := asked.Load(); n != 0 {
		t.Errorf("the workload saw %d requests of strangers", n)
	}
}

// meshServer is a server of a test that stands for an endpoint's sidecar; nil: it
// speaks plain text.
func meshServer(t testing.TB, config *tls.Config, h http.Handler) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	if config != nil {
		s.Listener = tls.NewListener(s.Listener, config)
	}
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// serverConfig is that of a mesh server of a test, which takes any caller.
func serverConfig(own tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAnyClientCert, MinVersion: tls.VersionTLS13}
}

func TestEndpointThatIsSomebodyElse(t *testing.T) {
	mesh, other := newAuthority(t, meshDomain), newAuthority(t, "other.test")
	api := svcID(meshDomain, "api")
	good := meshServer(t, serverConfig(mesh.svid("api")), named("good"))
	for i, c := range []struct {
		name, reason string
		config       *tls.Config
		says         string
	}{
		{"another service", "upstream_tls_identity", serverConfig(mesh.svid("billing")), svcID(meshDomain, "billing")},
		{"another trust domain", "upstream_tls_identity", serverConfig(other.svid("api")), svcID("other.test", "api")},
		{"another authority", "upstream_tls_identity", serverConfig(other.Issue(nil, api)), "does not verify"},
		{"expired", "upstream_tls_identity", serverConfig(mesh.Issue(func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
		}, api)), "expired at"},
		{"two names", "upstream_tls_identity", serverConfig(mesh.Issue(nil, api, svcID(meshDomain, "web"))), "2 URI names"},
		{"plain text", "upstream_tls", nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int32
			bad := meshServer(t, c.config, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { asked.Add(1) }))
			p := start(t, fmt.Sprint("web", i), newSVIDFiles(t, mesh.svid("web"), mesh).identity()+fmt.Sprintf(
				"upstreams:\n- {service: api, bind: 127.0.0.1:0, endpoints: [%q, %q]}\n- {service: bad, bind: 127.0.0.1:0, ids: [%q], endpoints: [%q]}\n",
				bad, good, api, bad))
			status, reason, err := ask(p.address("bad"), nil)
			if status != 503 || reason != c.reason {
				t.Errorf("alone: got %d %q %v, want 503 %s", status, reason, err, c.reason)
			}
			for range 6 {
				if status, body, _ := get(t, "http://"+p.address("api")+"/"); status != 200 || body != "good" {
					t.Errorf("beside a good one: got %d %q", status, body)
				}
			}
			eventually(t, patience, "refusal in metrics and log", func() error {
				all := p.scrape()
				if n := all.sum("larboard_requests_total", `service="bad"`, `reason="`+c.reason+`"`); n != 1 {
					return fmt.Errorf("%v requests with %s", n, c.reason)
				}
				if n := all.sum("larboard_upstream_connections_total", `service="api"`, `outcome="`+c.reason+`"`); n < 1 {
					return fmt.Errorf("%v connections of api with %s", n, c.reason)
				}
				return p.logged("endpoint refused", "endpoint="+bad+" ", "reason="+c.reason+" ", c.says)
			})
			if n := asked.Load(); n != 0 {
				t.Errorf("the wrong endpoint saw %d requests", n)
			}
		})
	}
}
