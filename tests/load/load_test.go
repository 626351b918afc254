package load

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestHTTPCountsEveryOutcome(t *testing.T) {
	cases := []struct {
		name    string
		handler http.HandlerFunc
		change  func(*Options)
		failed  string // class; "" means none
	}{
		{name: "ok", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }},
		{name: "chunked", handler: func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "hel")
			w.(http.Flusher).Flush()
			io.WriteString(w, "lo")
		}},
		{name: "status", failed: "status 503", handler: func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) }},
		{name: "body", failed: "body", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "other") }},
		{name: "truncated", failed: "truncated", handler: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "50")
			io.WriteString(w, "hello")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}},
		{name: "reset", failed: "reset", handler: func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }},
		{name: "check", failed: "check",
			handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") },
			change: func(o *Options) {
				o.Check = func(*http.Response, []byte) error { return errors.New("not liked") }
			}},
		{name: "timeout", failed: "timeout",
			handler: func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
			change:  func(o *Options) { o.Timeout, o.Requests = 20*time.Millisecond, 2 }},
		{name: "post", handler: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		}, change: func(o *Options) { o.Method, o.Body = "POST", []byte("hello") }},
		{name: "new connection", handler: func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") },
			change: func(o *Options) { o.NewConn = true }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			server.Config.ErrorLog = nil
			defer server.Close()
			o := Options{Addr: server.Listener.Addr().String(), Conns: 2, Requests: 20, WantBody: []byte("hello")}
			if c.change != nil {
				c.change(&o)
			}
			got := HTTP(context.Background(), o)
			want := 0
			if c.failed != "" {
				want = o.Requests
			}
			if got.Requests != o.Requests || got.Failures() != want || got.Failed[c.failed] != want {
				t.Fatalf("want %d requests, %d failed as %q; got %v %v", o.Requests, want, c.failed, got, got.Examples)
			}
			if o.NewConn && got.Dials != o.Requests {
				t.Errorf("%d dials for %d requests", got.Dials, o.Requests)
			}
		})
	}
}

func TestHTTPOverTLS(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))
	defer server.Close()
	config := server.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	config.ServerName = "example.com"
	got := HTTP(context.Background(), Options{Addr: server.Listener.Addr().String(), TLS: config, Conns: 2, Requests: 50})
	if got.Requests != 50 || got.Failures() != 0 || got.Dials != 2 {
		t.Fatalf("got %v %v", got, got.Examples)
	}
}

func TestHTTPHonoursConnectionClose(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "close")
		io.WriteString(w, "hello")
	}))
	defer server.Close()
	got := HTTP(context.Background(), Options{Addr: server.Listener.Addr().String(), Conns: 1, Requests: 10})
	if got.Failures() != 0 || got.Closes != 10 || got.Dials != 10 || got.Retried != 0 {
		t.Fatalf("got %v, closes %d", got, got.Closes)
	}
}

// script answers each connection with the given number of requests and then
// closes it, after reading one request more when swallow is set.
func script(t *testing.T, answers int, swallow bool) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serveScript(conn, answers, swallow)
		}
	}()
	return listener.Addr().String()
}

func serveScript(conn net.Conn, answers int, swallow bool) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for range answers {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	}
	if swallow {
		_, _ = http.ReadRequest(r)
	}
}

func TestKeptConnectionClosedUnderRequest(t *testing.T) {
	cases := []struct {
		name            string
		method          string
		answers         int
		retried, failed int
	}{
		{name: "get is repeated once", method: "GET", answers: 1, retried: 3},
		{name: "post is not repeated", method: "POST", answers: 1, failed: 2},
		{name: "first request on a connection is not repeated", method: "GET", answers: 0, failed: 4},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Addr: script(t, c.answers, true), Method: c.method, Conns: 1, Requests: 4}
			if c.method == "POST" {
				o.Body = []byte("x")
			}
			got := HTTP(context.Background(), o)
			if got.Requests != 4 || got.Retried != c.retried || got.Failed["reset"] != c.failed {
				t.Fatalf("got %v %v", got, got.Examples)
			}
		})
	}
}

func TestIdleClosedConnectionIsNoFailure(t *testing.T) {
	o := Options{Addr: script(t, 1, false), Method: "POST", Body: []byte("x"), Conns: 1, Requests: 3, Rate: 20}
	got := HTTP(context.Background(), o)
	if got.Failures() != 0 || got.ClosedIdle != 2 || got.Dials != 3 {
		t.Fatalf("got %v, closed idle %d, %v", got, got.ClosedIdle, got.Examples)
	}
}

func TestRateIsKeptAndLatencyRunsFromTheSchedule(t *testing.T) {
	// One connection and an answer slower than the schedule: the third request
	// is due at 20 ms and can only start at 100 ms.
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	got := HTTP(context.Background(), Options{Addr: server.Listener.Addr().String(), Conns: 1, Rate: 100, Requests: 3})
	if got.Failures() != 0 || got.Max < 125*time.Millisecond {
		t.Fatalf("longest latency %v, want at least 130 ms: %v", got.Max, got)
	}
}

func TestCancelledRunReturnsAndCountsNoCutRequest(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	}))
	defer server.Close()
	got := HTTP(ctx, Options{Addr: server.Listener.Addr().String(), Conns: 2, Duration: time.Minute})
	if got.Requests != 0 {
		t.Fatalf("got %v", got)
	}
}

func TestStoppedRunWaitsForWhatIsUnderWay(t *testing.T) {
	stop, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(stop)
		<-release
		http.Error(w, "no", http.StatusServiceUnavailable)
	}))
	defer server.Close()
	go func() {
		<-stop
		close(release)
	}()
	got := HTTP(context.Background(), Options{Addr: server.Listener.Addr().String(), Conns: 1, Duration: time.Minute, Stop: stop})
	if got.Requests != 1 || got.Failures() != 1 {
		t.Fatalf("got %v", got)
	}
}

func TestDialFailureIsCounted(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	got := HTTP(context.Background(), Options{Addr: addr, Requests: 3})
	if got.Failed["dial"] != 3 || !strings.Contains(got.String(), "[dial: 3]") {
		t.Fatalf("got %v", got)
	}
}

func TestHistogramQuantiles(t *testing.T) {
	var h Histogram
	if h.Quantile(0.99) != 0 {
		t.Fatal("an empty histogram has no quantile")
	}
	for i := 1; i <= 10000; i++ {
		h.Add(time.Duration(i) * time.Microsecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 5000 * time.Microsecond, 0.99: 9900 * time.Microsecond, 1: 10000 * time.Microsecond} {
		got := h.Quantile(q)
		if off := float64(got-want) / float64(want); off < -0.01 || off > 0.01 {
			t.Errorf("quantile %v: got %v, want %v", q, got, want)
		}
	}
	if h.Count() != 10000 || h.Max() != 10*time.Millisecond {
		t.Errorf("count %d, max %v", h.Count(), h.Max())
	}
}

func TestHistogramBucketsAreContiguous(t *testing.T) {
	for _, v := range []uint64{0, 1, 127, 128, 129, 255, 256, 257, 1000, 1 << 20, 1<<40 + 12345, 1 << 62} {
		i := bucket(v)
		if upper(i) < v || (i > 0 && upper(i-1) >= v) {
			t.Errorf("%d fell into bucket %d, which is (%d, %d]", v, i, upper(i-1), upper(i))
		}
	}
}
