package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// once runs one check against a real server.
func once(address string, spec Spec, config *tls.Config) (string, bool) {
	spec = spec.withDefaults()
	a := attempt{dial: new(net.Dialer).DialContext, address: address, spec: &spec, tls: config}
	ctx, cancel := context.WithTimeout(context.Background(), spec.Timeout)
	defer cancel()
	return a.run(ctx)
}

func handler(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/":
		fmt.Fprintf(w, "%s %s %s", r.Method, r.Host, r.UserAgent())
	case "/down":
		w.WriteHeader(http.StatusServiceUnavailable)
	case "/moved":
		http.Redirect(w, r, "/down", http.StatusFound)
	case "/host":
		if r.Host != "api.test" || r.Method != "OPTIONS" || !r.Close {
			w.WriteHeader(http.StatusBadRequest)
		}
	case "/endless":
		for {
			if _, err := w.Write(make([]byte, 8<<10)); err != nil {
				return
			}
		}
	case "/silent":
		<-r.Context().Done()
	}
}

func TestHTTPVerdicts(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(handler))
	defer server.Close()
	address := server.Listener.Addr().String()
	for _, c := range []struct {
		name   string
		spec   Spec
		result string
		ok     bool
	}{
		{"defaults", Spec{}, "status 200", true},
		{"bad status", Spec{Path: "/down"}, "status 503, expected 200-399", false},
		{"expected all the same", Spec{Path: "/down", Expect: []StatusRange{{200, 299}, {503, 503}}}, "status 503", true},
		{"redirect is not followed", Spec{Path: "/moved", Expect: []StatusRange{{200, 299}, {304, 304}}}, "status 302, expected 200-299, 304", false},
		{"method and host", Spec{Path: "/host?x=1", Host: "api.test", Method: "OPTIONS"}, "status 200", true},
		{"body is bounded", Spec{Path: "/endless"}, "status 200", true},
		{"silence", Spec{Path: "/silent", Interval: 50 * time.Millisecond}, "answer: no answer within 50ms", false},
		{"impossible path", Spec{Path: "/\x00"}, "request: ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.spec.Kind = HTTP
			result, ok := once(address, c.spec, nil)
			if ok != c.ok || !strings.HasPrefix(result, c.result) {
				t.Errorf("got %q, %v", result, ok)
			}
		})
	}
}

// serve runs f on each connection of a real listener.
func serve(t *testing.T, network, address string, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f(conn)
			conn.Close()
		}
	}()
	return l.Addr().String()
}

func TestBrokenAnswers(t *testing.T) {
	for _, c := range []struct{ name, answer, result string }{
		{"none", "", "answer: connection closed by the endpoint"},
		{"cut", "HTTP/1.1 200 OK\r\nX: y", "answer: connection closed by the endpoint"},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n", "answer: malformed HTTP"},
		{"head without end", "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("y", mostRead), "answer: connection closed by the endpoint"},
	} {
		t.Run(c.name, func(t *testing.T) {
			address := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) {
				http.ReadRequest(bufio.NewReader(conn))
				io.WriteString(conn, c.answer)
			})
			result, ok := once(address, Spec{Kind: HTTP}, nil)
			if ok || !strings.HasPrefix(result, c.result) {
				t.Errorf("got %q, %v", result, ok)
			}
		})
	}
}

// What a connection begins with goes before everything else, TLS too.
func TestConnectionsBeginWithFirst(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	const first = "PROXY UNKNOWN\r\n"
	got := make(chan string, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		b := make([]byte, len(first)+1)
		io.ReadFull(conn, b)
		got <- string(b)
	}()
	once(l.Addr().String(), Spec{First: first}, &tls.Config{ServerName: "x"})
	if text := <-got; text != first+"\x16" { // a record of a handshake
		t.Errorf("got %q", text)
	}
}

func TestTCPVerdicts(t *testing.T) {
	open := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {})
	if result, ok := once(open, Spec{}, nil); !ok || result != "connected" {
		t.Errorf("open port: %q, %v", result, ok)
	}
	socket := serve(t, "unix", filepath.Join(t.TempDir(), "s"), func(net.Conn) {})
	if result, ok := once("unix://"+socket, Spec{}, nil); !ok {
		t.Errorf("unix socket: %q", result)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := l.Addr().String()
	l.Close()
	if result, ok := once(closed, Spec{}, nil); ok || result != "connect: connection refused" {
		t.Errorf("closed port: %q, %v", result, ok)
	}
}

func TestTLSVerdicts(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(handler))
	server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer server.Close()
	address := server.Listener.Addr().String()
	trusted := x509.NewCertPool()
	trusted.AddCert(server.Certificate())
	plain := serve(t, "tcp", "127.0.0.1:0", func(conn net.Conn) { io.WriteString(conn, "220 hello\r\n") })
	for _, c := range []struct {
		name, address string
		kind          Kind
		config        *tls.Config
		result        string
		ok            bool
	}{
		{"http", address, HTTP, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "status 200", true},
		{"handshake only", address, TCP, &tls.Config{RootCAs: trusted, ServerName: "example.com"}, "connected", true},
		{"stranger", address, TCP, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "example.com"}, "tls: ", false},
		{"plain endpoint", plain, TCP, &tls.Config{ServerName: "example.com"}, "tls: ", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			result, ok := once(c.address, Spec{Kind: c.kind}, c.config)
			if ok != c.ok || !strings.HasPrefix(result, c.result) {
				t.Errorf("got %q, %v", result, ok)
			}
		})
	}
}

// A checker on real sockets leaves no goroutine behind.
func TestRunLeavesNothingBehind(t *testing.T) {
	address := serve(t, "tcp", "127.0.0.1:0", func(net.Conn) {})
	calls := grpcServer(t, "tcp", "127.0.0.1:0", true)
	before := runtime.NumGoroutine()
	changed := make(chan Change, 10)
	c := New(Options{Report: func(c Change) { changed <- c }, Log: slog.New(slog.DiscardHandler)})
	c.Apply([]Target{
		{Key: "bad", Address: address, Spec: Spec{Kind: HTTP, Interval: 20 * time.Millisecond}},
		{Key: "good", Address: address, Spec: Spec{Interval: 5 * time.Millisecond}},
		{Key: "call", Address: calls, Spec: Spec{Kind: GRPC, Interval: 5 * time.Millisecond}},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- c.Run(ctx) }()
	if got := <-changed; got.Up || got.Key != "bad" {
		t.Errorf("change %+v", got)
	}
	cancel()
	<-done
	// Finished goroutines take a moment to be gone, those of the server too.
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if runtime.NumGoroutine() <= before {
			return
		}
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), before)
}
