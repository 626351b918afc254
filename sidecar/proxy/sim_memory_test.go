package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestUploadsOverStreamsStayWithinTheLimit: many streams are begun while there is room, and then all
// of them send what their windows allow, to an endpoint that takes nothing. The buffers grow no
// further than each connection may go beyond their limit; streams that there is no room for are
// told so, the others come to their end once the endpoint reads.
func TestUploadsOverStreamsStayWithinTheLimit(t *testing.T) {
	const limit, clients, streams, size = 4 << 20, 20, 15, 60 << 10
	const each = 96 << 10 // what a connection may keep at the limit, in buffers of 32 KiB
	o := calm()
	o.SendBuffer, o.ReceiveBuffer = 16<<10, 16<<10
	s := newStage(t, o, HTTP, overStreams(false, func(c *ListenerConfig, s *upstream.Settings) {
		c.Timeouts.Body, s.Timeouts.Body = time.Minute, time.Minute
	}), "10.0.2.1:80")
	endpoint := s.origin("10.0.2.1:80", func(p *sim.Peer, _ request) { p.Send(ok("done")) })
	s.engine.LimitBuffers(limit)
	var all []*framedStream
	for range clients {
		f := s.dialStreams()
		defer f.p.Close()
		for range streams {
			all = append(all, f.open(false, ":method", "POST", ":scheme", "http", ":authority", "api", ":path", "/"))
		}
	}
	s.w.RunFor(100 * time.Millisecond)
	for _, p := range endpoint.Peers() {
		p.Stall()
	}
	for _, q := range all {
		q.Send(strings.Repeat("x", size))
		q.CloseWrite()
	}
	var most int64
	for range 200 {
		s.w.RunFor(time.Millisecond)
		used, _ := s.engine.BufferBytes()
		most = max(most, used)
	}
	if most > limit+clients*each+1<<20 {
		t.Errorf("%d bytes of buffers, the limit is %d", most, limit)
	}
	for _, p := range endpoint.Peers() {
		p.Resume()
	}
	served, refused := 0, 0
	s.until(10*time.Second, "all answers", func() bool {
		served, refused = 0, 0
		for _, q := range all {
			switch {
			case !q.Ended():
			case q.head[":status"] == "200":
				served++
			case strings.HasPrefix(q.Got(), "buffers_short: "):
				refused++
			}
		}
		return served+refused == len(all)
	})
	if served == 0 || refused == 0 {
		t.Errorf("%d served, %d refused of %d", served, refused, len(all))
	}
}

// TestUploadsThatAreDoneHoldNoMemory: as many uploads as fill the buffers have gone to their
// endpoint, which has not answered yet. There is room for its answers.
func TestUploadsThatAreDoneHoldNoMemory(t *testing.T) {
	const limit, clients, size = 2 << 20, 100, 20 << 10
	o := calm()
	o.SendBuffer, o.ReceiveBuffer = 16<<10, 16<<10
	s := newStage(t, o, HTTP, overStreams(false), "10.0.2.1:80")
	endpoint := s.origin("10.0.2.1:80", func(p *sim.Peer, _ request) { p.Send(ok("done")) })
	s.engine.LimitBuffers(limit)
	var all []*framedStream
	for range clients {
		f := s.dialStreams()
		defer f.p.Close()
		all = append(all, f.open(false, ":method", "POST", ":scheme", "http", ":authority", "api", ":path", "/"))
	}
	s.w.RunFor(100 * time.Millisecond)
	for _, p := range endpoint.Peers() {
		p.Stall()
	}
	for _, q := range all {
		q.Send(strings.Repeat("x", size))
		q.CloseWrite()
	}
	s.w.RunFor(100 * time.Millisecond)
	for _, p := range endpoint.Peers() {
		p.Resume()
	}
	for i, q := range all {
		s.until(time.Second, "an answer", q.Ended)
		if q.Got() != "done" {
			t.Fatalf("stream %d: %q, %v", i, q.Got(), q.Err())
		}
	}
}
