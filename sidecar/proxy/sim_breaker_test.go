package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// withBreaker gives the service breakers that open at the third failure.
func withBreaker(c *ListenerConfig, s *upstream.Settings) {
	s.Breaker = &breaker.Settings{Failures: 3, Open: 10 * time.Second, Probes: 1, Lease: 20 * time.Second, On: policy.AllFailures}
}

// breakerIs looks at the only endpoint's.
func (s *stage) breakerIs(want breaker.State) {
	s.t.Helper()
	if v, _ := s.service.Breaker(s.service.Set().Members[0].Endpoint, s.engine.Nanos()); v.State != want {
		s.t.Errorf("the breaker is %v, want %v: %+v", v.State, want, v)
	}
}

// call is one request on a connection of its own, and its answer.
func (s *stage) call(text string) answered {
	s.t.Helper()
	p := s.dial(text)
	a := s.answered(p, 1, time.Minute)[0]
	p.Close()
	return a
}

// failing is an endpoint that answers 500 while its switch is on, and counts.
type failing struct {
	on     bool
	served int
}

func (s *stage) failing() *failing {
	f := &failing{on: true}
	s.origin(originAddr, func(p *sim.Peer, q request) {
		f.served++
		if f.on {
			p.Send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
			return
		}
		p.Send(ok("fine"))
	})
	return f
}

// open brings the breaker to half-open, with an endpoint that has recovered.
func (s *stage) halfOpen(f *failing) {
	s.t.Helper()
	for range 3 {
		if a := s.call(get1("/")); a.status != 500 {
			s.t.Fatalf("%+v", a)
		}
	}
	s.breakerIs(breaker.Open)
	s.w.RunFor(10 * time.Second)
	s.breakerIs(breaker.HalfOpen)
	f.on, f.served = false, 0
}

// TestSimBreaker: exchanges open, probe and close a breaker as it is configured.
func TestSimBreaker(t *testing.T) {
	s := newStage(t, calm(), HTTP, withBreaker, originAddr)
	f := s.failing()
	s.call(get1("/"))
	s.call(get1("/"))
	s.breakerIs(breaker.Closed)
	s.call(get1("/"))
	s.breakerIs(breaker.Open)
	view, _ := s.service.Breaker(s.service.Set().Members[0].Endpoint, s.engine.Nanos())
	if lasts := time.Duration(view.Until - view.Since); lasts != 10*time.Second {
		t.Errorf("open for %v", lasts)
	}
	s.w.RunFor(time.Duration(view.Until-s.engine.Nanos()) - 10*time.Millisecond)
	a := s.call(get1("/"))
	if a.status != 503 || a.header.Get("X-Larboard-Reason") != "breaker_open" || a.header.Get("Retry-After") == "" || f.served != 3 {
		t.Errorf("%+v, %d served", a, f.served)
	}
	s.w.RunFor(20 * time.Millisecond)
	s.breakerIs(breaker.HalfOpen)
	if a := s.call(get1("/")); a.status != 500 { // the probe
		t.Errorf("%+v", a)
	}
	s.breakerIs(breaker.Open)
	s.w.RunFor(10 * time.Second)
	f.on = false
	if a := s.call(get1("/")); a.status != 200 {
		t.Errorf("%+v", a)
	}
	s.breakerIs(breaker.Closed)
}

// TestSimProbeExits: however the exchange of a probe ends, its place is free afterwards, and
// what the endpoint is to blame for, and that alone, is held against it.
func TestSimProbeExits(t *testing.T) {
	const upload = "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\n"
	for _, c := range []struct {
		name   string
		answer func(*sim.Peer)         // of the endpoint, to the probe; nil: none
		send   string                  // of the client
		leave  func(*stage, *sim.Peer) // nil: the client waits for the end
		change func(*ListenerConfig, *upstream.Settings)
		want   breaker.State
	}{
		{"answered", func(p *sim.Peer) { p.Send(ok("fine")) }, get1("/"), nil, nil, breaker.Closed},
		{"answered 404", func(p *sim.Peer) { p.Send("HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n") }, get1("/"), nil, nil, breaker.Closed},
		{"answered 503", func(p *sim.Peer) { p.Send("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n") }, get1("/"), nil, nil, breaker.Open},
		{"reset", (*sim.Peer).Reset, get1("/"), nil, nil, breaker.Open},
		{"garbage", func(p *sim.Peer) { p.Send("SMTP\r\n\r\n") }, get1("/"), nil, nil, breaker.Open},
		{"broken off", func(p *sim.Peer) { p.Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"); p.CloseWrite() }, get1("/"), nil, nil, breaker.Open},
		{"silent", nil, get1("/"), nil, nil, breaker.Open},
		{"client resets while it waits", nil, get1("/"), func(_ *stage, p *sim.Peer) { p.Reset() }, nil, breaker.HalfOpen},
		{"client breaks off its body", nil, upload, func(_ *stage, p *sim.Peer) { p.Reset() }, nil, breaker.HalfOpen},
		{"client resets amid the answer", func(p *sim.Peer) { p.Send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf") }, get1("/"),
			func(_ *stage, p *sim.Peer) { p.Reset() }, nil, breaker.HalfOpen},
		{"client's deadline", nil, call1("grpc-timeout: 100m\r\n"), nil, nil, breaker.HalfOpen},
		{"our deadline", nil, get1("/"), nil, func(_ *ListenerConfig, s *upstream.Settings) { s.Timeouts.Request = time.Second }, breaker.Open},
		{"call that fails in its trailers", func(p *sim.Peer) { p.Send(strings.Replace(wholeAnswer, "Grpc-Status: 0", "Grpc-Status: 14", 1)) }, call1(""), nil, nil, breaker.Open},
		{"call not found", func(p *sim.Peer) { p.Send(strings.Replace(wholeAnswer, "Grpc-Status: 0", "Grpc-Status: 5", 1)) }, call1(""), nil, nil, breaker.Closed},
		{"call refused at once", func(p *sim.Peer) {
			p.Send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 13\r\nContent-Length: 0\r\n\r\n")
		}, call1(""), nil, nil, breaker.Open},
		{"panic", func(p *sim.Peer) { p.Send(ok("fine")) }, get1("/panic"), nil, nil, breaker.HalfOpen},
		{"tunnel", func(p *sim.Peer) {
			p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			p.CloseWrite()
		}, "GET / HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", func(_ *stage, p *sim.Peer) { p.Close() }, nil, breaker.Closed},
	} {
		t.Run(c.name, func(t *testing.T) {
			probing, f := false, &failing{}
			s := newStage(t, calm(), HTTP, func(l *ListenerConfig, v *upstream.Settings) {
				withBreaker(l, v)
				if c.change != nil {
					c.change(l, v)
				}
				l.Routes[0].Steps = append(l.Routes[0].Steps, hooks{response: func(x *Exchange) error {
					if string(x.Req.PathBytes()) == "/panic" {
						panic("a step")
					}
					return nil
				}})
			}, originAddr)
			served := 0
			s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				if strings.Contains(p.Take(), "\r\n\r\n") {
					served++
					switch {
					case f.on:
						p.Send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
					case !probing:
						p.Send(ok("fine"))
					case c.answer != nil:
						c.answer(p)
					}
				}
				if p.Over() {
					p.Close()
				}
			})
			f.on = true
			s.halfOpen(f)
			probing = true
			before := served
			p := s.dial(c.send)
			s.until(time.Minute, "the endpoint is asked", func() bool { return served > before })
			s.w.RunFor(10 * time.Millisecond)
			if c.leave != nil {
				c.leave(s, p)
			}
			s.until(2*time.Minute, "the record", func() bool { return len(s.records.all) >= 4 })
			s.breakerIs(c.want)
			p.Close()
			probing = false
			if c.want == breaker.Open {
				s.w.RunFor(10 * time.Second)
			}
			if a := s.call(get1("/")); a.status != 200 {
				t.Errorf("after the probe: %+v", a)
			}
			s.breakerIs(breaker.Closed)
		})
	}
}

// TestSimOneProbe: while a probe is under way nobody else is let through, over a pooled
// connection neither; an answer that goes on for ever does not keep others out for longer
// than the lease.
func TestSimOneProbe(t *testing.T) {
	s := newStage(t, calm(), HTTP, withBreaker, originAddr)
	f, slow := &failing{on: true}, 0
	s.origin(originAddr, func(p *sim.Peer, q request) {
		switch {
		case q.target == "/slow":
			slow++
			p.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nonce\r\n")
			var more func()
			more = func() {
				if !p.Over() {
					p.Send("4\r\nmore\r\n")
					s.w.After(time.Second, more)
				}
			}
			s.w.After(time.Second, more)
		case f.on:
			p.Send("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
		default:
			p.Send(ok("fine"))
		}
	})
	s.halfOpen(f)
	p := s.dial(get1("/slow"))
	s.until(time.Second, "the probe", func() bool { return slow == 1 })
	for range 19 {
		if a := s.call(get1("/")); a.status != 503 || a.header.Get("X-Larboard-Reason") != "breaker_open" {
			t.Fatalf("%+v", a)
		}
		s.w.RunFor(time.Second)
	}
	s.w.RunFor(time.Second)
	if a := s.call(get1("/")); a.status != 200 {
		t.Errorf("%+v", a)
	}
	s.breakerIs(breaker.Closed)
	p.Close()
}

// TestSimBreakerOfTunnels: TCP services fail by connections that cannot be made; one that is
// made is a success at once, however long it lasts.
func TestSimBreakerOfTunnels(t *testing.T) {
	s := newStage(t, calm(), TCP, withBreaker, originAddr)
	refused := func() policy.Reason {
		p := s.dial("hello")
		s.until(time.Minute, "the end", p.Over)
		p.Close()
		return s.reason(len(s.records.all))
	}
	for range 3 {
		if r := refused(); r != policy.ConnectFailed {
			t.Errorf("reason %v", r)
		}
		s.w.RunFor(31 * time.Second) // as a suspect it is passed over
		if s.service.Set().Members[0].Suspect(s.engine.Nanos()) {
			t.Error("still suspect")
		}
	}
	s.w.RunFor(time.Second)
	s.breakerIs(breaker.HalfOpen)
	s.origin(originAddr, func(*sim.Peer, request) {})
	long := s.dial("hello")
	s.until(time.Second, "the connection", func() bool {
		v, _ := s.service.Breaker(s.service.Set().Members[0].Endpoint, s.engine.Nanos())
		return v.State == breaker.Closed
	})
	long.Close()
}

// TestSimEjection: an endpoint that fails gets no more requests until its time is over; a
// lone one stays in.
func TestSimEjection(t *testing.T) {
	ejection := func(c *ListenerConfig, s *upstream.Settings) {
		s.Ejection = &eject.Settings{Consecutive: 3, Time: 30 * time.Second, MaxTime: time.Minute, MaxPercent: 50, Ramp: 10 * time.Second, On: policy.AllFailures}
	}
	for _, others := range []int{0, 1, 3} {
		t.Run(fmt.Sprint(others, " others"), func(t *testing.T) {
			addresses := []string{originAddr}
			for i := range others {
				addresses = append(addresses, fmt.Sprintf("10.0.3.%d:80", i+1))
			}
			s := newStage(t, calm(), HTTP, ejection, addresses...)
			f := s.failing()
			for _, a := range addresses[1:] {
				s.origin(a, func(p *sim.Peer, _ request) { p.Send(ok("fine")) })
			}
			for range 6 * (others + 1) {
				s.call(get1("/"))
			}
			if want := min(1, others); f.served != 3 && want == 1 {
				t.Errorf("%d requests before it was ejected, want 3", f.served)
			}
			f.served = 0
			for range 10 {
				s.call(get1("/"))
			}
			if others == 0 && f.served != 10 || others > 0 && f.served != 0 {
				t.Errorf("%d of 10 requests to the one that fails", f.served)
			}
			f.on, f.served = false, 0
			s.w.RunFor(time.Minute)
			for range 10 * (others + 1) {
				s.call(get1("/"))
			}
			if f.served == 0 {
				t.Error("it does not return")
			}
		})
	}
}
