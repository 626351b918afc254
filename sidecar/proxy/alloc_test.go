//go:build !race && !larboard_debug

package proxy

import (
	"bytes"
	"io"
	"net"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/metrics"
)

// allocationsAllowed is what a request may cost in the mean: not one in twenty. The
// runtime's own now and then (a timer, a grown pool) stay far below.
const allocationsAllowed = 0.05

// TestPlainPathAllocatesNothing drives whole exchanges through the proxy, with
// counters and timeouts as in production, between a client and an origin that
// allocate nothing themselves.
func TestPlainPathAllocatesNothing(t *testing.T) {
	for _, c := range []struct {
		name, request, answer string
	}{
		{"GET", "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nUser-Agent: test\r\nAccept: */*\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(bytes.Repeat([]byte("x"), 128))},
		{"POST", "POST /a HTTP/1.1\r\nHost: api.example\r\nContent-Length: 5\r\n\r\nhello",
			"HTTP/1.1 204 No Content\r\n\r\n"},
		{"16 KiB", "GET /big HTTP/1.1\r\nHost: api.example\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(16<<10) + "\r\n\r\n" + string(bytes.Repeat([]byte("x"), 16<<10))},
		{"chunked", "GET /chunks HTTP/1.1\r\nHost: api.example\r\n\r\n",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n6\r\nefghij\r\n0\r\n\r\n"},
		{"call", callHead("grpc-timeout: 1S\r\n") + oneMessage + callEnd,
			"HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 5\r\nContent-Length: 0\r\n\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := cannedOrigin(t, []byte(c.answer))
			r := newRig(t, HTTP, nil, addr)
			r.counted()
			r.allocatesNothing(t, c.request)
		})
	}
}

// counted puts the counters of production in the place of the test's own observer.
func (r *rig) counted() {
	meter := metrics.New(2)
	r.proxy.observers, r.proxy.meter = []observability.Observer{meter}, meter
}

// allocatesNothing sends the same request again and again, over one connection. Before that
// come some for which the answer may be another.
func (r *rig) allocatesNothing(t *testing.T, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	request, answer := []byte(text), make([]byte, 64<<10)
	for range 30 {
		exchangeOnce(t, conn, request, answer)
	}
	size := exchangeOnce(t, conn, request, answer)
	costsNothing(t, 500, 5000, func(n int) {
		for range n {
			if _, err := conn.Write(request); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(conn, answer[:size]); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// costsNothing fails where requests allocate, the first ones apart.
func costsNothing(t *testing.T, first, requests int, exchange func(n int)) {
	t.Helper()
	exchange(first)
	got := mallocs(func() { exchange(requests) }) / float64(requests)
	t.Logf("%.4f allocations a request", got)
	if got > allocationsAllowed {
		t.Errorf("%.3f allocations a request, want none", got)
		profileAllocations(t, func() { exchange(requests) })
	}
}

// mallocs counts the allocations of the whole process during f.
func mallocs(f func()) float64 {
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs - before.Mallocs)
}

// profileAllocations writes a profile of every allocation of f to the file that
// LARBOARD_ALLOC_PROFILE names.
func profileAllocations(t *testing.T, f func()) {
	path := os.Getenv("LARBOARD_ALLOC_PROFILE")
	if path == "" {
		return
	}
	rate := runtime.MemProfileRate
	runtime.MemProfileRate = 1
	f()
	runtime.MemProfileRate = rate
	out, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	if err := pprof.Lookup("allocs").WriteTo(out, 0); err != nil {
		t.Error(err)
	}
}

// exchangeOnce returns the length of the answer, which is the same each time but for
// nothing: what the proxy adds to an answer does not vary.
func exchangeOnce(t *testing.T, conn net.Conn, request, answer []byte) int {
	t.Helper()
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	n := 0
	for !whole(answer[:n]) {
		m, err := conn.Read(answer[n:])
		if err != nil {
			t.Fatalf("after %q: %v", answer[:n], err)
		}
		n += m
	}
	return n
}

func whole(p []byte) bool {
	head, body, ok := bytes.Cut(p, []byte("\r\n\r\n"))
	if !ok {
		return false
	}
	head = bytes.ToLower(head)
	if bytes.Contains(head, []byte("transfer-encoding: chunked")) {
		return bytes.HasSuffix(body, []byte("0\r\n\r\n"))
	}
	_, value, ok := bytes.Cut(head, []byte("content-length: "))
	if !ok {
		return true
	}
	value, _, _ = bytes.Cut(value, []byte("\r"))
	n, err := strconv.Atoi(string(value))
	return err == nil && len(body) >= n
}

// cannedOrigin answers each request with the same bytes.
func cannedOrigin(t *testing.T, answer []byte) string {
	t.Helper()
	return serveEach(t, func(c net.Conn) { answerAll(c, answer) })
}

// serveEach runs f for each connection to the address it returns.
func serveEach(t *testing.T, f func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go f(c)
		}
	}()
	return l.Addr().String()
}

func answerAll(c net.Conn, answer []byte) {
	defer c.Close()
	buf, n, size := make([]byte, 8<<10), 0, 0
	for {
		m, err := c.Read(buf[n:])
		if err != nil {
			return
		}
		n += m
		if size == 0 && whole(buf[:n]) {
			size = n // and so are those that follow
		}
		if size == 0 || n < size {
			continue
		}
		n -= size
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}
