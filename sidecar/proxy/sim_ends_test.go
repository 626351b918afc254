package proxy

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// faulty is a step with a mistake in it.
type faulty struct{ request, response bool }

func (f *faulty) Request(*Exchange) error {
	if f.request {
		panic("request")
	}
	return nil
}

func (f *faulty) Response(*Exchange) error {
	if f.response {
		panic("response")
	}
	return nil
}

// TestSimPanicEndsItsExchangeOnly: the client is told, the endpoint is let go (stage.end
// counts what is in flight), a body that still flows is stopped, and the next client is served.
func TestSimPanicEndsItsExchangeOnly(t *testing.T) {
	for _, f := range []*faulty{{request: true}, {response: true}} {
		for _, send := range []string{get1("/"), "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\nhalf"} {
			s := newStage(t, calm(), HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
				c.Routes[0].Steps = append(c.Routes[0].Steps, f)
			}, originAddr)
			s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				if strings.Contains(p.Take(), "\r\n\r\n") {
					p.Send(ok("fine"))
				}
				if p.Over() {
					p.Close()
				}
			})
			p := s.dial(send)
			if a := s.answered(p, 1, time.Second); a[0].status != 500 || a[0].header.Get("X-Larboard-Reason") != "internal" {
				t.Errorf("%+v", a)
			}
			if r := s.reason(1); r != policy.Internal {
				t.Errorf("reason %v", r)
			}
			p.Close()
			f := *f
			*s.proxy.Snapshot().Listeners[0].Routes[0].Steps[1].(*faulty) = faulty{}
			p = s.dial(get1("/"))
			if a := s.answered(p, 1, time.Second); a[0].status != 200 {
				t.Errorf("after the panic: %+v", a)
			}
			p.Close()
			*s.proxy.Snapshot().Listeners[0].Routes[0].Steps[1].(*faulty) = f
		}
	}
}

// TestSimLastAnswerOutlivesPipelinedRequests: the answer that announces the close arrives
// whole, although the client has sent more requests, which nobody reads any more.
func TestSimLastAnswerOutlivesPipelinedRequests(t *testing.T) {
	body := strings.Repeat("0123456789", 5_000)
	for _, behind := range []string{get1("/2"), "PATCH /2 HTTP/1.1\r\nHost: api\r\nContent-Length: 50000\r\n\r\n" + body} {
		o := calm()
		o.SendBuffer, o.ReceiveBuffer = 16<<10, 8<<10
		s := newStage(t, o, HTTP, nil, originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) {
			s.proxy.Drain(true)
			p.Send(ok(body))
		})
		p := s.dial(get1("/1") + behind)
		if a := s.answered(p, 1, time.Minute); a[0].body != body || !a[0].close {
			t.Errorf("%d bytes, close %v", len(a[0].body), a[0].close)
		}
		p.Close()
	}
}

// TestSimForcedDrain cuts everything that can be under way, at its deadline. Nothing stays
// behind (stage.end), and each record says why.
func TestSimForcedDrain(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for _, c := range []struct {
		name     string
		protocol Protocol
		dark     bool
		send     string
		answer   string
	}{
		{"waiting for a head", HTTP, false, get1("/"), ""},
		{"connecting", HTTP, true, get1("/"), ""},
		{"uploading", HTTP, false, "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 2000000\r\n\r\n" + big, ""},
		{"uploading to a reader that has answered half", HTTP, false, "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 2000000\r\n\r\n" + big,
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal"},
		{"downloading", HTTP, false, get1("/"), "HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + big},
		{"upgraded", HTTP, false, "GET / HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
			"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello"},
		{"tunnel", TCP, false, "hello", "hello"},
		{"tunnel, both ways full", TCP, false, big, big},
		{"half a head", HTTP, false, "GET / HT", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			for seed := range uint64(6) {
				s := newStage(t, rough(seed), c.protocol, func(_ *ListenerConfig, set *upstream.Settings) {
					set.Timeouts = upstream.Timeouts{Connect: time.Hour, ResponseHead: time.Hour, Idle: time.Minute}
				}, originAddr)
				s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
					if len(p.Take()) > 0 {
						p.Stall()
						p.Send(c.answer)
					}
				})
				if c.dark {
					s.w.Blackhole(netip.MustParseAddrPort(originAddr))
				}
				p := s.dial(c.send)
				p.Stall()
				s.w.RunFor(2 * time.Second)
				s.engine.Drain(s.w.Now().Add(time.Second))
				s.w.RunFor(2 * time.Second)
				if n := s.proxy.Active(true); n != 0 {
					t.Errorf("seed %d: %d connections after the deadline", seed, n)
				}
				if c.name != "half a head" {
					if r := s.reason(1); r != policy.Draining {
						t.Errorf("seed %d: reason %v: %v", seed, r, s.records.all[0].Err)
					}
				}
				p.Reset()
			}
		})
	}
}

// TestSimCancelledAmidAnUpload: an exchange whose task is cancelled cannot wait for the pump of
// its body, and nobody else reads from its client then.
func TestSimCancelledAmidAnUpload(t *testing.T) {
	var running *Exchange
	s := newStage(t, calm(), HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
		c.Routes[0].Steps = append(c.Routes[0].Steps, hooks{request: func(x *Exchange) error { running = x; return nil }})
	}, originAddr)
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		p.Take()
		if p.Over() {
			p.Close()
		}
	})
	p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\nhalf")
	s.until(time.Second, "the body flows", func() bool { return running != nil && running.body.running })
	x := running
	x.loop.loop.Post(func() {
		x.task.Cancel(&policy.Error{Reason: policy.UpstreamTLSIdentity, Side: policy.Upstream, Phase: policy.PhaseWait, MaybeProcessed: true})
	})
	if r := s.reason(1); r != policy.UpstreamTLSIdentity {
		t.Errorf("reason %v", r)
	}
	s.until(time.Second, "the end", p.Over)
	p.Close()
}
