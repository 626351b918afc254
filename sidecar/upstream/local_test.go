package upstream

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

func TestPick(t *testing.T) {
	r := newRig(t, engine.Options{})
	a, b := "10.0.0.1:1", "10.0.0.2:1"
	for _, c := range []struct {
		name   string
		set    func(*Service, int64)
		reason policy.Reason
		want   map[string]bool
	}{
		{"no endpoints", func(s *Service, _ int64) { update(s) }, policy.NoEndpoints, nil},
		{"all", func(*Service, int64) {}, policy.None, map[string]bool{a: true, b: true}},
		{"one down", func(s *Service, _ int64) { s.Set().Members[0].SetDown(true) }, policy.None, map[string]bool{b: true}},
		{"all down", func(s *Service, _ int64) { s.Set().Members[0].SetDown(true); s.Set().Members[1].SetDown(true) }, policy.NoHealthyEndpoint, nil},
		{"one suspect", func(s *Service, now int64) { s.Set().Members[0].connectFailed(now, policy.ConnectFailed) }, policy.None, map[string]bool{b: true, a: true}},
		{"all suspect", func(s *Service, now int64) {
			s.Set().Members[0].connectFailed(now, policy.ConnectFailed)
			s.Set().Members[1].connectFailed(now, policy.ConnectFailed)
		}, policy.None, map[string]bool{a: true, b: true}},
		{"a suspect and one down", func(s *Service, now int64) {
			s.Set().Members[0].connectFailed(now, policy.ConnectFailed)
			s.Set().Members[1].SetDown(true)
		}, policy.None, map[string]bool{a: true}},
		{"weight 0 is not picked", func(s *Service, _ int64) {
			s.Update(discovery.Update{Endpoints: []discovery.Endpoint{{ID: a, Address: a}, {ID: b, Address: b, Weight: 1}}})
		}, policy.None, map[string]bool{b: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := service(nil, a, b)
			r.on(func(l *Local) {
				c.set(s, l.loop.Nanos())
				var tried Tried
				got := map[string]bool{}
				var reason policy.Reason
				first := ""
				for range 3 {
					choice, err := l.Pick(s, &tried)
					if err != nil {
						reason = policy.ReasonOf(err)
						break
					}
					if first == "" {
						first = choice.Member.Address
					}
					got[choice.Member.Address] = true
					l.Done(&choice, policy.Outcome{Connected: true, Reason: policy.ClientAborted, Side: policy.Downstream})
				}
				if fmt.Sprint(got) != fmt.Sprint(c.want) && len(got)+len(c.want) > 0 {
					t.Errorf("picked %v, want %v", got, c.want)
				}
				if c.reason != policy.None && reason != c.reason {
					t.Errorf("reason %v, want %v", reason, c.reason)
				}
				if c.name == "one suspect" && first != b {
					t.Errorf("a suspect first")
				}
			})
			for _, m := range s.Set().Members {
				if m.Inflight() != 0 {
					t.Errorf("%s: %d in flight", m.Address, m.Inflight())
				}
			}
		})
	}
}

// The endpoints tried are those of the set they were picked from.
func TestTriedEndsWithItsSet(t *testing.T) {
	r := newRig(t, engine.Options{})
	s := service(nil, "10.0.0.1:1")
	r.on(func(l *Local) {
		var tried Tried
		first, _ := l.Pick(s, &tried)
		if _, err := l.Pick(s, &tried); err == nil {
			t.Error("the only endpoint was picked twice")
		}
		update(s, "10.0.0.2:1")
		second, err := l.Pick(s, &tried)
		if err != nil || second.Member.Address != "10.0.0.2:1" {
			t.Fatalf("a new endpoint passes for tried: %v", err)
		}
		l.Done(&first, policy.Outcome{Connected: true})
		l.Done(&second, policy.Outcome{Connected: true})
		if first.Member.Inflight() != 0 || second.Member.Inflight() != 0 {
			t.Error("in flight after Done")
		}
	})
}

// What an outcome says of an endpoint: that it accepts connections, that it does
// not, or nothing.
func TestOutcomesMarkEndpoints(t *testing.T) {
	r := newRig(t, engine.Options{})
	for _, c := range []struct {
		name            string
		outcome         policy.Outcome
		clears, suspect bool
	}{
		{"answered", policy.Outcome{Connected: true, Status: 200}, true, false},
		{"answered with 500", policy.Outcome{Connected: true, Status: 500}, true, false},
		{"refused", policy.Outcome{Reason: policy.ConnectFailed, Side: policy.Upstream}, false, true},
		{"connect timeout", policy.Outcome{Reason: policy.ConnectTimeout, Side: policy.Upstream}, false, true},
		{"tls", policy.Outcome{Reason: policy.UpstreamTLS, Side: policy.Upstream}, false, true},
		{"request deadline while connecting", policy.Outcome{Reason: policy.RequestDeadline, Side: policy.Upstream}, false, false},
		{"client gone while connecting", policy.Outcome{Reason: policy.ClientAborted, Side: policy.Downstream}, false, false},
		{"no identity of ours", policy.Outcome{Reason: policy.NoIdentity}, false, false},
		{"draining", policy.Outcome{Reason: policy.Draining}, false, false},
		{"a kept connection died", policy.Outcome{Connected: true, Reason: policy.UpstreamReset, Side: policy.Upstream}, false, false},
		{"silent", policy.Outcome{Connected: true, Reason: policy.UpstreamTimeout, Side: policy.Upstream}, false, false},
		{"client gone while waiting", policy.Outcome{Connected: true, Reason: policy.ClientAborted, Side: policy.Downstream}, false, false},
	} {
		for _, already := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", suspect before ", already), func(t *testing.T) {
				s := service(nil, "10.0.0.1:1")
				r.on(func(l *Local) {
					now := l.loop.Nanos()
					choice, _ := l.Pick(s, &Tried{})
					if already {
						choice.Member.connectFailed(now, policy.ConnectFailed)
					}
					l.Done(&choice, c.outcome)
					if want := c.suspect || already && !c.clears; choice.Member.Suspect(now) != want {
						t.Errorf("suspect %v, want %v", !want, want)
					}
				})
			})
		}
	}
}

func TestConnectErrors(t *testing.T) {
	for _, c := range []struct {
		err       error
		reason    policy.Reason
		side      policy.Side
		retryable bool
	}{
		{syscall.ECONNREFUSED, policy.ConnectFailed, policy.Upstream, true},
		{syscall.EHOSTUNREACH, policy.ConnectFailed, policy.Upstream, true},
		{engine.ErrTimeout, policy.ConnectTimeout, policy.Upstream, true},
		{os.ErrDeadlineExceeded, policy.ConnectTimeout, policy.Upstream, true},
		{engine.ErrPeerReset, policy.ClientAborted, policy.Downstream, false},
		{engine.ErrDrain, policy.Draining, policy.Internally, false},
		{engine.ErrOverload, policy.Overloaded, policy.Internally, false},
	} {
		var e *policy.Error
		if !errors.As(connectError(fmt.Errorf("engine: dial: %w", c.err)), &e) {
			t.Errorf("%v: no policy error", c.err)
		} else if e.Reason != c.reason || e.Side != c.side || e.Retryable != c.retryable || e.Phase != policy.PhaseConnect || e.MaybeProcessed || !errors.Is(e, c.err) {
			t.Errorf("%v: %+v", c.err, *e)
		}
	}
}

func TestDialFailures(t *testing.T) {
	a := authority(t)
	web := current(issued(t, a, "/web"))
	mesh := &Mesh{Identity: web, Path: "/api"}
	imposter := current(issued(t, a, "/imposter")).Snapshot().ServerConfig(identity.AnyTrusted())
	stranger := current(issued(t, authority(t), "/api")).Snapshot().ServerConfig(identity.AnyTrusted())
	for _, c := range []struct {
		name    string
		mesh    *Mesh
		address string
		within  time.Duration
		reason  policy.Reason
		side    policy.Side
		suspect bool
	}{
		{"refused", nil, closed(t), 0, policy.ConnectFailed, policy.Upstream, true},
		{"no address", nil, "unix:///nowhere", 0, policy.ConnectFailed, policy.Upstream, true},
		{"handshake that never ends", mesh, silent(t), 50 * time.Millisecond, policy.ConnectTimeout, policy.Upstream, true},
		{"plain text", mesh, origin(t, nil), 0, policy.UpstreamTLS, policy.Upstream, true},
		{"another service", mesh, origin(t, imposter), 0, policy.UpstreamTLSIdentity, policy.Upstream, true},
		{"another authority", mesh, origin(t, stranger), 0, policy.UpstreamTLSIdentity, policy.Upstream, true},
		{"no identity of ours", &Mesh{Identity: identity.NewCurrent(nil), Path: "/api"}, origin(t, nil), 0, policy.NoIdentity, policy.Internally, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, s := newRig(t, engine.Options{}), service(c.mesh, c.address)
			if c.within > 0 {
				settings := *s.Settings()
				settings.Timeouts.Connect = c.within
				s.Configure(&settings)
			}
			r.on(func(l *Local) {
				choice, err := l.Pick(s, &Tried{})
				if err != nil {
					t.Fatal(err)
				}
				_, err = l.Acquire(&choice, false)
				var e *policy.Error
				if !errors.As(err, &e) || e.Reason != c.reason || e.Side != c.side || e.MaybeProcessed {
					t.Fatalf("%v, want %v of %v", err, c.reason, c.side)
				}
				l.Done(&choice, policy.Outcome{Reason: e.Reason, Side: e.Side})
				if m := choice.Member; m.Suspect(l.loop.Nanos()) != c.suspect || m.Inflight() != 0 {
					t.Errorf("suspect %v, %d in flight", !c.suspect, m.Inflight())
				}
			})
			eventually(t, "no connection to be left", func() bool { return r.engine.Stats().Total().Conns == 0 })
		})
	}
}

// A client that leaves while we shake hands with the endpoint says nothing of it.
func TestAHandshakeThatIsGivenUp(t *testing.T) {
	for _, cause := range []error{engine.ErrPeerReset, engine.ErrDrain} {
		t.Run(cause.Error(), func(t *testing.T) {
			r := newRig(t, engine.Options{})
			s := service(&Mesh{Identity: current(issued(t, authority(t), "/web")), Path: "/api"}, silent(t))
			var task *engine.Task
			var err error
			done := r.start(0, func(t *engine.Task, l *Local) {
				task = t
				choice, _ := l.Pick(s, &Tried{})
				_, err = l.Acquire(&choice, false)
				l.Done(&choice, policy.Outcome{})
			})
			eventually(t, "the connection", func() bool { return r.engine.Stats().Total().Dialled == 1 })
			r.locals[0].loop.Post(func() { task.Cancel(cause) })
			<-done
			var e *policy.Error
			if !errors.As(err, &e) || e.Side == policy.Upstream || e.Retryable {
				t.Errorf("%v", err)
			}
		})
	}
}

// Many exchanges of all fates on two loops, while endpoints come and go, certificates
// rotate and settings change: every choice is given back, and no connection is
// used beyond the certificate that it was made under.
func TestEveryChoiceIsGivenBack(t *testing.T) {
	r := newRig(t, engine.Options{Loops: 2})
	a := authority(t)
	server := current(issued(t, a, "/api")).Snapshot().ServerConfig(identity.AnyTrusted())
	good, second, bad := origin(t, server), origin(t, server), closed(t)
	web := current(issued(t, a, "/web"))
	s := service(&Mesh{Identity: web, Path: "/api"}, good, second, bad)
	endpoints := map[*Endpoint]bool{}
	note := func() {
		for _, m := range s.Set().Members {
			endpoints[m.Endpoint] = true
		}
	}
	note()
	var running []<-chan struct{}
	for i := range 16 {
		running = append(running, r.start(i%2, func(task *engine.Task, l *Local) {
			made := map[*Conn]uint64{} // the newest generation each may be of
			for range 60 {
				before := web.Snapshot().Generation()
				choice, err := l.Pick(s, &Tried{})
				if err != nil {
					continue
				}
				conn, err := l.Acquire(&choice, rand.IntN(8) == 0)
				o := policy.Outcome{Reason: policy.ReasonOf(err), Side: policy.Upstream, Connected: err == nil}
				if err == nil {
					if made[conn] == 0 {
						made[conn] = web.Snapshot().Generation()
					}
					if conn.Reused && made[conn] < before {
						t.Errorf("a connection of generation %d at most was used under %d", made[conn], before)
					}
					switch rand.IntN(4) {
					case 0:
						l.Close(conn)
					case 1:
						task.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond)
						l.Put(conn)
					default:
						if exchange(conn) != nil {
							l.Close(conn)
						} else {
							l.Put(conn)
						}
					}
				}
				l.Done(&choice, o)
			}
		}))
	}
	sets := [][]string{{good, bad}, {second}, {}, {good, second, bad}}
	for i := range 40 {
		update(s, sets[i%len(sets)]...)
		note()
		if i%4 == 0 {
			web.Set(issued(t, a, "/web"))
		}
		settings := *s.Settings()
		settings.Balance = []string{"round_robin", "random", "p2c"}[i%3]
		s.Configure(&settings)
		for j := range r.locals {
			r.locals[j].loop.Post(func() { r.locals[j].Trim(s) })
		}
		time.Sleep(time.Millisecond) // spread over the exchanges
	}
	for _, done := range running {
		<-done
	}
	for e := range endpoints {
		if n := e.Inflight(); n != 0 {
			t.Errorf("%s: %d in flight at the end", e.Address, n)
		}
	}
}
