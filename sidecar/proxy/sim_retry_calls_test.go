package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/grpc"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// TestSimCallsAreRepeated: a call that ends with a status alone, if that is named, although
// calls are POSTs; never one of which the client has seen something.
func TestSimCallsAreRepeated(t *testing.T) {
	unavailable := policy.GRPCUnavailable
	for _, c := range []struct {
		name    string
		named   bool
		begun   bool // the answer has, before the status
		reason  string
		status  policy.GRPCStatus
		seen    policy.GRPCStatus
		asked   int
		repeats []string
	}{
		{"unavailable, then ok", true, false, "", unavailable, policy.GRPCOK, 2, []string{"grpc_status made"}},
		{"a proxy's word, that nobody has seen it", true, false, "connect_failed", unavailable, policy.GRPCOK, 2, []string{"grpc_status made"}},
		{"a proxy's word, that somebody may have", true, false, "upstream_reset", unavailable, unavailable, 1, []string{"grpc_status unsafe"}},
		{"not named", false, false, "", unavailable, unavailable, 1, nil},
		{"another status", true, false, "", policy.GRPCInternal, policy.GRPCInternal, 1, nil},
		{"behind a head", true, true, "", unavailable, unavailable, 1, nil},
	} {
		for _, client := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, HTTP/%d", c.name, client), func(t *testing.T) {
				s := newStage(t, calm(), HTTP, overStreams(true, repeating(func(p *retry.Policy) {
					if c.named {
						p.GRPC.Add(unavailable)
					}
				})), threeOrigins...)
				asked := 0
				for _, addr := range threeOrigins {
					s.streamOrigin(addr, func(st *framedStream) {
						asked++
						status := fmt.Sprint(c.status.Code())
						switch {
						case asked > 1:
							st.headers(false, ":status", "200", "content-type", "application/grpc")
							st.headers(true, "grpc-status", "0")
						case c.begun:
							st.headers(false, ":status", "200", "content-type", "application/grpc")
							st.headers(true, "grpc-status", status)
						case c.reason != "":
							st.headers(true, ":status", "200", "content-type", "application/grpc", "grpc-status", status, "x-larboard-reason", c.reason)
						default:
							st.headers(true, ":status", "200", "content-type", "application/grpc", "grpc-status", status)
						}
					})
				}
				if client == 1 {
					p := s.dial(call1(""))
					s.until(5*time.Second, "the answer", func() bool { return strings.Contains(strings.ToLower(p.Got()), "grpc-status") })
					defer p.Close()
				} else {
					f := s.dialStreams()
					st := f.open(false, ":method", "POST", ":scheme", "http", ":authority", "api", ":path", "/a.B/C", "content-type", "application/grpc", "te", "trailers")
					st.Send("\x00\x00\x00\x00\x01x")
					st.CloseWrite()
					s.until(5*time.Second, "the answer", st.Ended)
					defer f.p.Close()
				}
				if r := s.record(1); r.GRPC != c.seen || asked != c.asked || len(r.Tries) != c.asked || r.Tries[0].GRPC != c.status {
					t.Errorf("%v, asked %d, %+v", r.GRPC, asked, r.Tries)
				}
				s.repeats(c.repeats...)
			})
		}
	}
}

// TestSimTimeLeftIsTold: each attempt of a call is told how much is left.
func TestSimTimeLeftIsTold(t *testing.T) {
	s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) {
		p.GRPC.Add(policy.GRPCUnavailable)
		p.Backoff = retry.Backoff{}
	}), threeOrigins...)
	var left []time.Duration
	s.origins(func(n int, _ string, p *sim.Peer, q request) {
		d, ok := grpc.ParseTimeout([]byte(q.header.Get("Grpc-Timeout")))
		if !ok {
			t.Errorf("%q", q.header)
		}
		left = append(left, d)
		s.w.After(500*time.Millisecond, func() {
			p.Send("HTTP/1.1 200 OK\r\nContent-Type: application/grpc\r\nGrpc-Status: 14\r\nContent-Length: 0\r\n\r\n")
		})
	})
	p := s.dial(call1("grpc-timeout: 1200m\r\n"))
	s.answered(p, 1, 5*time.Second)
	p.Close()
	if len(left) != 3 || left[0] > 1200*time.Millisecond || left[1] > 700*time.Millisecond || left[2] > 200*time.Millisecond || left[2] <= 0 {
		t.Errorf("told %v", left)
	}
	if r := s.record(1); r.Reason != policy.RequestDeadline {
		t.Errorf("%v", r.Reason)
	}
}

// TestSimWhatDrawsFromTheBudget: with a budget of nothing, those repeats are made that were
// no work for an endpoint.
func TestSimWhatDrawsFromTheBudget(t *testing.T) {
	for _, c := range []struct {
		name string
		fail func(*framedStream)
		made bool
	}{
		{"an orderly goodbye", func(st *framedStream) { st.f.write(st.f.framer.WriteGoAway(0, xhttp2.ErrCodeNo, nil)) }, true},
		{"a goodbye for a reason", func(st *framedStream) {
			st.f.write(st.f.framer.WriteGoAway(0, xhttp2.ErrCodeEnhanceYourCalm, nil))
		}, false},
		{"a refused stream", func(st *framedStream) {
			st.f.write(st.f.framer.WriteRSTStream(st.id, xhttp2.ErrCodeRefusedStream))
		}, false},
		{"a reset", (*framedStream).Reset, false},
		{"the end of the connection", func(st *framedStream) { st.f.p.Close() }, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, overStreams(true, repeating(func(p *retry.Policy) { p.Budget = retry.Limits{} })), originAddr)
			n := 0
			s.streamOrigin(originAddr, func(st *framedStream) {
				if n++; n == 1 {
					c.fail(st)
				} else {
					st.headers(true, ":status", "204")
				}
			})
			p := s.dial(get1("/"))
			if a := s.answered(p, 1, 5*time.Second)[0]; (a.status == 204) != c.made {
				t.Errorf("%+v, %q", a, s.records.repeats)
			}
			p.Close()
		})
	}
	t.Run("no connection", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) { p.Budget = retry.Limits{} }), "10.0.2.8:80", "10.0.2.9:80", originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("yes")) })
		for range 6 {
			p := s.dial("POST / HTTP/1.1\r\nHost: api\r\nContent-Length: 1\r\n\r\nx")
			if a := s.answered(p, 1, 5*time.Second)[0]; a.status != 200 {
				t.Errorf("%+v", a)
			}
			p.Close()
		}
	})
}

// TestSimAllAreTriedAnew: when each endpoint has been tried, the attempts that are left begin
// anew; where the endpoint is silent to connections, they do not.
func TestSimAllAreTriedAnew(t *testing.T) {
	for _, protocol := range []Protocol{HTTP, TCP} {
		s := newStage(t, calm(), protocol, nil, originAddr)
		s.w.After(10*time.Millisecond, func() {
			s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
				if p.Size() > 0 {
					p.Take()
					p.Send(ok("yes"))
				}
				if p.Over() {
					p.Close()
				}
			})
		})
		s.service.Settings().Retries.Attempts = 9
		p := s.dial(get1("/"))
		if a := s.answered(p, 1, 5*time.Second)[0]; a.body != "yes" {
			t.Errorf("%v: %+v", protocol, a)
		}
		p.Close()
		if r := s.record(1); r.Reason != policy.None || len(r.Tries) < 3 {
			t.Errorf("%v: %v, %+v", protocol, r.Reason, r.Tries)
		}
	}
}
