package proxy

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// limited changes the limits of s, as a reload does.
func (s *stage) limited(process, listener int64) {
	s.t.Helper()
	was := s.proxy.Snapshot()
	c := *was.Listeners[0]
	c.MaxConnections = listener
	if err := s.proxy.Apply(&Snapshot{Listeners: []*ListenerConfig{&c}, Services: was.Services, MaxConnections: process}); err != nil {
		s.t.Fatal(err)
	}
	s.w.RunFor(time.Millisecond)
}

// TestConnectionLimits: exactly as many clients as there may be are served, all others
// are told why not, and whoever leaves makes room for another.
func TestConnectionLimits(t *testing.T) {
	const limit, clients = 5, 23
	for _, c := range []struct {
		name              string
		process, listener int64
		reason            policy.Reason
	}{
		{"process", limit, 0, policy.ConnectionLimit},
		{"listener", 0, limit, policy.ListenerLimit},
		{"both", limit + 1, limit, policy.ListenerLimit},
	} {
		for seed := range uint64(20) {
			s := newStage(t, rough(seed), HTTP, nil, originAddr)
			s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("ok")) })
			s.limited(c.process, c.listener)
			var all []*sim.Peer
			for range clients {
				all = append(all, s.dial(get1("/")))
			}
			served, turned := s.sorted(all, c.reason)
			if served != limit || turned != clients-limit {
				t.Errorf("%s, seed %d: %d served, %d turned away", c.name, seed, served, turned)
			}
			if open, _ := s.proxy.Connections(); open != limit {
				t.Errorf("%s, seed %d: %d counted", c.name, seed, open)
			}
			s.limited(c.process, c.listener+1) // 0 becomes 1: less than there are, and nobody is cut
			for _, p := range all {
				p.Close()
			}
			s.until(time.Minute, "all to leave", func() bool { open, _ := s.proxy.Connections(); return open == 0 })
			s.limited(c.process, c.listener)
			again := s.dial(get1("/"))
			if a := s.answered(again, 1, time.Minute); a[0].status != 200 {
				t.Errorf("%s, seed %d: %d afterwards", c.name, seed, a[0].status)
			}
			again.Close()
		}
	}
}

// sorted counts the clients that were served and those that were told reason.
func (s *stage) sorted(all []*sim.Peer, reason policy.Reason) (served, turned int) {
	s.t.Helper()
	for _, p := range all {
		a := s.answered(p, 1, time.Minute)[0]
		switch {
		case a.status == 200:
			served++
		case a.status == 503 && a.close && a.header.Get(ReasonHeader) == reason.String() &&
			strings.HasPrefix(a.body, reason.String()):
			turned++
		default:
			s.t.Errorf("%+v", a)
		}
	}
	for _, r := range s.records.refused {
		if r != reason {
			s.t.Errorf("counted as %v", r)
		}
	}
	if len(s.records.refused) != turned {
		s.t.Errorf("%d counted, %d turned away", len(s.records.refused), turned)
	}
	return served, turned
}

// TestTurnedAway: what a client over the limit gets, by what it does.
func TestTurnedAway(t *testing.T) {
	for _, c := range []struct {
		name     string
		protocol Protocol
		does     func(*stage, *sim.Peer)
		status   int
		body     bool
	}{
		{"asks", HTTP, func(_ *stage, p *sim.Peer) { p.Send(get1("/")) }, 503, true},
		{"asks late", HTTP, func(s *stage, p *sim.Peer) { s.w.RunFor(time.Second); p.Send(get1("/")) }, 503, true},
		{"asks for the head", HTTP, func(_ *stage, p *sim.Peer) { p.Send("HEAD / HTTP/1.1\r\nHost: api\r\n\r\n") }, 503, false},
		{"sends garbage", HTTP, func(_ *stage, p *sim.Peer) { p.Send("x") }, 503, true},
		{"uploads", HTTP, func(_ *stage, p *sim.Peer) {
			p.Send("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 500000\r\n\r\n" + strings.Repeat("x", 500000))
		}, 503, true},
		{"uploads for ever", HTTP, func(_ *stage, p *sim.Peer) { p.Send("POST / " + strings.Repeat("x", 3*lingerBytes)) }, 0, true},
		{"says nothing", HTTP, func(*stage, *sim.Peer) {}, 0, true},
		{"is TCP", TCP, func(_ *stage, p *sim.Peer) { p.Send("hello") }, 0, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), c.protocol, nil, originAddr)
			s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				if p.Over() {
					p.Close()
				}
			})
			s.limited(1, 0)
			first := s.dial("")
			s.w.RunFor(10 * time.Millisecond)
			p := s.dial("")
			began := s.w.Now()
			c.does(s, p)
			s.until(time.Minute, "the end", p.Over)
			if took := s.w.Now().Sub(began); took > 2*turnAwayFor+time.Second {
				t.Errorf("it took %v", took)
			}
			all := answers(p)
			if c.body && c.status != 0 && (len(all) != 1 || all[0].status != c.status || all[0].header.Get(ReasonHeader) != "connection_limit") {
				t.Errorf("got %q, %v", p.Got(), p.Err())
			}
			if !c.body && (!strings.HasPrefix(p.Got(), "HTTP/1.1 503 ") || !strings.HasSuffix(p.Got(), "\r\n\r\n")) {
				t.Errorf("got %q", p.Got())
			}
			if open, _ := s.proxy.Connections(); open != 1 {
				t.Errorf("%d connections", open)
			}
			first.Close()
			p.Close()
		})
	}
}

// TestEndpointLimit: a full endpoint is passed over, the request is refused only where
// all are full, and is served once one has room again.
func TestEndpointLimit(t *testing.T) {
	const second = "10.0.2.2:80"
	s := newStage(t, calm(), HTTP, func(_ *ListenerConfig, up *upstream.Settings) { up.MaxConnections = 2 }, originAddr, second)
	var waiting []*sim.Peer
	for _, addr := range []string{originAddr, second} {
		s.origin(addr, func(p *sim.Peer, _ request) { waiting = append(waiting, p) })
	}
	var clients []*sim.Peer
	for range 4 {
		clients = append(clients, s.dial(get1("/")))
	}
	s.until(time.Second, "four requests", func() bool { return len(waiting) == 4 })
	for _, m := range s.service.Set().Members {
		if m.Inflight() != 2 {
			t.Errorf("%s has %d", m.Address, m.Inflight())
		}
	}
	fifth := s.dial(get1("/"))
	a := s.answered(fifth, 1, time.Second)[0]
	if a.status != 503 || a.header.Get(ReasonHeader) != "endpoint_limit" || a.close {
		t.Errorf("%+v", a)
	}
	if r := s.reason(1); r != policy.EndpointLimit {
		t.Errorf("recorded %v", r)
	}
	waiting[0].Send(ok("ok"))
	s.until(time.Second, "room", func() bool { return len(s.records.all) == 2 })
	fifth.Send(get1("/again")) // on the same connection
	s.until(time.Second, "the fifth", func() bool { return len(waiting) == 5 })
	for _, p := range waiting[1:] {
		p.Send(ok("ok"))
	}
	if a := s.answered(fifth, 2, time.Second)[1]; a.status != 200 {
		t.Errorf("%+v", a)
	}
	for _, p := range append(clients, fifth) {
		s.answered(p, len(answers(p)), time.Second)
		p.Close()
	}
}

// TestPlacesAreGivenBack: however an exchange ends, its connection's place and its
// endpoint's are free afterwards.
func TestPlacesAreGivenBack(t *testing.T) {
	for _, c := range []struct {
		name string
		step func(*Exchange) error
		do   func(*stage, *sim.Peer)
	}{
		{"a panic", func(*Exchange) error { panic("a bug") }, nil},
		{"a refusal", func(*Exchange) error { return errors.New("no") }, nil},
		{"a reset", nil, func(_ *stage, p *sim.Peer) { p.Reset() }},
		{"a cancel", nil, func(s *stage, _ *sim.Peer) {
			for _, l := range s.proxy.loops {
				l.loop.Post(func() {
					for d := l.conns.next; d != &l.conns; d = d.next {
						d.raw.Abort()
					}
				})
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, func(l *ListenerConfig, up *upstream.Settings) {
				l.MaxConnections, up.MaxConnections = 1, 1
				if c.step != nil {
					l.Routes[0].Steps = []Step{hooks{request: c.step}}
				}
			}, originAddr)
			s.origin(originAddr, func(p *sim.Peer, _ request) {})
			for range 3 {
				p := s.dial(get1("/"))
				s.w.RunFor(100 * time.Millisecond)
				if c.do != nil {
					c.do(s, p)
				} else {
					p.Close()
				}
				s.until(time.Minute, "the place", func() bool {
					open, _ := s.proxy.Connections()
					return open == 0 && s.service.Set().Members[0].Inflight() == 0
				})
				p.Close()
			}
			if n := len(s.records.refused); n != 0 {
				t.Errorf("%d found no place", n)
			}
		})
	}
}
