package e2e

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// greeter is a server that greets each client and then sends every line back. greeted counts
// the connections.
func greeter(t testing.TB) (address string, greeted *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	greeted = new(atomic.Int64)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			greeted.Add(1)
			go func() {
				defer c.Close()
				if _, err := io.WriteString(c, "220 hello\n"); err == nil {
					_, _ = io.Copy(c, c)
				}
			}()
		}
	}()
	return l.Addr().String(), greeted
}

// greeting connects and returns how long the greeting took.
func greeting(address string) (time.Duration, error) {
	began := time.Now()
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if err := c.SetDeadline(began.Add(patience)); err != nil {
		return 0, err
	}
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil || line != "220 hello\n" {
		return 0, fmt.Errorf("greeted with %q: %w", line, err)
	}
	took := time.Since(began)
	if _, err := io.WriteString(c, "EHLO a.example\n"); err != nil {
		return 0, err
	}
	if line, err := r.ReadString('\n'); err != nil || line != "EHLO a.example\n" {
		return 0, fmt.Errorf("answered with %q: %w", line, err)
	}
	return took, nil
}

// mustBeQuick wants a time below a bound. A machine with other work delays it now and
// then, a wait of the proxy's always.
func mustBeQuick(t testing.TB, what string, bound time.Duration, measure func() time.Duration) {
	t.Helper()
	for range 20 {
		took := measure()
		t.Logf("%s takes %v", what, took)
		if took < bound {
			return
		}
	}
	t.Errorf("%s takes %v and more", what, bound)
}

// medianGreeting is that of many, one after the other.
func medianGreeting(t testing.TB, address string) time.Duration {
	t.Helper()
	var all []time.Duration
	for range 31 {
		d, err := greeting(address)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	slices.Sort(all)
	t.Logf("greetings after %v in the median, %v at most", all[len(all)/2], all[len(all)-1])
	return all[len(all)/2]
}

const autoListeners = `
access_log: stdout
listeners:
- {name: any, address: 127.0.0.1:0, protocol: auto, routes: [{match: {path_prefix: /web}, service: web}], service: db}
- {name: at_once, address: 127.0.0.1:0, protocol: auto, detect: {within: 0s}, service: db}
- {name: patient, address: 127.0.0.1:0, protocol: auto, detect: {server_first: false}, timeouts: {request_head: 300ms}, service: db}
- {name: all, address: 127.0.0.1:0, protocol: auto, service: web}
- {name: tls, address: 127.0.0.1:0, protocol: auto, routes: [{service: web}], service: secure}
- {name: dead, address: 127.0.0.1:0, protocol: auto, routes: [{service: web}], service: dead}
- {name: full, address: 127.0.0.1:0, protocol: auto, max_connections: 1, service: db}
services:
- {name: web, endpoints: [%s]}
- {name: db, endpoints: [%s]}
- {name: secure, endpoints: [%s]}
- {name: dead, endpoints: [%s]}
`

// autoRig is a proxy whose listeners find out what is spoken.
type autoRig struct {
	*larboard
	greeted *atomic.Int64
	secure  *httptest.Server
	early   *atomic.Int64 // connections to secure
}

func newAutoRig(t testing.TB) autoRig {
	t.Helper()
	db, greeted := greeter(t)
	secure, early := httptest.NewUnstartedServer(named("secure")), new(atomic.Int64)
	secure.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		switch s {
		case http.StateNew:
			early.Add(1)
		case http.StateClosed:
			early.Add(-1)
		}
	}
	secure.StartTLS()
	t.Cleanup(secure.Close)
	p := start(t, "auto", fmt.Sprintf(autoListeners, origin(t, named("web")), db, secure.Listener.Addr(), freeAddress(t)))
	return autoRig{p, greeted, secure, early}
}

// speak writes pieces with pauses between them and returns the first line that comes back.
func speak(t testing.TB, address string, pieces ...string) string {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	for i, p := range pieces {
		if i > 0 {
			time.Sleep(2 * time.Millisecond) // so that they come one by one
		}
		if _, err := io.WriteString(c, p); err != nil {
			t.Fatal(err)
		}
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(line)
}

func TestAutoTellsProtocolsApart(t *testing.T) {
	p := newAutoRig(t)
	const ok, request = "HTTP/1.1 200 OK", "GET /web HTTP/1.1\r\nHost: a\r\n\r\n"
	for _, tc := range []struct {
		name, listener string
		pieces         []string
		want           string
	}{
		{"a request", "any", []string{request}, ok},
		{"a request in pieces", "any", []string{"G", "ET /w", "eb HTTP/1.", "1\r\nHost: a\r\n\r\n"}, ok},
		{"a request that no route takes", "any", []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n"}, "HTTP/1.1 404 Not Found"},
		{"a request where nobody greets", "patient", []string{request}, "HTTP/1.1 502 Bad Gateway"},
		{"a request without routes", "all", []string{request}, ok},
		{"a request, the other service dead", "dead", []string{request}, ok},
		{"opaque bytes", "patient", []string{"*1\r\n$4\r\nPING\r\n"}, "220 hello"},
		{"opaque bytes that look like a request", "patient", []string{"GE", "T /key\r\n"}, "220 hello"},
		{"what never becomes a request", "patient", []string{"HELP"}, "220 hello"},
		{"silence", "any", nil, "220 hello"},
		{"silence, at once", "at_once", nil, "220 hello"},
		{"silence where nobody greets", "patient", nil, "EOF"},
		{"silence, the service dead", "dead", nil, "EOF"},
		{"opaque bytes, the service dead", "dead", []string{"\x00"}, "EOF"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := speak(t, p.address(tc.listener), tc.pieces...); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		client := p.secure.Client()
		resp, err := client.Get("https://" + p.address("tls") + "/")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); string(b) != "secure" {
			t.Errorf("%q, %v", b, err)
		}
		client.CloseIdleConnections()
	})
	eventually(t, patience, "the access log says what was found", func() error {
		for _, want := range []string{`detected="server_first"`, `detected="opaque"`, `detected="tls"`} {
			if !strings.Contains(p.stdout.String(), want) {
				return fmt.Errorf("no %s in\n%s", want, p.stdout.String())
			}
		}
		return nil
	})
}

// A client that speaks HTTP at once costs no connection to the other service, and one that
// hesitates is served all the same.
func TestAutoWastesNoConnections(t *testing.T) {
	p := newAutoRig(t)
	address := p.address("any")
	for range 50 {
		if status, body, _ := get(t, "http://"+address+"/web"); status != 200 || body != "web" {
			t.Fatalf("%d %q", status, body)
		}
	}
	if n := p.greeted.Load(); n != 0 {
		t.Errorf("%d connections to the other service", n)
	}
	c := dialCaller(t, p.address("dead"))
	late := dialCaller(t, p.address("tls")) // whose service is silent
	time.Sleep(100 * time.Millisecond)      // past detect.within
	if status, _, _, err := c.ask("/web"); status != 200 || err != nil {
		t.Errorf("after a pause: %d, %v", status, err)
	}
	if status, _, _, err := c.ask("/web"); status != 200 || err != nil {
		t.Errorf("another request on the same connection: %d, %v", status, err)
	}
	if status, _, _, err := late.ask("/"); status != 200 || err != nil {
		t.Errorf("after a pause, connected to the other service: %d, %v", status, err)
	}
	eventually(t, patience, "the connection to the other service is closed", func() error {
		if n := p.early.Load(); n != 0 {
			return fmt.Errorf("%d are open", n)
		}
		return nil
	})
}

func TestAutoGreetingIsNotHeldUp(t *testing.T) {
	p := newAutoRig(t)
	mustBeQuick(t, "a greeting", 50*time.Millisecond, func() time.Duration { return medianGreeting(t, p.address("any")) })
	mustBeQuick(t, "a greeting without a wait", 20*time.Millisecond, func() time.Duration { return medianGreeting(t, p.address("at_once")) })
}

// Over the limit, those who ask by HTTP are told so; others are closed.
func TestAutoOverItsLimit(t *testing.T) {
	p := newAutoRig(t)
	c, err := net.Dial("tcp", p.address("full"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := bufio.NewReader(c).ReadString('\n'); err != nil {
		t.Fatalf("the only place is not taken: %v", err) // whoever is greeted has it
	}
	if got := speak(t, p.address("full"), "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); got != "HTTP/1.1 503 Service Unavailable" {
		t.Errorf("a request over the limit: %q", got)
	}
	if got := speak(t, p.address("full"), "\x00\x01"); got != "EOF" && !strings.Contains(got, "reset") {
		t.Errorf("opaque bytes over the limit: %q", got)
	}
}

// Both sides of a mesh find out for themselves, over mutual TLS.
func TestAutoThroughTheMesh(t *testing.T) {
	state := filepath.Join(shortDir(t), "authority")
	identity := func(service string) string {
		return fmt.Sprintf("access_log: stdout\nidentity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	db, _ := greeter(t)
	web := origin(t, named("web"))
	hop := func(name, workload string) string {
		called := start(t, "called "+name, identity(name)+fmt.Sprintf("workload: {service: %s, address: %q, listen: 127.0.0.1:0, protocol: auto}\n", name, workload))
		caller := start(t, "caller "+name, identity("caller")+fmt.Sprintf(
			"upstreams: [{service: %s, bind: 127.0.0.1:0, protocol: auto, endpoints: [%q]}]\n", name, called.address("inbound")))
		return caller.address(name)
	}
	database, site := hop("db", db), hop("web", web)
	medianGreeting(t, database)
	if got := speak(t, site, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"); got != "HTTP/1.1 200 OK" {
		t.Errorf("a request: %q", got)
	}
	redis := hop("cache", real.Redis(t))
	if got := speak(t, redis, "*1\r\n$4\r\nPING\r\n"); got != "+PONG" {
		t.Errorf("redis: %q", got)
	}
}

// Live tunnels that were found out outlast reloads, and new ones are found out under the
// new configuration.
func TestAutoReloads(t *testing.T) {
	db, _ := greeter(t)
	conf := func(detect string) string {
		return fmt.Sprintf("listeners: [{name: any, address: 127.0.0.1:0, protocol: auto, detect: {%s}, timeouts: {request_head: 300ms}, service: db}]\nservices: [{name: db, endpoints: [%s]}]\n", detect, db)
	}
	p := start(t, "auto", conf(""))
	address := p.address("any")
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(c)
	if line, err := r.ReadString('\n'); err != nil {
		t.Fatal(line, err)
	}
	p.configure(conf("server_first: false"))
	if status, body := p.reload(); status != 200 {
		t.Fatal(status, body)
	}
	if _, err := io.WriteString(c, "still here\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := r.ReadString('\n'); line != "still here\n" {
		t.Errorf("after the reload: %q, %v", line, err)
	}
	if got := speak(t, address); got != "EOF" {
		t.Errorf("a silent client, nobody greeting any more: %q", got)
	}
}

func TestAutoWithRealServers(t *testing.T) {
	redis, mariadb := real.Redis(t), real.MariaDB(t)
	p := start(t, "auto", fmt.Sprintf(`
listeners:
- {name: redis, address: 127.0.0.1:0, protocol: auto, service: redis}
- {name: mariadb, address: 127.0.0.1:0, protocol: auto, service: mariadb}
services:
- {name: redis, endpoints: [%s]}
- {name: mariadb, endpoints: [%s]}
`, redis, mariadb))
	port := func(listener string) (host, port string) {
		host, port, _ = net.SplitHostPort(p.address(listener))
		return host, port
	}
	h, n := port("redis")
	if r := real.Run(t, patience, "redis-cli", "-h", h, "-p", n, "echo", "across"); strings.TrimSpace(r.Stdout) != "across" {
		t.Errorf("redis-cli: %+v", r)
	}
	h, n = port("mariadb")
	r := real.Run(t, patience, "mariadb", "--no-defaults", "-h", h, "-P", n, "--protocol=tcp", "--skip-ssl", "-N", "-e", "select 6*7")
	if strings.TrimSpace(r.Stdout) != "42" {
		t.Errorf("mariadb: %+v", r)
	}
	mustBeQuick(t, "MariaDB's greeting", 50*time.Millisecond, func() time.Duration {
		var all []time.Duration
		for range 31 {
			began := time.Now()
			c, err := net.Dial("tcp", p.address("mariadb"))
			if err != nil {
				t.Fatal(err)
			}
			c.SetDeadline(began.Add(patience))
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			all = append(all, time.Since(began))
			c.Close()
		}
		slices.Sort(all)
		return all[len(all)/2]
	})
}

// A listener with TLS of its own looks inside it; a protocol agreed on by ALPN is believed.
func TestAutoInsideTLS(t *testing.T) {
	db, _ := greeter(t)
	authority := pki.New(t, "site")
	certificate, key := pki.Write(t, filepath.Join(shortDir(t), "site"), authority.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"site.test"} }))
	p := start(t, "auto", fmt.Sprintf(`
listeners:
- name: tls
  address: 127.0.0.1:0
  protocol: auto
  tls: {certificates: [{cert: %q, key: %q}]}
  routes: [{service: web}]
  service: db
services:
- {name: web, endpoints: [%s]}
- {name: db, endpoints: [%s]}
`, certificate, key, origin(t, named("web")), db))
	for _, tc := range []struct {
		name, send string
		protocols  []string
		want       string
	}{
		{"silence", "", nil, "220 hello"},
		{"opaque bytes", "\x00\n", nil, "220 hello"},
		{"a request", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", nil, "HTTP/1.1 200 OK"},
		{"a request, agreed on", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", []string{"http/1.1"}, "HTTP/1.1 200 OK"},
		{"a protocol of its own", "", []string{"mysql"}, "220 hello"},
		{"none after all", "GET /\r\n\r\n", []string{"http/1.1"}, "HTTP/1.1 400 Bad Request"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := tls.Dial("tcp", p.address("tls"), &tls.Config{RootCAs: pki.Pool(authority.Cert), ServerName: "site.test", NextProtos: tc.protocols})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			if _, err := io.WriteString(c, tc.send); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(c).ReadString('\n')
			if strings.TrimSpace(line) != tc.want {
				t.Errorf("%q, %v", line, err)
			}
		})
	}
}
