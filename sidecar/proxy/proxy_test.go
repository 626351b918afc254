package proxy

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// rig is a proxy with one listener in front of one service, on a real engine with
// two loops.
type rig struct {
	t       *testing.T
	engine  *engine.Engine
	proxy   *Proxy
	service *upstream.Service
	addr    string
	records recorder
}

type recorder struct {
	mu      sync.Mutex
	all     []observability.Record
	refused []policy.Reason
	cut     []policy.Reason
	abuse   []policy.Reason
	broken  []policy.Reason
	limited []string // listener and limit
	quota   []string
	repeats []string
	conns   atomic.Int64
}

func (r *recorder) Observe(rec *observability.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := *rec
	c.Method, c.Path = append([]byte(nil), rec.Method...), append([]byte(nil), rec.Path...)
	c.Tries = append([]observability.Try(nil), rec.Tries...)
	r.all = append(r.all, c)
}
func (r *recorder) Conn(_ int, _ string, delta int) { r.conns.Add(int64(delta)) }
func (r *recorder) Cut(_ int, _ string, reason policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = append(r.cut, reason)
}
func (r *recorder) HTTP2Abuse(_ int, _ string, reason policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abuse = append(r.abuse, reason)
}
func (r *recorder) UpstreamAbuse(_ int, _ string, reason policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, reason)
}
func (r *recorder) UpstreamConn(int, string, policy.Reason) {}
func (r *recorder) ForgetEndpoint(int, string, string)      {}
func (r *recorder) Limited(_ int, listener, limit string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.limited = append(r.limited, listener+" "+limit)
}
func (r *recorder) Quota(_ int, result string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.quota = append(r.quota, result)
}
func (r *recorder) Retry(_ int, _ string, c retry.Cause, result retry.Result) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.repeats = append(r.repeats, c.String()+" "+result.String())
}
func (r *recorder) Refused(_ int, _ string, reason policy.Reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refused = append(r.refused, reason)
}

// last waits until n records are there and returns the last.
func (r *recorder) last(t *testing.T, n int) observability.Record {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		r.mu.Lock()
		if len(r.all) >= n {
			defer r.mu.Unlock()
			return r.all[n-1]
		}
		r.mu.Unlock()
	}
	t.Fatalf("no %d records", n)
	panic("unreachable")
}

func settings() *upstream.Settings {
	return &upstream.Settings{Balance: "round_robin", Timeouts: upstream.Timeouts{
		Connect: time.Second, ResponseHead: 5 * time.Second, Body: 5 * time.Second, Idle: 30 * time.Second, Tunnel: 10 * time.Second,
	}, HTTP: http1.ClientOptions{Limits: http1.DefaultLimits()}, Retries: retries()}
}

// retries are the defaults of a configuration.
func retries() *retry.Policy {
	return &retry.Policy{Attempts: 3, On: retry.Of(retry.ConnectFailure, retry.RefusedStream, retry.Reset),
		Backoff: retry.Backoff{Base: 25 * time.Millisecond, Max: 250 * time.Millisecond},
		Budget:  retry.Limits{Percent: 20, Min: 3}, Replay: 64 << 10}
}

// kind is what the tests of this run are for: `make test-goroutines` sets it.
func kind(t *testing.T) engine.Kind {
	t.Helper()
	b, err := engine.ParseKind(os.Getenv("LARBOARD_ENGINE"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newRig(t *testing.T, protocol Protocol, change func(*ListenerConfig, *upstream.Settings), endpoints ...string) *rig {
	t.Helper()
	o := engine.Options{Loops: 2, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}
	return newRigOn(t, o, protocol, change, endpoints...)
}

// newRigOn is newRig on an engine with these options, whose log is the proxy's too.
func newRigOn(t *testing.T, o engine.Options, protocol Protocol, change func(*ListenerConfig, *upstream.Settings), endpoints ...string) *rig {
	t.Helper()
	o.Kind = kind(t)
	e, err := engine.New(o)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{t: t, engine: e}
	r.proxy = New(Options{Engine: e, Observers: []observability.Observer{&r.records}, Meter: &r.records, Log: o.Log})
	s := settings()
	r.service = upstream.NewService("api", s)
	r.endpoints(endpoints...)
	c := &ListenerConfig{
		Name: "web", Addresses: []string{"127.0.0.1:0"}, Protocol: protocol, Inbound: true,
		Timeouts: Timeouts{RequestHead: 5 * time.Second, KeepAlive: 30 * time.Second, Body: 5 * time.Second},
		HTTP:     http1.ServerOptions{Limits: http1.DefaultLimits()},
		Table:    route.Compile([]route.Rule{{}}),
		Routes:   []*Route{{Name: "default", Service: r.service, Steps: []Step{&Forwarded{Proto: "http"}}}},
		Service:  r.service,
	}
	if change != nil {
		change(c, s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	if err := r.proxy.Apply(&Snapshot{Listeners: []*ListenerConfig{c}, Services: []*upstream.Service{r.service}, Generation: 1}); err != nil {
		t.Fatal(err)
	}
	r.addr = r.proxy.Listeners()[0].Addresses()[0]
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && err != context.Canceled {
			t.Errorf("engine: %v", err)
		}
		if n := r.records.conns.Load(); n != 0 && !t.Failed() {
			t.Logf("connections cut at the end: %d", n)
		}
	})
	return r
}

func (r *rig) endpoints(addresses ...string) {
	var all []discovery.Endpoint
	for _, a := range addresses {
		all = append(all, discovery.Endpoint{ID: a, Address: a, Weight: 1, Source: "test"})
	}
	r.service.Update(discovery.Update{Service: "api", Endpoints: all})
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func origin(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func client(t *testing.T) *http.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr, Timeout: 10 * time.Second}
}

func get(t *testing.T, c *http.Client, url string) (int, string, http.Header) {
	t.Helper()
	resp, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestRequestIsForwardedAndRecorded(t *testing.T) {
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s xff=%s proto=%s host=%s id=%d", r.Method, r.URL, r.Header.Get("X-Forwarded-For"),
			r.Header.Get("X-Forwarded-Proto"), r.Header.Get("X-Forwarded-Host"), len(r.Header.Get("X-Request-Id")))
	})
	r := newRig(t, HTTP, nil, addr)
	c := client(t)
	for i := range 3 {
		code, body, _ := get(t, c, "http://"+r.addr+"/a?b=c")
		want := "GET /a?b=c xff=127.0.0.1 proto=http host=" + r.addr + " id=32"
		if code != 200 || body != want {
			t.Fatalf("request %d: %d %q, want %q", i, code, body, want)
		}
	}
	rec := r.records.last(t, 3)
	if rec.Status != 200 || rec.Service != "api" || rec.Endpoint != addr || rec.Attempts != 1 || string(rec.Path) != "/a?b=c" || rec.Reason != policy.None {
		t.Errorf("record: %+v", rec)
	}
}

func TestNoEndpointsIsSaidWithItsReason(t *testing.T) {
	r := newRig(t, HTTP, nil)
	code, body, h := get(t, client(t), "http://"+r.addr+"/")
	if code != 503 || h.Get("X-Larboard-Reason") != "no_endpoints" || !strings.Contains(body, "no endpoints") {
		t.Errorf("%d %q %v", code, body, h)
	}
}

func TestConnectFailureMovesToAnotherEndpoint(t *testing.T) {
	good := origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	r := newRig(t, HTTP, nil, closedPort(t), good, closedPort(t))
	c := client(t)
	for range 20 {
		if code, body, _ := get(t, c, "http://"+r.addr+"/"); code != 200 || body != "ok" {
			t.Fatalf("%d %q", code, body)
		}
	}
}

func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestBodiesInBothDirections(t *testing.T) {
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(500)
			return
		}
		w.Write(b)
	})
	r := newRig(t, HTTP, nil, addr)
	c := client(t)
	for _, size := range []int{0, 1, 100, 8 << 10, 64 << 10, 1 << 20, 5 << 20} {
		for _, chunked := range []bool{false, true} {
			sent := strings.Repeat("x", size)
			var body io.Reader = strings.NewReader(sent)
			if chunked {
				body = io.MultiReader(body)
			}
			resp, err := c.Post("http://"+r.addr+"/", "text/plain", body)
			if err != nil {
				t.Fatalf("size %d chunked %v: %v", size, chunked, err)
			}
			b, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || string(b) != sent {
				t.Fatalf("size %d chunked %v: got %d bytes, %v", size, chunked, len(b), err)
			}
		}
	}
}

func TestEarlyAnswerReachesAnUploadingClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				http.ReadRequest(bufio.NewReader(c))
				io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
				io.Copy(io.Discard, c)
			}()
		}
	}()
	r := newRig(t, HTTP, nil, l.Addr().String())
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nsome")
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != 413 || string(b) != "big" || !resp.Close {
		t.Errorf("%d %q close=%v", resp.StatusCode, b, resp.Close)
	}
}

func TestPooledConnectionThatDiesIsNotSeen(t *testing.T) {
	var served atomic.Int64
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // answers once, and hangs up on the second request
				defer c.Close()
				br := bufio.NewReader(c)
				if _, err := http.ReadRequest(br); err != nil {
					return
				}
				served.Add(1)
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				http.ReadRequest(br)
			}()
		}
	}()
	r := newRig(t, HTTP, nil, l.Addr().String())
	c := client(t)
	for i := range 10 {
		if code, body, h := get(t, c, "http://"+r.addr+"/"); code != 200 || body != "ok" {
			t.Fatalf("request %d: %d %q %v", i, code, body, h)
		}
	}
	if n := served.Load(); n != 10 {
		t.Errorf("served %d", n)
	}
	resp, err := c.Post("http://"+r.addr+"/", "text/plain", strings.NewReader("once"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 502 || resp.Header.Get("X-Larboard-Reason") == "" {
		t.Errorf("a POST that may have been processed: %d %v, want 502", resp.StatusCode, resp.Header)
	}
}

func TestTunnelHalfClose(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { // speaks first, reads to the end, then answers
				defer c.Close()
				io.WriteString(c, "hello ")
				b, _ := io.ReadAll(c)
				fmt.Fprintf(c, "got %d", len(b))
			}()
		}
	}()
	r := newRig(t, TCP, nil, l.Addr().String())
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(conn, strings.Repeat("y", 100000))
	conn.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(conn)
	if err != nil || string(b) != "hello got 100000" {
		t.Fatalf("%q %v", b, err)
	}
	rec := r.records.last(t, 1)
	if rec.Protocol != "tcp" || rec.BytesIn != 100000 || rec.BytesOut != 16 || rec.Reason != policy.None {
		t.Errorf("record %+v", rec)
	}
}

func TestUpgradeBecomesATunnel(t *testing.T) {
	addr := origin(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "echo" {
			w.WriteHeader(400)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nwelcome ")
		rw.Flush()
		io.Copy(c, rw)
	})
	r := newRig(t, HTTP, nil, addr)
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatalf("%v %v", resp, err)
	}
	io.WriteString(conn, "ping")
	conn.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(br)
	if err != nil || string(b) != "welcome ping" {
		t.Errorf("%q %v", b, err)
	}
}
