//go:build !race && !larboard_debug

package proxy

import (
	"bytes"
	"net"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
)

// Requests that limits of every key let pass, or refuse, allocate nothing.
func TestLimitsAllocateNothing(t *testing.T) {
	for _, c := range []struct {
		name   string
		rate   float64
		fields LimitFields
		ends   string // of each answer, whose length varies
	}{
		{"allowed", 1e6, LimitFields{}, "\r\n\r\nok"},
		{"allowed, with fields", 1e6, LimitFields{When: LimitFieldsAlways}, "\r\n\r\nok"},
		{"allowed, with other fields", 1e6, LimitFields{When: LimitFieldsAlways, Form: TrioForm}, "\r\n\r\nok"},
		{"refused", 1e-3, LimitFields{}, policy.RateLimited.Info().Sentence + "\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := limit.NewRegistry()
			all := testLimit(r, "all", c.rate, 1000)
			step := withLimits(c.fields, RateLimit{Limit: all},
				RateLimit{Limit: testLimit(r, "source", 1e6, 1000), By: BySource, V4: 24, V6: 64},
				RateLimit{Limit: testLimit(r, "header", 1e6, 1000), By: ByHeader, Field: "x-api-key"},
				RateLimit{Limit: testLimit(r, "query", 1e6, 1000), By: ByQuery, Field: "b"},
				RateLimit{Limit: testLimit(r, "identity", 1e6, 1000), By: ByIdentity})
			p := newRig(t, HTTP, step, cannedOrigin(t, []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")))
			p.counted()
			conn, err := net.Dial("tcp", p.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			request, answer, ends := []byte("GET /a?b=c HTTP/1.1\r\nHost: api.example\r\nX-Api-Key: secret\r\n\r\n"), make([]byte, 64<<10), []byte(c.ends)
			exchange := func(n int) {
				for range n {
					if _, err := conn.Write(request); err != nil {
						t.Fatal(err)
					}
					for got := 0; !bytes.HasSuffix(answer[:got], ends); {
						m, err := conn.Read(answer[got:])
						if err != nil {
							t.Fatalf("after %q: %v", answer[:got], err)
						}
						got += m
					}
				}
			}
			if c.rate < 1 {
				for v := true; v; {
					v = limit.Take(0, []limit.Claim{{Limit: all}}).Allowed
				}
			}
			costsNothing(t, 2000, 5000, exchange)
		})
	}
}
