package proxy

import (
	"fmt"
	"math"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// feed sends as much of text as the way takes at once, and returns the rest.
func feed(e tunnelEnd, text string) string {
	n := len(text)
	switch e := e.(type) {
	case *framedStream:
		n = min(n, e.room())
	case *sim.Peer:
		n = max(0, min(n, 64<<10-e.Unsent()))
	}
	e.Send(text[:n])
	return text[n:]
}

// TestSimWebSocketReaderStops: whoever does not read is not read for. What waits for him is
// bounded, other streams go on, and it all comes as soon as he reads again; silence beyond
// timeouts.tunnel ends it, timeouts.body does not.
func TestSimWebSocketReaderStops(t *testing.T) {
	text := numbered(300_000)
	for _, v := range everyWay {
		for _, clientReads := range []bool{true, false} {
			for _, resumes := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v, client reads %v, again %v", v, clientReads, resumes), func(t *testing.T) {
					s := v.stage(t, sim.Options{Seed: 1, MinDelay: 50 * time.Microsecond, MaxDelay: 100 * time.Microsecond,
						SendBuffer: 32 << 10, ReceiveBuffer: 32 << 10})
					client, endpoint, _, _ := s.webSocket(v)
					reads, sends := client, endpoint
					if !clientReads {
						reads, sends = endpoint, client
					}
					reads.Stall()
					rest := text
					began := s.w.Now()
					for s.w.Now().Sub(began) < 8*time.Second {
						rest = feed(sends, rest)
						s.w.RunFor(100 * time.Millisecond)
					}
					// Two windows, or sockets with two buffers each, and what the proxy has in hand.
					if taken := len(text) - len(rest); taken > 64<<10+2*(64<<10)+3*(64<<10) {
						t.Errorf("%d bytes were taken for a reader that does not read", taken)
					}
					if n := s.engine.Stats().Total(); n.BufferBytes > 512<<10 {
						t.Errorf("%d bytes in buffers", n.BufferBytes)
					}
					if stream, is := client.(*framedStream); is {
						beside := stream.f.get("/beside")
						s.until(time.Second, "a stream beside it", beside.Ended)
					}
					if !resumes {
						n := len(s.records.all) + 1
						if r := s.record(n); r.Reason != policy.TunnelIdle {
							t.Errorf("reason %v: %v", r.Reason, r.Err)
						}
						if took := s.w.Now().Sub(began); took < 10*time.Second || took > 11*time.Second {
							t.Errorf("the end after %v", took)
						}
						reads.Resume()
						s.both("the end", client, endpoint, over)
					} else {
						reads.Resume()
						s.until(time.Minute, "all of it", func() bool {
							rest = feed(sends, rest)
							return len(reads.Got()) >= len(text)
						})
						if reads.Got() != text {
							t.Error("what came is not what was sent")
						}
						client.CloseWrite()
						endpoint.CloseWrite()
						s.both("the end", client, endpoint, tunnelEnd.Ended)
					}
					client.Close()
					endpoint.Close()
				})
			}
		}
	}
}

// TestSimWebSocketForcedDrain: at the deadline all is cut, whichever way is still open, by a
// reset; nothing is left (stage.end).
func TestSimWebSocketForcedDrain(t *testing.T) {
	for _, v := range everyWay {
		for closed := range 3 {
			for seed := range uint64(4) {
				s := v.stage(t, rough(seed))
				client, endpoint, _, _ := s.webSocket(v)
				[]func(){func() {}, client.CloseWrite, endpoint.CloseWrite}[closed]()
				s.w.RunFor(time.Second)
				s.engine.Drain(s.w.Now().Add(time.Second))
				s.w.RunFor(2 * time.Second)
				if n := s.proxy.Active(true); n != 0 {
					t.Errorf("%v, %d closed, seed %d: %d connections after the deadline", v, closed, seed, n)
				}
				if !brokenOff(client) || !brokenOff(endpoint) {
					t.Errorf("%v, %d closed, seed %d: client %v, endpoint %v", v, closed, seed, client.Err(), endpoint.Err())
				}
				if r := s.reason(1); r != policy.Draining {
					t.Errorf("%v, %d closed, seed %d: reason %v: %v", v, closed, seed, r, s.records.all[0].Err)
				}
				client.Close()
				endpoint.Close()
			}
		}
	}
}

// TestSimWebSocketCut: a client's connection that is not allowed any more takes its
// WebSockets with it.
func TestSimWebSocketCut(t *testing.T) {
	for _, endpoint := range []int{1, 2} {
		for closed := range 3 {
			v := versions{2, endpoint}
			s := v.stage(t, calm())
			client, endpoint, _, _ := s.webSocket(v)
			[]func(){func() {}, client.CloseWrite, endpoint.CloseWrite}[closed]()
			s.w.RunFor(time.Second)
			for _, l := range s.proxy.loops {
				l.loop.Post(func() {
					for d := l.conns.next; d != &l.conns; d = d.next {
						d.streams.sever(&policy.Error{Reason: policy.IntentionDenied, Side: policy.Downstream})
					}
				})
			}
			s.both("the end", client, endpoint, brokenOff)
			if r := s.reason(1); r != policy.IntentionDenied {
				t.Errorf("%v, %d closed: reason %v", v, closed, r)
			}
			client.Close()
			endpoint.Close()
		}
	}
}

// echoes sends a text each way.
func (s *stage) echoes(client, endpoint tunnelEnd, text string) {
	s.t.Helper()
	there, back := len(endpoint.Got()), len(client.Got())
	client.Send(text)
	endpoint.Send(text)
	s.until(time.Second, text, func() bool {
		return len(endpoint.Got()) == there+len(text) && len(client.Got()) == back+len(text)
	})
}

// TestSimWebSocketOutlivesChanges of its service's endpoints and settings, and a drain: HTTP/2
// is told to go in two steps, what is open goes on, what is new is refused, and the end of the
// last stream is that of the connection.
func TestSimWebSocketOutlivesChanges(t *testing.T) {
	for _, v := range everyWay {
		t.Run(v.String(), func(t *testing.T) {
			s := v.stage(t, calm())
			client, endpoint, _, _ := s.webSocket(v)
			s.endpoints("10.0.2.9:80")
			s.w.RunFor(time.Second)
			s.echoes(client, endpoint, "its endpoint has gone")
			next := *s.service.Settings()
			next.Version = upstream.OnlyHTTP1
			s.service.Configure(&next)
			s.w.RunFor(time.Second)
			s.echoes(client, endpoint, "its service has changed")
			s.proxy.CloseIdle()
			s.proxy.Drain(true)
			s.w.RunFor(3 * time.Second)
			s.echoes(client, endpoint, "its proxy drains")
			if stream, is := client.(*framedStream); is {
				if g := stream.f.goAway; len(g) != 2 || g[0] != math.MaxInt32 || g[1] != stream.id {
					t.Errorf("GOAWAY %v", g)
				}
				late := stream.f.get("/late")
				s.until(time.Second, "the refusal", func() bool { return late.broke })
				if late.reset != xhttp2.ErrCodeRefusedStream {
					t.Errorf("refused with %v", late.reset)
				}
			}
			client.CloseWrite()
			endpoint.CloseWrite()
			s.both("both ends", client, endpoint, tunnelEnd.Ended)
			s.until(5*time.Second, "the end of the drain", func() bool { return s.proxy.Active(true) == 0 })
			if r := s.reason(1); r != policy.None {
				t.Errorf("reason %v", r)
			}
			client.Close()
			endpoint.Close()
		})
	}
}

// TestSimWebSocketsFillStreams: each takes a stream as long as it lives. A client is refused
// the one too many; towards endpoints another connection is made.
func TestSimWebSocketsFillStreams(t *testing.T) {
	v := versions{2, 2}
	s := v.stage(t, calm(), func(c *ListenerConfig, s *upstream.Settings) { c.HTTP2.MaxStreams, s.HTTP2.MaxStreams = 5, 2 })
	var ends []*framedStream
	conns := s.streamOrigin(originAddr, func(f *framedStream) {
		f.headers(false, ":status", "200")
		ends = append(ends, f)
	}, extended)
	f := s.dialStreams()
	var open []*framedStream
	for range 5 {
		open = append(open, f.webSocket())
	}
	s.until(time.Second, "five", func() bool { return len(ends) == 5 && open[4].heads == 1 })
	if len(*conns) != 3 {
		t.Errorf("%d connections to the endpoint", len(*conns))
	}
	refused := f.webSocket()
	s.until(time.Second, "the refusal", func() bool { return refused.broke })
	if refused.reset != xhttp2.ErrCodeRefusedStream {
		t.Errorf("refused with %v", refused.reset)
	}
	open[0].CloseWrite()
	s.w.RunFor(100 * time.Millisecond)
	for _, e := range ends {
		if e.ended {
			e.CloseWrite()
		}
	}
	s.until(time.Second, "the end of one", open[0].Ended)
	again := f.webSocket()
	s.until(time.Second, "another", func() bool { return again.heads == 1 && len(ends) == 6 })
	if len(*conns) != 3 {
		t.Errorf("%d connections to the endpoint, although one had room", len(*conns))
	}
	f.p.Close()
	s.until(time.Minute, "the records", func() bool { return len(s.records.all) == 6 })
	for _, e := range ends {
		e.Close()
	}
}
