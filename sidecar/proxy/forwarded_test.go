package proxy

import (
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestForwardedFields: of a caller that has proven nothing, no word about who it is or
// where it comes from reaches the endpoint.
func TestForwardedFields(t *testing.T) {
	said := map[string]string{
		"X-Forwarded-For": "192.0.2.9", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "bank.example",
		"X-Forwarded-Port": "443", "X-Forwarded-Client-Cert": "URI=spiffe://example.org/admin",
		"Forwarded": "for=192.0.2.9", "X-Real-Ip": "192.0.2.9",
	}
	for _, trust := range []bool{false, true} {
		s := newStage(t, calm(), HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
			c.Routes[0].Steps = []Step{&Forwarded{Trust: trust, Proto: "http"}}
		}, originAddr)
		var got request
		s.origin(originAddr, func(p *sim.Peer, q request) {
			got = q
			p.Send(ok("ok"))
		})
		text := "GET / HTTP/1.1\r\nHost: api\r\n"
		for name, value := range said {
			text += name + ": " + value + "\r\n"
		}
		s.answered(s.dial(text+"\r\n"), 1, time.Second)
		for name, value := range said {
			v := got.header.Get(name)
			switch believed := v == value || len(v) > len(value) && v[:len(value)] == value; {
			case believed && !trust:
				t.Errorf("%s: %q of an untrusted caller is passed on", name, v)
			case !believed && trust:
				t.Errorf("%s: %q of a trusted caller has become %q", name, value, v)
			}
		}
	}
}
