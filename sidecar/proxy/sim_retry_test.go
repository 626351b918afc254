package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

var threeOrigins = []string{originAddr, "10.0.2.2:80", "10.0.2.3:80"}

// repeating changes the policy.
func repeating(change func(*retry.Policy)) func(*ListenerConfig, *upstream.Settings) {
	return func(_ *ListenerConfig, s *upstream.Settings) { change(s.Retries) }
}

// onErrors repeats answers that are errors.
func onErrors(p *retry.Policy) { p.Statuses.Add(500, 599) }

// origins serves all three with one function, which is told how many requests have come
// before, and who is asked.
func (s *stage) origins(answer func(n int, addr string, p *sim.Peer, q request)) *[]string {
	asked := new([]string)
	for _, addr := range threeOrigins {
		s.origin(addr, func(p *sim.Peer, q request) {
			*asked = append(*asked, addr)
			answer(len(*asked)-1, addr, p, q)
		})
	}
	return asked
}

func failed(status int, body string) string {
	return fmt.Sprintf("HTTP/1.1 %d Failed\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// repeats are what the meter was told.
func (s *stage) repeats(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.records.repeats, want) {
		s.t.Errorf("repeats %q, want %q", s.records.repeats, want)
	}
	if n := s.service.Repeats.Repeats(); n != 0 {
		s.t.Errorf("%d places of the budget are taken", n)
	}
}

func TestSimAnswersAreRepeated(t *testing.T) {
	for _, c := range []struct {
		name    string
		method  string
		change  func(*retry.Policy)
		answers []string // the last one for all that follow
		status  int
		body    string
		asked   int
		repeats []string
	}{
		{"the second is good", "GET", onErrors, []string{failed(503, "no"), ok("yes")}, 200, "yes", 2, []string{"status made"}},
		{"the third is good", "PUT", onErrors, []string{failed(503, "no"), failed(500, ""), ok("yes")}, 200, "yes", 3, []string{"status made", "status made"}},
		{"none is good: the last one's words", "GET", onErrors, []string{failed(503, "1"), failed(500, "2"), failed(502, "3")}, 502, "3", 3,
			[]string{"status made", "status made", "status spent"}},
		{"not idempotent", "POST", onErrors, []string{failed(503, "no")}, 503, "no", 1, []string{"status unsafe"}},
		{"not asked for", "GET", func(*retry.Policy) {}, []string{failed(503, "no")}, 503, "no", 1, nil},
		{"an answer in chunks", "DELETE", onErrors, []string{"HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", ok("yes")}, 200, "yes", 2, []string{"status made"}},
		{"an answer without end", "GET", onErrors, []string{"HTTP/1.1 503 No\r\n\r\nno", ok("yes")}, 200, "yes", 2, []string{"status made"}},
		{"an answer that is never whole", "GET", onErrors, []string{"HTTP/1.1 503 No\r\nContent-Length: 1000000\r\n\r\nno", ok("yes")}, 200, "yes", 2, []string{"status made"}},
		{"one attempt", "GET", func(p *retry.Policy) { onErrors(p); p.Attempts = 1 }, []string{failed(503, "no")}, 503, "no", 1, nil},
		{"no budget", "GET", func(p *retry.Policy) { onErrors(p); p.Budget = retry.Limits{} }, []string{failed(503, "its own words")}, 503, "its own words", 1,
			[]string{"status budget"}},
		{"five attempts", "GET", func(p *retry.Policy) { onErrors(p); p.Attempts = 5 }, []string{failed(503, "no")}, 503, "no", 5,
			[]string{"status made", "status made", "status made", "status made", "status spent"}},
	} {
		for _, version := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, HTTP/%d", c.name, version), func(t *testing.T) {
				change := repeating(c.change)
				if version == 2 {
					change = overStreams(false, repeating(c.change))
				}
				s := newStage(t, calm(), HTTP, change, threeOrigins...)
				asked := s.origins(func(n int, _ string, p *sim.Peer, _ request) {
					text := c.answers[min(n, len(c.answers)-1)]
					p.Send(text)
					if strings.HasSuffix(text, "\r\n\r\nno") && !strings.Contains(text, "Length") {
						p.CloseWrite()
					}
				})
				status, body := 0, ""
				if version == 1 {
					p := s.dial(c.method + " / HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n")
					a := s.answered(p, 1, 5*time.Second)[0]
					status, body = a.status, a.body
					p.Close()
				} else {
					f := s.dialStreams()
					stream := f.open(true, ":method", c.method, ":scheme", "http", ":authority", "api", ":path", "/")
					s.until(5*time.Second, "the answer", stream.Ended)
					fmt.Sscan(stream.head[":status"], &status)
					body = stream.data.String()
					f.p.Close()
				}
				if status != c.status || body != c.body {
					t.Errorf("%d %q", status, body)
				}
				if len(*asked) != c.asked {
					t.Errorf("asked %q", *asked)
				}
				for i := range min(len(*asked), 3) {
					if slices.Contains((*asked)[:i], (*asked)[i]) {
						t.Errorf("the same endpoint twice, with others left: %q", *asked)
					}
				}
				r := s.record(1)
				if r.Reason != policy.None || r.Status != c.status || len(r.Tries) != c.asked || r.Attempts != c.asked {
					t.Errorf("recorded %v, %d, %d tries of %d attempts", r.Reason, r.Status, len(r.Tries), r.Attempts)
				}
				s.repeats(c.repeats...)
			})
		}
	}
}

// TestSimDiscardedAnswersLeaveTheirConnection: where the answer's end is there, the next
// request uses the connection again.
func TestSimDiscardedAnswersLeaveTheirConnection(t *testing.T) {
	for _, c := range []struct {
		name, answer string
		kept         bool
	}{
		{"whole", failed(503, "no"), true},
		{"empty", failed(503, ""), true},
		{"long", failed(503, strings.Repeat("x", 50<<10)), true},
		{"too long", failed(503, strings.Repeat("x", 200<<10)), false},
		{"cut", "HTTP/1.1 503 No\r\nContent-Length: 10\r\n\r\nno", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := calm()
			o.SendBuffer, o.ReceiveBuffer = 1<<20, 1<<20
			s := newStage(t, o, HTTP, repeating(func(p *retry.Policy) {
				onErrors(p)
				p.Backoff = retry.Backoff{Base: 50 * time.Millisecond, Max: time.Second}
			}), originAddr)
			var conns []*sim.Peer
			n := 0
			s.origin(originAddr, func(p *sim.Peer, _ request) {
				conns = append(conns, p)
				if n++; n == 1 {
					p.Send(c.answer)
				} else {
					p.Send(ok("yes"))
				}
			})
			p := s.dial(get1("/"))
			if a := s.answered(p, 1, 5*time.Second)[0]; a.body != "yes" {
				t.Errorf("%+v", a)
			}
			if kept := conns[0] == conns[1]; kept != c.kept {
				t.Errorf("used again: %v", kept)
			}
			p.Close()
			s.repeats("status made")
		})
	}
}

// TestSimTimeOfAnAttempt: per try, with the rest of the request's time.
func TestSimTimeOfAnAttempt(t *testing.T) {
	for _, c := range []struct {
		name    string
		method  string
		request time.Duration
		on      retry.CauseSet
		silent  int // endpoints
		status  int
		reason  policy.Reason
		after   time.Duration
		asked   int
	}{
		{"the second answers", "GET", 0, retry.Of(retry.Timeout), 1, 200, policy.None, time.Second, 2},
		{"none answers", "GET", 0, retry.Of(retry.Timeout), 9, 504, policy.TryTimeout, 3 * time.Second, 3},
		{"it is not repeated", "GET", 0, retry.Of(retry.Reset), 9, 504, policy.TryTimeout, time.Second, 1},
		{"not idempotent", "POST", 0, retry.Of(retry.Timeout), 9, 504, policy.TryTimeout, time.Second, 1},
		{"the request's time is shorter", "GET", 1500 * time.Millisecond, retry.Of(retry.Timeout), 9, 504, policy.RequestDeadline, 1500 * time.Millisecond, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newStage(t, calm(), HTTP, func(_ *ListenerConfig, set *upstream.Settings) {
				set.Timeouts.Request = c.request
				set.Retries.On, set.Retries.PerTry, set.Retries.Backoff = c.on, time.Second, retry.Backoff{}
			}, threeOrigins...)
			asked := s.origins(func(n int, _ string, p *sim.Peer, _ request) {
				if n >= c.silent {
					p.Send(ok("yes"))
				}
			})
			began := s.w.Now()
			p := s.dial(c.method + " / HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n")
			a := s.answered(p, 1, 10*time.Second)[0]
			s.after("the answer", began, c.after)
			if a.status != c.status || len(*asked) != c.asked {
				t.Errorf("%+v, asked %q", a, *asked)
			}
			if r := s.record(1); r.Reason != c.reason || len(r.Tries) != c.asked || c.silent > 0 && r.Tries[0].Reason != policy.TryTimeout {
				t.Errorf("%v, %+v", r.Reason, r.Tries)
			}
			p.Close()
			s.repeats(s.records.repeats...)
		})
	}
}

// TestSimTimeOfAnAttemptAndUploads: the time stands still while the client sends.
func TestSimTimeOfAnAttemptAndUploads(t *testing.T) {
	s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) {
		p.On, p.PerTry = retry.Of(retry.Timeout), time.Second
	}), threeOrigins...)
	asked := s.origins(func(n int, _ string, p *sim.Peer, q request) {
		if n > 0 {
			p.Send(ok(q.body))
		}
	})
	p := s.dial("PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 6\r\n\r\nab")
	s.w.RunFor(3 * time.Second)
	p.Send("cd")
	s.w.RunFor(3 * time.Second)
	if len(s.records.repeats) != 0 {
		t.Errorf("repeated while the client sends: %q", s.records.repeats)
	}
	began := s.w.Now()
	p.Send("ef")
	if a := s.answered(p, 1, 5*time.Second)[0]; a.body != "abcdef" || len(*asked) != 2 {
		t.Errorf("%+v, asked %q", a, *asked)
	}
	if took := s.w.Now().Sub(began); took < time.Second || took > 1200*time.Millisecond {
		t.Errorf("after %v", took)
	}
	p.Close()
}

// TestSimBackoff: its times are those of the policy, and a client that leaves meanwhile ends
// the exchange.
func TestSimBackoff(t *testing.T) {
	policyOf := repeating(func(p *retry.Policy) {
		p.Attempts, p.Backoff = 6, retry.Backoff{Base: 100 * time.Millisecond, Max: 400 * time.Millisecond}
		p.Budget = retry.Limits{Percent: 1000, Min: 1000}
	})
	s := newStage(t, calm(), HTTP, policyOf, originAddr)
	var at []time.Time
	s.origin(originAddr, func(p *sim.Peer, _ request) {
		at = append(at, s.w.Now())
		p.Reset()
	})
	for range 20 {
		p := s.dial(get1("/"))
		s.answered(p, 1, 5*time.Second)
		p.Close()
		s.w.RunFor(time.Second)
	}
	if len(at) != 20*6 {
		t.Fatalf("%d attempts", len(at))
	}
	for try, most := range []time.Duration{100, 200, 400, 400, 400} {
		most = most*time.Millisecond + slack
		longest := time.Duration(0)
		for i := try; i+1 < len(at); i += 6 {
			longest = max(longest, at[i+1].Sub(at[i]))
		}
		if longest > most || longest < most/2 {
			t.Errorf("repeat %d waited for up to %v, want up to %v", try+1, longest, most)
		}
	}

	s.origin("10.0.2.9:80", func(p *sim.Peer, _ request) { p.Reset() })
	s.endpoints("10.0.2.9:80")
	s.service.Settings().Retries.Backoff = retry.Backoff{Base: time.Hour, Max: time.Hour}
	p := s.dial(get1("/"))
	s.w.RunFor(100 * time.Millisecond)
	p.Reset()
	if r := s.record(21); r.Reason != policy.ClientAborted || len(r.Tries) != 1 {
		t.Errorf("%v, %+v", r.Reason, r.Tries)
	}
}

// TestSimBudgetIsShared: repeats over the budget are not made, and the client gets what the
// endpoint said.
func TestSimBudgetHoldsAStorm(t *testing.T) {
	s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) {
		onErrors(p)
		p.Budget = retry.Limits{Percent: 20, Min: 3}
	}), threeOrigins...)
	asked := s.origins(func(_ int, _ string, p *sim.Peer, _ request) {
		s.w.After(10*time.Millisecond, func() { p.Send(failed(503, "no")) })
	})
	const clients, each = 50, 20
	began := s.w.Now()
	for range each {
		var all []*sim.Peer
		for range clients {
			all = append(all, s.dial(get1("/")))
		}
		for _, p := range all {
			if a := s.answered(p, 1, 10*time.Second)[0]; a.status != 503 || a.body != "no" {
				t.Errorf("%+v", a)
			}
			p.Close()
		}
	}
	floor := 3 * (10 + s.w.Now().Sub(began).Seconds())
	if most := 1.2*clients*each + floor; float64(len(*asked)) > most {
		t.Errorf("%d attempts for %d requests, want at most %v", len(*asked), clients*each, most)
	}
	made := len(*asked) - clients*each
	if made < clients*each/10 {
		t.Errorf("%d repeats: the budget is not used", made)
	}
	if n := s.service.Repeats.Repeats(); n != 0 {
		t.Errorf("%d places of the budget are taken", n)
	}
}

// TestSimRouteReplacesRetries: those of the route hold, not the service's.
func TestSimRouteReplacesRetries(t *testing.T) {
	s := newStage(t, calm(), HTTP, func(c *ListenerConfig, set *upstream.Settings) {
		onErrors(set.Retries)
		c.Routes[0].Retries = &retry.Policy{Attempts: 2, On: retry.Of(retry.Reset), Budget: retry.Limits{Percent: 20, Min: 3}}
	}, threeOrigins...)
	asked := s.origins(func(n int, _ string, p *sim.Peer, _ request) {
		if n == 0 {
			p.Reset()
		} else {
			p.Send(failed(503, "no"))
		}
	})
	p := s.dial(get1("/"))
	if a := s.answered(p, 1, time.Second)[0]; a.status != 503 || len(*asked) != 2 {
		t.Errorf("%+v, asked %q", a, *asked)
	}
	p.Close()
	s.repeats("reset made")
}

// TestSimRepeatEndsWithItsHead: a repeat whose answer has begun takes no place in the budget,
// however long it goes on.
func TestSimRepeatEndsWithItsHead(t *testing.T) {
	s := newStage(t, calm(), HTTP, nil, threeOrigins...)
	s.origins(func(n int, _ string, p *sim.Peer, _ request) {
		if n == 0 {
			p.Reset()
			return
		}
		if n := s.service.Repeats.Repeats(); n != 1 {
			t.Errorf("%d repeats under way while one is", n)
		}
		p.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	})
	p := s.dial(get1("/"))
	s.until(time.Second, "the head", func() bool { return strings.Contains(p.Got(), "half") })
	s.repeats("reset made")
	p.Reset()
	s.record(1)
}
