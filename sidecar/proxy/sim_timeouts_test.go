package proxy

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// slack is what the network's delays and the wheel's ticks may add to a timeout.
const slack = 5 * time.Millisecond

// after asserts that d has passed since began.
func (s *stage) after(what string, began time.Time, d time.Duration) {
	s.t.Helper()
	if got := s.w.Now().Sub(began); got < d || got > d+slack {
		s.t.Errorf("%s after %v, want %v", what, got, d)
	}
}

// timeouts changes those towards the endpoint.
func timeouts(set upstream.Timeouts) func(*ListenerConfig, *upstream.Settings) {
	set.Idle = 30 * time.Second
	return func(_ *ListenerConfig, s *upstream.Settings) { s.Timeouts = set }
}

func TestSimRequestHeadTimeout(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, originAddr)
	began := s.w.Now()
	p := s.dial("GET / HT")
	for i := range 4 { // a byte now and then does not help
		s.w.After(time.Duration(i+1)*time.Second, func() { p.Send("x") })
	}
	if a := s.answered(p, 1, time.Minute); a[0].status != 408 || !a[0].close {
		t.Errorf("%+v", a)
	}
	s.after("408", began, 5*time.Second)
	p.Close()
	if r := s.reason(1); r != policy.RequestTimeout {
		t.Errorf("reason %v", r)
	}
}

// TestSimIdleIsClosedSilently: a connection on which no request has begun is never told 408,
// which a client might take for the answer to its next request.
func TestSimIdleIsClosedSilently(t *testing.T) {
	for _, c := range []struct {
		name  string
		send  string
		after time.Duration
	}{
		{"nothing sent", "", 5 * time.Second},
		{"between requests", get1("/"), 30 * time.Second},
		// The buffer is filled to its last byte, so the socket is not known to be drained: a
		// task looks, and waits no longer than it would for a head.
		{"a request of exactly a buffer", exactly(8 << 10), 5 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, nil, originAddr)
			s.origin(originAddr, func(p *sim.Peer, q request) { p.Send(ok("x")) })
			began := s.w.Now()
			p := s.dial(c.send)
			if c.send != "" {
				s.answered(p, 1, time.Second)
				p.Take()
			}
			s.until(time.Minute, "the close", p.Over)
			s.after("close", began, c.after)
			if p.Got() != "" || p.Err() != nil {
				t.Errorf("got %q, %v", p.Got(), p.Err())
			}
			p.Close()
		})
	}
}

// exactly is a request of n bytes.
func exactly(n int) string {
	const head = "GET / HTTP/1.1\r\nHost: api\r\nX-Fill: "
	return head + strings.Repeat("x", n-len(head)-4) + "\r\n\r\n"
}

func TestSimUpstreamTimeouts(t *testing.T) {
	silent := func(*stage, *sim.Peer, request) {}
	for _, c := range []struct {
		name   string
		set    upstream.Timeouts
		dark   bool
		origin func(*stage, *sim.Peer, request)
		reason policy.Reason
		after  time.Duration
	}{
		{"connect", upstream.Timeouts{Connect: 2 * time.Second, ResponseHead: time.Minute}, true, silent, policy.ConnectTimeout, 2 * time.Second},
		{"response head", upstream.Timeouts{Connect: time.Second, ResponseHead: 3 * time.Second}, false, silent, policy.UpstreamTimeout, 3 * time.Second},
		// Longer than the client may be silent in a body: the answer still gets through.
		{"long response head", upstream.Timeouts{Connect: time.Second, ResponseHead: 40 * time.Second}, false, silent, policy.UpstreamTimeout, 40 * time.Second},
		{"whole request while waiting", upstream.Timeouts{Connect: time.Second, ResponseHead: time.Minute, Request: 4 * time.Second}, false, silent,
			policy.RequestDeadline, 4 * time.Second},
		{"whole request while connecting", upstream.Timeouts{Connect: 10 * time.Second, ResponseHead: time.Minute, Request: 4 * time.Second}, true, silent,
			policy.RequestDeadline, 4 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, timeouts(c.set), originAddr)
			s.origin(originAddr, func(p *sim.Peer, q request) { c.origin(s, p, q) })
			if c.dark {
				s.w.Blackhole(netip.MustParseAddrPort(originAddr))
			}
			began := s.w.Now()
			p := s.dial(get1("/"))
			a := s.answered(p, 1, 2*time.Minute)
			if a[0].status != 504 || a[0].header.Get("X-Larboard-Reason") != c.reason.String() {
				t.Errorf("%+v", a)
			}
			s.after("504", began, c.after)
			p.Close()
		})
	}
}

// TestSimSlowAnswers: what an endpoint takes long for, within its limit, reaches the client
// also where it has no body.
func TestSimSlowAnswers(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 204 No Content\r\n\r\n", ok("x"), "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"} {
		s := newStage(t, calm(), HTTP, timeouts(upstream.Timeouts{Connect: time.Second, ResponseHead: time.Minute, Body: 5 * time.Second}), originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) { s.w.After(20*time.Second, func() { p.Send(answer) }) })
		p := s.dial(get1("/"))
		if a := s.answered(p, 1, time.Minute); a[0].status/100 != 2 {
			t.Errorf("%+v", a)
		}
		p.Close()
	}
}

// TestSimSlowUpload: the time for the response head counts from the end of the request.
func TestSimSlowUpload(t *testing.T) {
	s := newStage(t, calm(), HTTP, timeouts(upstream.Timeouts{Connect: time.Second, ResponseHead: 2 * time.Second, Body: 5 * time.Second}), originAddr)
	stingy := false
	s.origin(originAddr, func(p *sim.Peer, q request) {
		if !stingy {
			p.Send(ok(q.body))
		}
	})
	upload := func() *sim.Peer {
		p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 8\r\n\r\n")
		for i := range 8 {
			s.w.After(time.Duration(i+1)*3*time.Second, func() { p.Send(fmt.Sprint(i)) })
		}
		return p
	}
	p := upload()
	if a := s.answered(p, 1, time.Minute); a[0].status != 200 || a[0].body != "01234567" {
		t.Errorf("%+v", a)
	}
	p.Close()
	stingy = true
	began := s.w.Now()
	p = upload()
	if a := s.answered(p, 1, time.Minute); a[0].status != 504 {
		t.Errorf("%+v", a)
	}
	s.after("504", began, 26*time.Second)
	p.Close()
}

// TestSimBodyTimeouts: silence inside a body, on either side, ends the exchange.
func TestSimBodyTimeouts(t *testing.T) {
	t.Run("client", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.origin(originAddr, func(*sim.Peer, request) {})
		began := s.w.Now()
		p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\nhalf")
		if a := s.answered(p, 1, time.Minute); a[0].status/100 != 4 || !a[0].close {
			t.Errorf("%+v", a)
		}
		s.after("refusal", began, 5*time.Second)
		p.Close()
	})
	t.Run("endpoint", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf") })
		began := s.w.Now()
		p := s.dial(get1("/"))
		s.until(time.Minute, "the end", p.Over)
		s.after("end", began, 5*time.Second)
		if len(answers(p)) != 0 {
			t.Errorf("a broken answer looks whole: %q", p.Got())
		}
		p.Close()
	})
	t.Run("client that does not read", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok(strings.Repeat("x", 4<<20))) })
		p := s.dial(get1("/"))
		p.Stall()
		if r := s.reason(1); r != policy.ClientAborted {
			t.Errorf("reason %v", r)
		}
		p.Resume()
		s.until(time.Minute, "the end", p.Over)
		if len(answers(p)) != 0 {
			t.Error("a broken answer looks whole")
		}
	})
}

func TestSimTunnelIdle(t *testing.T) {
	s := newStage(t, calm(), TCP, nil, originAddr)
	var up *sim.Peer
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		if up == nil {
			up = p
			p.Send("welcome")
		}
		if p.Over() {
			p.Close()
		}
	})
	p := s.dial("hello")
	s.w.RunFor(8 * time.Second)
	p.Send("again") // one direction alive keeps both
	last := s.w.Now()
	s.w.RunFor(8 * time.Second)
	if p.Over() || up.Over() {
		t.Fatal("closed although something moved")
	}
	s.until(time.Minute, "the end", func() bool { return p.Over() && up.Over() })
	s.after("end", last, 10*time.Second)
	if p.Got() != "welcome" || up.Got() != "helloagain" {
		t.Errorf("%q, %q", p.Got(), up.Got())
	}
	if r := s.reason(1); r != policy.TunnelIdle {
		t.Errorf("reason %v", r)
	}
	p.Close()
}

// TestSimPoolGivesUpFirst: a pooled connection is closed well before an endpoint that keeps
// its connections for the same time would close it, maybe under the next request.
func TestSimPoolGivesUpFirst(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, originAddr)
	o := s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("ok")) })
	p := s.dial(get1("/"))
	s.answered(p, 1, time.Second)
	idle := s.service.Settings().Timeouts.Idle
	s.w.RunFor(idle * 8 / 10)
	if o.Peers()[0].Over() {
		t.Error("the connection was not kept")
	}
	s.w.RunFor(idle * 15 / 100)
	if !o.Peers()[0].Over() {
		t.Errorf("the connection is still pooled when its endpoint is about to close it")
	}
	p.Close()
}

// TestSimPoolKnowsHowLongTheEndpointHasWaited: an endpoint that has said its whole answer
// waits from then on, however long the client takes to read it.
func TestSimPoolKnowsHowLongTheEndpointHasWaited(t *testing.T) {
	s := newStage(t, calm(), HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
		c.Timeouts.Body = time.Minute
	}, originAddr)
	o := s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok(strings.Repeat("x", 200_000))) })
	p := s.dial(get1("/"))
	p.Stall()
	s.w.RunFor(s.service.Settings().Timeouts.Idle * 95 / 100)
	p.Resume()
	s.answered(p, 1, time.Second)
	s.w.RunFor(10 * time.Millisecond)
	if !o.Peers()[0].Over() {
		t.Error("the connection is pooled though its endpoint is about to close it")
	}
	p.Close()
}

// TestSimHalfClosedTunnelIsDrained: a tunnel that is cut when one direction has ended is
// recorded as drained, like any other.
func TestSimHalfClosedTunnelIsDrained(t *testing.T) {
	for _, protocol := range []Protocol{TCP, HTTP} {
		s := newStage(t, calm(), protocol, nil, originAddr)
		p, up := s.tunnel(protocol)
		up.CloseWrite()
		s.w.RunFor(time.Second)
		s.engine.Drain(time.Time{})
		s.w.RunFor(time.Second)
		if r := s.reason(1); r != policy.Draining {
			t.Errorf("%v: reason %v: %v", protocol, r, s.records.all[0].Err)
		}
		p.Reset()
		up.Reset()
	}
}
