package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestSimPipelineInOrder: requests sent at once, split and delayed in every way, are answered
// in their order, and what the client sees does not depend on the seed.
func TestSimPipelineInOrder(t *testing.T) {
	for seed := range uint64(12) {
		s := newStage(t, rough(seed), HTTP, nil, originAddr, "10.0.2.2:80")
		answer := func(p *sim.Peer, q request) {
			delay := time.Duration(len(q.target)%3) * 10 * time.Millisecond
			s.w.After(delay, func() { p.Send(ok(q.target + " " + q.body + strings.Repeat(".", 3000))) })
		}
		s.origin(originAddr, answer)
		s.origin("10.0.2.2:80", answer)
		var text strings.Builder
		for i := range 30 {
			if i%4 == 3 {
				fmt.Fprintf(&text, "POST /%d HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n%s", i, 2*i, strings.Repeat("ab", i))
			} else {
				text.WriteString(get1(fmt.Sprintf("/%d", i)))
			}
		}
		p := s.dial(text.String())
		for i, a := range s.answered(p, 30, time.Minute) {
			want := fmt.Sprintf("/%d ", i)
			if i%4 == 3 {
				want += strings.Repeat("ab", i)
			}
			if a.status != 200 || strings.TrimRight(a.body, ".") != want {
				t.Fatalf("seed %d: answer %d: %d %q", seed, i, a.status, a.body[:40])
			}
		}
		p.Close()
	}
}

func TestSimOneByteClient(t *testing.T) {
	o := calm()
	o.Segment = 1
	s := newStage(t, o, HTTP, nil, originAddr)
	s.origin(originAddr, func(p *sim.Peer, q request) { p.Send(ok(q.body)) })
	p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n" + get1("/"))
	a := s.answered(p, 2, time.Minute)
	if a[0].body != "hello world" || a[1].status != 200 {
		t.Errorf("%+v", a)
	}
	p.Close()
}

// TestSimHeadIsNotHeldBack: an answer whose body takes its time shows its head at once.
func TestSimHeadIsNotHeldBack(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, originAddr)
	s.origin(originAddr, func(p *sim.Peer, _ request) {
		p.Send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
		s.w.After(3*time.Second, func() { p.Send("5\r\nevent\r\n0\r\n\r\n") })
	})
	p := s.dial(get1("/"))
	s.until(time.Second, "the head", func() bool { return strings.HasSuffix(p.Got(), "\r\n\r\n") })
	if a := s.answered(p, 1, time.Minute); a[0].body != "event" {
		t.Errorf("%+v", a)
	}
	p.Close()
}

// TestSimRefusalKeepsTheConnection: a request without a body that the proxy answers itself
// costs nobody the connection.
func TestSimRefusalKeepsTheConnection(t *testing.T) {
	for _, c := range []struct {
		reason string
		status int
		change func(*ListenerConfig, *upstream.Settings)
	}{
		{"no_endpoints", 503, nil},
		{"no_route", 404, func(l *ListenerConfig, _ *upstream.Settings) {
			l.Table = route.Compile([]route.Rule{{Host: "other"}})
		}},
	} {
		s := newStage(t, calm(), HTTP, c.change)
		p := s.dial(get1("/") + get1("/"))
		for _, a := range s.answered(p, 2, time.Second) {
			if a.status != c.status || a.close || a.header.Get("X-Larboard-Reason") != c.reason {
				t.Errorf("%s: %+v", c.reason, a)
			}
		}
		p.Close()
	}
}

func TestSimContinue(t *testing.T) {
	const head = "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	t.Run("granted", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		var saw []string
		s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			if strings.HasSuffix(p.Got(), "\r\n\r\n") && len(saw) == 0 {
				saw = append(saw, p.Got())
				s.w.After(2*time.Second, func() { p.Send("HTTP/1.1 100 Continue\r\n\r\n") })
			}
			if strings.HasSuffix(p.Got(), "body") && len(saw) == 1 {
				saw = append(saw, "body")
				p.Send(ok("thanks"))
			}
			if p.Over() {
				p.Close()
			}
		})
		p := s.dial(head)
		s.until(time.Minute, "100", func() bool { return p.Got() == "HTTP/1.1 100 Continue\r\n\r\n" })
		p.Take()
		p.Send("body" + "GET / HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n")
		if a := s.answered(p, 1, time.Second); a[0].body != "thanks" || a[0].close {
			t.Errorf("%+v", a)
		}
		p.Reset()
	})
	t.Run("granted once", func(t *testing.T) { // however many endpoints see the body
		const dying = "10.0.2.2:80"
		s := newStage(t, calm(), HTTP, repeating(onErrors), dying, originAddr)
		for _, addr := range []string{dying, originAddr} {
			s.w.Host(addr[:len(addr)-3]).Serve(addr, func(p *sim.Peer) {
				switch {
				case strings.HasSuffix(p.Got(), "\r\n\r\n"):
					p.Send("HTTP/1.1 100 Continue\r\n\r\n")
				case strings.HasSuffix(p.Got(), "body") && addr == dying:
					p.Close()
				case strings.HasSuffix(p.Got(), "body"):
					p.Take()
					p.Send("HTTP/1.1 100 Continue\r\n\r\n" + ok("thanks"))
				}
				if p.Over() {
					p.Close()
				}
			})
		}
		for range 2 { // one of them begins at the endpoint that dies
			p := s.dial(strings.Replace(head, "POST", "PUT", 1))
			s.until(time.Minute, "100", func() bool { return p.Got() == "HTTP/1.1 100 Continue\r\n\r\n" })
			p.Take()
			p.Send("body")
			s.until(time.Minute, "the answer", func() bool { return strings.HasSuffix(p.Got(), "thanks") })
			if strings.Contains(p.Got(), "100 Continue") {
				t.Errorf("granted again: %q", p.Got())
			}
			p.Close()
		}
	})
	t.Run("refused", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			if strings.HasSuffix(p.Got(), "\r\n\r\n") {
				p.Take()
				p.Send("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
			}
			if p.Over() {
				p.Close()
			}
		})
		p := s.dial(head)
		if a := s.answered(p, 1, time.Second); a[0].status != 417 || !a[0].close {
			t.Errorf("%+v", a)
		}
		p.Close()
	})
}

// TestSimEarlyAnswer: the answer reaches a client that still uploads, and the endpoint's
// connection is not used again.
func TestSimEarlyAnswer(t *testing.T) {
	for seed := range uint64(12) {
		s := newStage(t, rough(seed), HTTP, nil, originAddr)
		o := s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			if strings.Contains(p.Got(), "\r\n\r\n") {
				p.Take()
				p.Stall()
				p.Send("HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig")
			}
		})
		p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 100_000))
		if a := s.answered(p, 1, time.Minute); a[0].status != 413 || a[0].body != "big" || !a[0].close {
			t.Errorf("seed %d: %+v", seed, a)
		}
		p.Close()
		s.w.RunFor(10 * time.Second)
		for _, e := range o.Peers() {
			e.Resume()
			s.w.RunFor(time.Second)
			if !e.Over() {
				t.Errorf("seed %d: the connection with half a request is still open", seed)
			}
			e.Close()
		}
	}
}

// TestSimBackpressure: neither a client that does not read nor an endpoint that does not
// makes the proxy hold more than its buffers.
func TestSimBackpressure(t *testing.T) {
	const size, held = 2 << 20, 600 << 10 // a pipe for splicing, and the buffers of the sockets
	for _, stalledClient := range []bool{true, false} {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		body := strings.Repeat("0123456789abcdef", size/16)
		var taken *sim.Peer
		s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			taken = p
			if stalledClient && p.Size() > 0 {
				p.Take()
				p.Send(ok(body))
			}
			if !stalledClient && p.Size() > size && strings.HasSuffix(p.Got(), body) {
				p.Take()
				p.Send(ok("done"))
			}
			if p.Over() {
				p.Close()
			}
		})
		var p *sim.Peer
		if stalledClient {
			p = s.dial(get1("/"))
			p.Stall()
		} else {
			p = s.dial(fmt.Sprintf("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n%s", size, body))
			s.w.Run(time.Second, func() bool { return taken != nil })
			taken.Stall()
		}
		s.w.RunFor(3 * time.Second)
		if n := s.engine.Stats().Total().Buffers; n > 4 {
			t.Errorf("%d buffers in use", n)
		}
		if stalledClient && taken.Unsent() < size-held || !stalledClient && p.Unsent() < size-held {
			t.Error("the proxy took more than its buffers hold")
		}
		taken.Resume()
		p.Resume()
		a := s.answered(p, 1, time.Minute)
		if stalledClient && a[0].body != body || !stalledClient && a[0].body != "done" {
			t.Errorf("%d, %d bytes", a[0].status, len(a[0].body))
		}
		p.Close()
	}
}

// TestSimDrain: under way ends, the answer announces the close, the silent are closed after a
// while, nobody new is accepted.
func TestSimDrain(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, originAddr)
	s.origin(originAddr, func(p *sim.Peer, q request) {
		s.w.After(3*time.Second, func() { p.Send(ok(q.target)) })
	})
	idle, busy, late := s.dial(""), s.dial(get1("/busy")), s.dial("")
	s.w.RunFor(time.Second)
	began := s.w.Now()
	s.proxy.Drain(true)
	s.w.RunFor(time.Second)
	late.Send(get1("/late"))
	if a := s.answered(busy, 1, 3*time.Second); a[0].body != "/busy" || !a[0].close {
		t.Errorf("%+v", a)
	}
	if a := s.answered(late, 1, 5*time.Second); a[0].body != "/late" || !a[0].close {
		t.Errorf("%+v", a)
	}
	if !idle.Over() || idle.Got() != "" || s.w.Now().Sub(began) < drainIdle {
		t.Errorf("idle: over %v, %q", idle.Over(), idle.Got())
	}
	refused := s.dial(get1("/"))
	s.until(time.Second, "refusal", func() bool { return refused.Err() != nil })
	for _, p := range []*sim.Peer{idle, busy, late} {
		p.Close()
	}
	s.w.RunFor(time.Second)
	if s.proxy.Active(true) != 0 {
		t.Errorf("%d active", s.proxy.Active(true))
	}
	if r := s.reason(2); r != policy.None {
		t.Errorf("reason %v", r)
	}
}
