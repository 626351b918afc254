package probes

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serve runs a server for these checks until the test ends, and returns its URL.
func serve(t *testing.T, ready func() (bool, []string), checks ...Check) string {
	t.Helper()
	s, err := New(Options{Address: "127.0.0.1:0", Checks: checks, Ready: ready, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return "http://" + s.Addr().String()
}

func ask(t *testing.T, method, url string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, strings.TrimSpace(string(body))
}

func always() (bool, []string) { return true, nil }

func TestTheProxyItself(t *testing.T) {
	var ready atomic.Bool
	url := serve(t, func() (bool, []string) { return ready.Load(), []string{"no identity yet", "draining"} })
	for _, c := range []struct {
		method, path string
		ready        bool
		status       int
		text         string
	}{
		{"GET", "/live", false, 200, "alive"},
		{"GET", "/ready", false, 503, "no identity yet, draining"},
		{"GET", "/ready", true, 200, "ready"},
		{"HEAD", "/ready", true, 200, ""},
		{"GET", "/", true, 404, "nothing is checked at this path"},
		{"GET", "/ready/", true, 404, "nothing is checked at this path"},
		{"POST", "/ready", true, 405, "ask with GET"},
	} {
		ready.Store(c.ready)
		if status, text := ask(t, c.method, url+c.path); status != c.status || text != c.text {
			t.Errorf("%s %s, ready %v: %d %q, want %d %q", c.method, c.path, c.ready, status, text, c.status, c.text)
		}
	}
}

// portOf is the port of an address or a URL.
func portOf(t *testing.T, address string) (port int) {
	t.Helper()
	_, text, _ := net.SplitHostPort(address[strings.LastIndex(address, "/")+1:])
	if _, err := fmt.Sscan(text, &port); err != nil {
		t.Fatal(err)
	}
	return port
}

// closedPort is one on which nobody listens.
func closedPort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return portOf(t, l.Addr().String())
}

func workload(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/echo":
		fmt.Fprintf(w, "%s %s %q", r.Host, r.UserAgent(), r.Header["X-A"])
		if r.UserAgent() != "kube-probe/larboard" || r.Header.Get("X-A") != "b" || r.URL.RawQuery != "deep=1" {
			w.WriteHeader(http.StatusTeapot)
		}
	case "/host":
		if r.Host != "shop.example.com" {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	case "/own-host":
		if !strings.HasPrefix(r.Host, "127.0.0.1:") {
			w.WriteHeader(http.StatusMisdirectedRequest)
		}
	case "/away":
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusFound)
	case "/here":
		http.Redirect(w, r, "/broken", http.StatusFound)
	case "/round":
		http.Redirect(w, r, "/round", http.StatusFound)
	case "/broken":
		w.WriteHeader(http.StatusInternalServerError)
	case "/never":
		<-r.Context().Done()
	case "/long":
		_, _ = w.Write(make([]byte, 1<<20))
	}
}

func TestHTTPChecks(t *testing.T) {
	plain := httptest.NewServer(http.HandlerFunc(workload))
	t.Cleanup(plain.Close)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(workload))
	secure.EnableHTTP2 = true
	secure.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	port, tlsPort := portOf(t, plain.URL), portOf(t, secure.URL)
	type row struct {
		name   string
		http   HTTP
		status int
		text   string
	}
	rows := []row{
		{"good", HTTP{Port: port, Path: "/"}, 200, "status 200"},
		{"headers, agent and query", HTTP{Port: port, Path: "/echo?deep=1", Headers: map[string]string{"X-A": "b"}}, 200, "status 200"},
		{"host", HTTP{Port: port, Path: "/host", Host: "shop.example.com"}, 200, "status 200"},
		{"host among the headers", HTTP{Port: port, Path: "/host", Headers: map[string]string{"host": "shop.example.com"}}, 200, "status 200"},
		{"no host", HTTP{Port: port, Path: "/own-host"}, 200, "status 200"},
		{"a redirect to another host is good and not followed", HTTP{Port: port, Path: "/away"}, 200, "status 302"},
		{"a redirect on the same host is followed", HTTP{Port: port, Path: "/here"}, 503, "status 500, expected 200-399"},
		{"for ever", HTTP{Port: port, Path: "/round"}, 503, "10 redirects"},
		{"bad", HTTP{Port: port, Path: "/broken"}, 503, "status 500, expected 200-399"},
		{"a long answer", HTTP{Port: port, Path: "/long"}, 200, "status 200"},
		{"nobody there", HTTP{Port: closedPort(t), Path: "/"}, 503, "connection refused"},
		{"TLS, of an authority that nobody knows", HTTP{Port: tlsPort, Path: "/", Secure: true}, 200, "status 200"},
		{"TLS, bad", HTTP{Port: tlsPort, Path: "/broken", Secure: true}, 503, "status 500, expected 200-399"},
		{"plain to TLS", HTTP{Port: tlsPort, Path: "/"}, 503, "status 400, expected 200-399"},
	}
	var checks []Check
	for i := range rows {
		checks = append(checks, Check{Path: fmt.Sprintf("/probe/%d", i), HTTP: &rows[i].http, Timeout: time.Minute})
	}
	checks = append(checks, Check{Path: "/late", HTTP: &HTTP{Port: port, Path: "/never"}, Timeout: 20 * time.Millisecond})
	url := serve(t, always, checks...)
	for i, r := range rows {
		if status, text := ask(t, "GET", fmt.Sprintf("%s/probe/%d", url, i)); status != r.status || text != r.text {
			t.Errorf("%s: %d %q, want %d %q", r.name, status, text, r.status, r.text)
		}
	}
	if status, text := ask(t, "GET", url+"/late"); status != 503 || text != "no answer within 20ms" {
		t.Errorf("late: %d %q", status, text)
	}
}

func TestTCPAndGRPCChecks(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	states := health.NewServer()
	states.SetServingStatus("sick", healthpb.HealthCheckResponse_NOT_SERVING)
	healthpb.RegisterHealthServer(server, states)
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	port, closed := portOf(t, l.Addr().String()), closedPort(t)
	for name, c := range map[string]struct {
		check  Check
		status int
		text   string
	}{
		"tcp":                    {Check{TCP: &TCP{port}}, 200, "connected"},
		"tcp, nobody there":      {Check{TCP: &TCP{closed}}, 503, "connect: connection refused"},
		"grpc":                   {Check{GRPC: &GRPC{Port: port}}, 200, "status SERVING"},
		"grpc, not well":         {Check{GRPC: &GRPC{port, "sick"}}, 503, "status NOT_SERVING"},
		"grpc, unknown service":  {Check{GRPC: &GRPC{port, "who"}}, 503, `the server does not know the service "who"`},
		"grpc, nobody is there ": {Check{GRPC: &GRPC{Port: closed}}, 503, "connect: connection refused"},
	} {
		c.check.Path, c.check.Timeout = "/x", time.Minute
		if status, text := ask(t, "GET", serve(t, always, c.check)+"/x"); status != c.status || text != c.text {
			t.Errorf("%s: %d %q, want %d %q", name, status, text, c.status, c.text)
		}
	}
}

// A workload that listens on IPv6 only is found, too.
func TestIPv6Workload(t *testing.T) {
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Log("without IPv6 here there is no such workload")
		return
	}
	defer l.Close()
	if status, text := ask(t, "GET", serve(t, always, Check{Path: "/x", TCP: &TCP{portOf(t, l.Addr().String())}, Timeout: time.Minute})+"/x"); status != 200 {
		t.Errorf("%d %q", status, text)
	}
}

// Whoever holds many connections loses the oldest of them, and keeps nobody else from being answered.
func TestConnectionsAreBounded(t *testing.T) {
	address := strings.TrimPrefix(serve(t, always), "http://")
	dial := func(from net.IP) net.Conn {
		t.Helper()
		c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: from}}).Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		c.SetDeadline(time.Now().Add(time.Minute))
		return c
	}
	live := func(c net.Conn) error {
		if _, err := c.Write([]byte("GET /live HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			return err
		}
		answer, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err == nil && answer.StatusCode != http.StatusOK {
			err = errors.New(answer.Status)
		}
		return err
	}
	began := time.Now()
	kubelet := dial(net.IPv4(127, 0, 0, 2))
	var last net.Conn
	for range Connections + 5 {
		last = dial(net.IPv4(127, 0, 0, 1))
	}
	for name, c := range map[string]net.Conn{"the last one": last, "the only one of its host": kubelet} {
		if err := live(c); err != nil && time.Since(began) < headTimeout/2 { // later its own time is over
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWhoHasToGo(t *testing.T) {
	l := limited(nil, 3).(*limitedListener)
	var all []*limitedConn
	for i, host := range []string{"kubelet", "a", "b", "a", "b", "b"} {
		here, there := net.Pipe()
		defer there.Close()
		all = append(all, &limitedConn{Conn: here, of: l, host: host})
		want := map[int]int{3: 1, 4: 2, 5: 4}[i]
		switch last := l.add(all[i]); {
		case i < 3 && last != nil:
			t.Errorf("%d: %s has to go", i, last.host)
		case i >= 3 && last != all[want]:
			t.Errorf("%d: not %d has to go", i, want)
		case last != nil && i < 5:
			last.Close()
		}
	}
	if len(l.open) != 4 {
		t.Errorf("%d are open", len(l.open))
	}
}
