package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// numbered is text in which every place differs from its neighbours.
func numbered(lines int) string {
	var b strings.Builder
	for i := range lines {
		fmt.Fprintf(&b, "%06d\n", i)
	}
	return b.String()
}

// TestSimTunnelBytes: both directions at once, half-closed by either side first, over every
// kind of network, arrive whole and in order.
func TestSimTunnelBytes(t *testing.T) {
	there, back := numbered(20_000), numbered(15_000)
	for seed := range uint64(12) {
		s := newStage(t, rough(seed), TCP, nil, originAddr)
		serverFirst := seed%2 == 0
		var up *sim.Peer
		s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			if up == nil {
				up = p
				p.Send(back)
				if serverFirst {
					p.CloseWrite()
				}
			}
			if p.Ended() {
				p.CloseWrite()
			}
		})
		p := s.dial(there)
		if !serverFirst {
			p.CloseWrite()
		}
		if seed%3 == 0 {
			p.Stall()
			s.w.After(2*time.Second, p.Resume)
		}
		if serverFirst {
			s.until(time.Minute, "the server's end", func() bool { return p.Ended() })
			p.CloseWrite()
		}
		s.until(time.Minute, "both ends", func() bool { return p.Ended() && up.Ended() })
		if p.Got() != back || up.Got() != there {
			t.Errorf("seed %d: %d of %d back, %d of %d there", seed, p.Size(), len(back), up.Size(), len(there))
		}
		s.until(time.Second, "the record", func() bool { return len(s.records.all) == 1 })
		if r := s.records.all[0]; r.Reason != policy.None || r.BytesIn != int64(len(there)) || r.BytesOut != int64(len(back)) {
			t.Errorf("seed %d: %v, %d in, %d out", seed, r.Reason, r.BytesIn, r.BytesOut)
		}
		p.Close()
		up.Close()
	}
}

// TestSimTunnelReset: a reset of either side reaches the other at once, also past a
// half-close, when nobody reads from the side that is reset.
func TestSimTunnelReset(t *testing.T) {
	for _, protocol := range []Protocol{TCP, HTTP} {
		for _, byClient := range []bool{true, false} {
			for _, halfClose := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v, by client %v, half-closed %v", protocol, byClient, halfClose), func(t *testing.T) {
					s := newStage(t, calm(), protocol, nil, originAddr)
					p, up := s.tunnel(protocol)
					breaks, stays, want := p, up, policy.ClientAborted
					if !byClient {
						breaks, stays, want = up, p, policy.UpstreamReset
					}
					if halfClose {
						breaks.CloseWrite()
					}
					s.w.RunFor(time.Second)
					began := s.w.Now()
					breaks.Reset()
					s.until(time.Minute, "the end", func() bool { return stays.Over() && len(s.records.all) == 1 })
					s.after("the end", began, 0)
					if r := s.reason(1); r != want {
						t.Errorf("reason %v: %v", r, s.records.all[0].Err)
					}
					stays.Close()
				})
			}
		}
	}
}

// tunnel opens one, by an upgrade if the listener speaks HTTP, and returns both ends.
func (s *stage) tunnel(protocol Protocol) (client, endpoint *sim.Peer) {
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		if endpoint == nil && strings.HasSuffix(p.Got(), "\r\n\r\n") {
			p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		}
		if endpoint == nil && p.Size() > 0 {
			endpoint = p
			p.Take()
		}
	})
	if protocol == TCP {
		client = s.dial("hello")
	} else {
		client = s.dial("GET / HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		s.until(time.Second, "101", func() bool { return strings.HasSuffix(client.Got(), "\r\n\r\n") })
		client.Take()
	}
	s.until(time.Second, "the tunnel", func() bool { return endpoint != nil })
	return client, endpoint
}

// TestSimTunnelOneWay: a tunnel in which only one side speaks lives as long as it does.
func TestSimTunnelOneWay(t *testing.T) {
	for _, protocol := range []Protocol{TCP, HTTP} {
		for _, clientSpeaks := range []bool{true, false} {
			s := newStage(t, calm(), protocol, nil, originAddr)
			p, up := s.tunnel(protocol)
			speaks, listens := p, up
			if !clientSpeaks {
				speaks, listens = up, p
			}
			for range 20 {
				speaks.Send("x")
				s.w.RunFor(4 * time.Second)
			}
			if listens.Got() != strings.Repeat("x", 20) || listens.Over() {
				t.Errorf("%v, client speaks %v: %q, over %v", protocol, clientSpeaks, listens.Got(), listens.Over())
			}
			s.w.RunFor(7 * time.Second)
			if !listens.Over() || !speaks.Over() {
				t.Errorf("%v, client speaks %v: outlived its idle time", protocol, clientSpeaks)
			}
			p.Close()
			up.Close()
		}
	}
}

// TestSimUnsolicitedAnswer: what an endpoint sends beyond its answer is never anybody's
// answer, also if it comes in the very turn in which the next request does. (What is still
// under way when the next request has left cannot be told from its answer.)
func TestSimUnsolicitedAnswer(t *testing.T) {
	for _, together := range []bool{false, true} {
		for seed := range uint64(6) {
			o := rough(seed)
			if together {
				o = sim.Options{Seed: seed}
			}
			s := newStage(t, o, HTTP, nil, originAddr)
			var last *sim.Peer
			s.origin(originAddr, func(p *sim.Peer, q request) {
				last = p
				p.Send(ok("for " + q.target))
				if !together {
					p.Send(ok("evil"))
				}
			})
			p := s.dial("")
			for i := range 20 {
				p.Take()
				text := get1(fmt.Sprintf("/%d", i))
				s.w.After(0, func() {
					if together && last != nil {
						last.Send(ok("evil"))
					}
					p.Send(text)
				})
				a := s.answered(p, 1, time.Minute)
				if a[0].status != 200 || a[0].body != fmt.Sprintf("for /%d", i) {
					t.Fatalf("seed %d, together %v: request %d was answered %d %q", seed, together, i, a[0].status, a[0].body)
				}
				s.w.RunFor(20 * time.Millisecond)
			}
			p.Close()
		}
	}
}
