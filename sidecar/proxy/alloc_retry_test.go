//go:build !race && !larboard_debug

package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestRepeatsAllocateNothing: a body that is kept for a repeat, and the wait for an answer
// within the time of an attempt, cost no allocation; a repeat of an answer costs the error that
// no other endpoint is left, where that is so.
func TestRepeatsAllocateNothing(t *testing.T) {
	const size = 20_000
	answer := []byte("HTTP/1.1 204 No Content\r\n\r\n")
	for _, c := range []struct {
		name    string
		request []byte
		first   []byte // what every other request is answered with
		allowed float64
	}{
		{"a body that is kept", append([]byte("PUT /a HTTP/1.1\r\nHost: api\r\nContent-Length: 20000\r\n\r\n"), bytes.Repeat([]byte("x"), size)...), answer, allocationsAllowed},
		{"an answer that is repeated", []byte("GET /a HTTP/1.1\r\nHost: api\r\n\r\n"), []byte("HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno"), 1 + allocationsAllowed},
	} {
		t.Run(c.name, func(t *testing.T) {
			body := len(c.request) - bytes.Index(c.request, []byte("\r\n\r\n")) - 4
			addr := serveEach(t, func(conn net.Conn) {
				defer conn.Close()
				buf, n := make([]byte, 64<<10), 0
				for served := 0; ; {
					m, err := conn.Read(buf[n:])
					if err != nil {
						return
					}
					n += m
					end := bytes.Index(buf[:n], []byte("\r\n\r\n"))
					if end < 0 || n < end+4+body {
						continue
					}
					n = 0
					out := answer
					if served++; served%2 == 1 {
						out = c.first
					}
					if _, err := conn.Write(out); err != nil {
						return
					}
				}
			})
			r := newRig(t, HTTP, func(_ *ListenerConfig, s *upstream.Settings) {
				s.Retries = &retry.Policy{Attempts: 3, On: retry.Of(retry.Reset, retry.Timeout), PerTry: 10 * time.Second, Replay: 64 << 10,
					Budget: retry.Limits{Percent: 1000, Min: 1000}}
				s.Retries.Statuses.Add(503, 503)
			}, addr)
			meter := metrics.New(2)
			r.proxy.observers, r.proxy.meter = []observability.Observer{meter}, meter
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			got := make([]byte, 64<<10)
			want := exchangeOnce(t, conn, c.request, got)
			exchange := func(n int) {
				for range n {
					if _, err := conn.Write(c.request); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(conn, got[:want]); err != nil {
						t.Fatal(err)
					}
				}
			}
			exchange(300)
			const requests = 2000
			per := mallocs(func() { exchange(requests) }) / requests
			t.Logf("%.4f allocations a request", per)
			if per > c.allowed {
				t.Errorf("%.3f allocations a request, want %.2f at most", per, c.allowed)
				profileAllocations(t, func() { exchange(requests) })
			}
			if made := meter.Repeats("api")[retry.Made]; (made > 0) != (len(c.first) != len(answer)) {
				t.Errorf("%d repeats", made)
			}
		})
	}
}
