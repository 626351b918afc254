//go:build !race && !larboard_debug

package proxy

import (
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestBreakersAllocateNothing is TestPlainPathAllocatesNothing with breakers and ejection on:
// where nothing fails, and where an endpoint has been ejected and its breaker is open.
func TestBreakersAllocateNothing(t *testing.T) {
	good := []byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	bad := []byte("HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno")
	for _, c := range []struct {
		name    string
		origins [][]byte
	}{
		{"nothing fails", [][]byte{good, good}},
		{"one is out", [][]byte{good, bad, good}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var addresses []string
			for _, answer := range c.origins {
				addresses = append(addresses, cannedOrigin(t, answer))
			}
			r := newRig(t, HTTP, func(l *ListenerConfig, s *upstream.Settings) {
				withBreaker(l, s)
				s.Breaker.Open = time.Hour
				s.Ejection = &eject.Settings{Consecutive: 3, Time: time.Hour, MaxTime: time.Hour, MaxPercent: 50, Ramp: time.Hour, On: policy.AllFailures,
					Rate: eject.Rate{Interval: time.Hour, Requests: 100, Endpoints: 3, Deviation: 1.9}}
			}, addresses...)
			r.counted()
			r.allocatesNothing(t, "GET /a?b=c HTTP/1.1\r\nHost: api.example\r\n\r\n") // after some, until the one that fails is out
		})
	}
}
