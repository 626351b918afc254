package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// TestReasonOfAConnectionIsThatOfItsStreams: what ends a client's connection is what its exchanges
// under way are recorded with, wherever they wait.
func TestReasonOfAConnectionIsThatOfItsStreams(t *testing.T) {
	for _, tc := range []struct {
		name string
		end  func(*framed)
		want policy.Reason
	}{
		{"nothing is read", func(f *framed) { f.p.Stall() }, policy.HTTP2Stalled},
		{"DATA of no stream", func(f *framed) { f.p.Send("\x00\x00\x00\x00\x01\x00\x00\x00\x00") }, policy.HTTP2Protocol},
		{"gone", func(f *framed) { f.p.Reset() }, policy.ClientAborted},
	} {
		o := calm()
		o.SendBuffer, o.ReceiveBuffer = 8<<10, 8<<10
		s := newStage(t, o, HTTP, overStreams(false), "10.0.2.1:80")
		s.origin("10.0.2.1:80", func(p *sim.Peer, q request) {
			if q.target == "/large" {
				s.w.After(10*time.Millisecond, func() { p.Send(ok(strings.Repeat("x", 60<<10))) })
			}
		})
		f := s.dialStreams()
		f.get("/large")
		f.get("/waits")
		s.w.RunFor(5 * time.Millisecond)
		tc.end(f)
		for n := range 2 {
			if got := s.reason(n + 1); got != tc.want && got != policy.UpstreamTimeout {
				t.Errorf("%s: %s is recorded as %v", tc.name, s.records.all[n].Path, got)
			}
		}
		f.p.Close()
	}
}
