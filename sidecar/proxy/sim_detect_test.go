package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// automatic is a listener that finds out what its clients speak.
func automatic(c *ListenerConfig, s *upstream.Settings) {
	c.Detect = Detect{ServerFirst: true, Within: 20 * time.Millisecond}
	c.HTTP2 = http2Options()
	s.Timeouts.Connect = 5 * time.Second
}

// TestClientLeavesWhileItsServiceIsConnected: a client that has been silent for long enough is
// connected to the service, and leaves before that has come about. The connection is closed once
// it is there, and the endpoint is not in flight any more, nor twice not.
func TestClientLeavesWhileItsServiceIsConnected(t *testing.T) {
	endpoint := netip.MustParseAddrPort("10.0.2.1:80")
	for _, text := range []string{"", "GE", "\x00\x01"} {
		for _, comes := range []bool{true, false} {
			s := newStage(t, calm(), Auto, automatic, endpoint.String())
			s.w.Host("10.0.2.1").Serve(endpoint.String(), func(*sim.Peer) {})
			s.w.Blackhole(endpoint)
			client := s.dial("")
			s.w.RunFor(50 * time.Millisecond)
			client.Send(text)
			s.w.RunFor(50 * time.Millisecond)
			client.Reset()
			s.w.RunFor(50 * time.Millisecond)
			if comes {
				s.w.Restore(endpoint)
			}
			s.w.RunFor(10 * time.Second)
			if n := s.engine.Stats().Total().Conns; n != 0 {
				t.Errorf("%q, connected %v: %d connections are left", text, comes, n)
			}
			if text != "" && s.reason(1) != policy.ClientAborted {
				t.Errorf("%q, connected %v: %v", text, comes, s.reason(1))
			}
		}
	}
}

// TestStreamsBeginInAShortage: where there is no room for a buffer, what comes is read once there
// is, and judged as ever; also the rest of a preface whose beginning has been read.
func TestStreamsBeginInAShortage(t *testing.T) {
	for early, want := range map[int]string{0: "hello", 5: "buffers_short: "} { // it has its buffer, and is new work
		s := newStage(t, calm(), HTTP, overStreams(false), "10.0.2.1:80")
		s.origin("10.0.2.1:80", func(p *sim.Peer, _ request) { p.Send(ok("hello")) })
		if early == 0 {
			s.engine.LimitBuffers(1) // before any buffer is at hand
		}
		p := s.dial(xhttp2.ClientPreface[:early])
		s.w.RunFor(10 * time.Millisecond)
		s.engine.LimitBuffers(1)
		f := newFramed(p)
		p.Send(xhttp2.ClientPreface[early:])
		f.write(f.framer.WriteSettings())
		q := f.get("/")
		s.w.RunFor(100 * time.Millisecond)
		s.engine.LimitBuffers(0)
		s.until(5*time.Second, "the answer", q.Ended)
		if !strings.HasPrefix(q.Got(), want) {
			t.Errorf("got %q, %v", q.Got(), q.Err())
		}
		f.p.Close()
	}
}
