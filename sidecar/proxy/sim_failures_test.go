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

// TestSimBrokenAnswersNeverLookWhole: however an endpoint breaks off, in whatever framing, and
// whatever the client speaks, the client can tell.
func TestSimBrokenAnswersNeverLookWhole(t *testing.T) {
	const length, chunked, untilClose = "Content-Length: 100\r\n", "Transfer-Encoding: chunked\r\n", ""
	for _, c := range []struct {
		name    string
		framing string
		body    string
		reset   bool
	}{
		{"length, closed", length, "half", false},
		{"length, reset", length, "half", true},
		{"chunked, closed in a chunk", chunked, "9\r\nhalf", false},
		{"chunked, closed between chunks", chunked, "4\r\nhalf\r\n", false},
		{"chunked, reset", chunked, "4\r\nhalf\r\n", true},
		{"until close, reset", untilClose, "half", true},
		{"length, closed without a byte", length, "", false},
		{"length, reset without a byte", length, "", true},
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(c.name+" to "+version, func(t *testing.T) {
				s := newStage(t, calm(), HTTP, nil, originAddr)
				s.origin(originAddr, func(p *sim.Peer, _ request) {
					p.Send("HTTP/1.1 200 OK\r\n" + c.framing + "\r\n" + c.body)
					s.w.After(100*time.Millisecond, func() {
						if c.reset {
							p.Reset()
						} else {
							p.Close()
						}
					})
				})
				p := s.dial("GET / HTTP/" + version + "\r\nHost: api\r\n\r\n")
				s.until(time.Second, "the end", p.Over)
				for _, a := range answers(p) {
					if a.status == 200 {
						t.Errorf("looks whole: %q, ended %v, %v", p.Got(), p.Ended(), p.Err())
					}
				}
				if r := s.reason(1); r != policy.UpstreamTruncated && r != policy.UpstreamReset {
					t.Errorf("reason %v", r)
				}
				p.Close()
			})
		}
	}
}

// TestSimGarbledBodyIsAnswered: an endpoint whose body is malformed from its first byte
// on, when nothing of its answer has gone out, makes a 502 and no silent close.
func TestSimGarbledBodyIsAnswered(t *testing.T) {
	for _, version := range []string{"1.0", "1.1"} {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) {
			p.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
		})
		p := s.dial("GET / HTTP/" + version + "\r\nHost: api\r\n\r\n")
		if all := s.answered(p, 1, time.Second); all[0].status != 502 {
			t.Errorf("to HTTP/%s: %q", version, p.Got())
		}
		if r := s.reason(1); r != policy.UpstreamProtocol {
			t.Errorf("reason %v", r)
		}
		p.Close()
	}
}

func TestSimEndpointFailsBeforeItsHead(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		fail   func(*sim.Peer)
		status int
		reason policy.Reason
		tries  int
	}{
		{"GET, reset", "GET", (*sim.Peer).Reset, 502, policy.UpstreamReset, 3},
		{"GET, closed", "GET", (*sim.Peer).Close, 502, policy.UpstreamClosed, 3},
		{"POST, reset", "POST", (*sim.Peer).Reset, 502, policy.UpstreamReset, 1},
		{"POST, half a head", "POST", func(p *sim.Peer) { p.Send("HTTP/1.1 20"); p.Close() }, 502, policy.UpstreamClosed, 1},
		{"POST, nonsense", "POST", func(p *sim.Peer) { p.Send("SMTP\r\n\r\n"); p.Close() }, 502, policy.UpstreamProtocol, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, nil, originAddr, "10.0.2.2:80", "10.0.2.3:80", "10.0.2.4:80")
			tries := 0
			for _, addr := range []string{originAddr, "10.0.2.2:80", "10.0.2.3:80", "10.0.2.4:80"} {
				s.origin(addr, func(p *sim.Peer, _ request) { tries++; c.fail(p) })
			}
			p := s.dial(c.method + " / HTTP/1.1\r\nHost: api\r\n\r\n")
			a := s.answered(p, 1, time.Second)
			if a[0].status != c.status || a[0].header.Get("X-Larboard-Reason") != c.reason.String() || tries != c.tries {
				t.Errorf("%+v after %d tries", a, tries)
			}
			p.Close()
		})
	}
}

// TestSimStalePooledConnection: the endpoint closes the connection that it kept just as we
// send the next request. A GET is sent again, a POST that may have arrived is not.
func TestSimStalePooledConnection(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		for gap := range 8 {
			s := newStage(t, calm(), HTTP, nil, originAddr)
			served := 0
			s.origin(originAddr, func(p *sim.Peer, _ request) {
				served++
				p.Send(ok("x"))
				s.w.After(time.Second, p.Close)
			})
			p := s.dial(get1("/"))
			s.answered(p, 1, time.Second)
			p.Take()
			// The close at 1 s and this request pass each other at every distance.
			s.w.After(time.Second-500*time.Microsecond+time.Duration(gap)*100*time.Microsecond, func() {
				p.Send(method + " / HTTP/1.1\r\nHost: api\r\n\r\n")
			})
			a := s.answered(p, 1, 3*time.Second)
			if method == "GET" && a[0].status != 200 || a[0].status != 200 && a[0].status != 502 {
				t.Errorf("%s, gap %d: %+v", method, gap, a)
			}
			if method == "POST" && served > 2 {
				t.Errorf("a POST was served %d times", served-1)
			}
			p.Close()
		}
	}
}

// TestSimClientLeaves: a client that resets, at any moment, ends its exchange at once; the
// record says who it was.
func TestSimClientLeaves(t *testing.T) {
	for _, c := range []struct {
		name string
		dark bool
		body string // what the endpoint sends
		send string
	}{
		{"while connecting", true, "", get1("/")},
		{"while waiting", false, "", get1("/")},
		{"in the answer", false, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nsome", get1("/")},
		{"in its body", false, "", "POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 100\r\n\r\nhalf"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, func(_ *ListenerConfig, set *upstream.Settings) { set.Timeouts.Connect = time.Minute }, originAddr)
			o := s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				if strings.Contains(p.Got(), "\r\n\r\n") {
					p.Take()
					p.Send(c.body)
				}
				if p.Over() {
					p.Close()
				}
			})
			if c.dark {
				s.w.Blackhole(netip.MustParseAddrPort(originAddr))
			}
			p := s.dial(c.send)
			s.w.RunFor(time.Second)
			began := s.w.Now()
			p.Reset()
			r := s.reason(1)
			if r != policy.ClientAborted && r != policy.BodyAborted {
				t.Errorf("reason %v: %v", r, s.records.all[0].Err)
			}
			s.after("record", began, 0)
			s.w.RunFor(time.Second)
			for _, e := range o.Peers() {
				if !e.Over() {
					t.Error("the endpoint was not told")
				}
			}
		})
	}
}

// TestSimChaos: clients and endpoints that fail at random moments, by seed. Every answer that
// looks whole is whole, and stage.end finds nothing left.
func TestSimChaos(t *testing.T) {
	for seed := range uint64(25) {
		s := newStage(t, rough(seed), HTTP, nil, originAddr, "10.0.2.2:80", "10.0.2.3:80")
		body := strings.Repeat("chaos", 2000)
		n := 0
		for _, addr := range []string{originAddr, "10.0.2.2:80"} {
			s.origin(addr, func(p *sim.Peer, q request) {
				n++
				switch n % 7 {
				case 0:
					p.Reset()
				case 1:
					p.Send(ok(body)[:5000])
					p.Close()
				case 2:
					p.Send(ok(body))
					s.w.After(time.Duration(n)*time.Millisecond, p.Reset)
				default:
					s.w.After(time.Duration(n%5)*time.Millisecond, func() { p.Send(ok(body)) })
				}
			})
		}
		var peers []*sim.Peer
		for i := range 60 {
			text := get1("/") + get1("/")
			if i%3 == 0 {
				text = "POST / HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n2710\r\n" + body + "\r\n0\r\n\r\n" + text
			}
			p := s.dial(text)
			at := time.Duration(i) * 2 * time.Millisecond
			switch i % 6 {
			case 1:
				s.w.After(at, p.Reset)
			case 2:
				s.w.After(at, p.CloseWrite)
			case 3:
				p.Stall()
				s.w.After(at, p.Resume)
			}
			peers = append(peers, p)
		}
		if seed%3 == 0 {
			s.w.After(100*time.Millisecond, func() { s.proxy.Drain(true) })
		}
		s.w.RunFor(20 * time.Second)
		for _, p := range peers {
			for _, a := range answers(p) {
				if a.status == 200 && a.body != body {
					t.Errorf("seed %d: an answer of %d bytes", seed, len(a.body))
				}
			}
			p.Close()
		}
	}
}

// TestSimSameSeedSameRun: a whole proxy, with its pickers, pools and retries, repeats itself.
func TestSimSameSeedSameRun(t *testing.T) {
	run := func(seed uint64) uint64 {
		s := newStage(t, rough(seed), HTTP, func(_ *ListenerConfig, set *upstream.Settings) { set.Balance = "random" },
			originAddr, "10.0.2.2:80", "10.0.2.3:80")
		for _, addr := range []string{originAddr, "10.0.2.2:80"} {
			s.origin(addr, func(p *sim.Peer, q request) { p.Send(ok(q.target + addr)) })
		}
		for range 20 {
			p := s.dial(get1("/a") + get1("/b"))
			s.answered(p, 2, time.Minute)
			p.Close()
		}
		s.w.RunFor(time.Minute)
		return s.w.Trace()
	}
	first, again, other := run(1), run(1), run(2)
	if first != again || first == other {
		t.Errorf("%x, again %x, another seed %x", first, again, other)
	}
}
