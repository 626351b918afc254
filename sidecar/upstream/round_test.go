package upstream

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// mill picks on two loops of a simulated world, whose time is the test's to move.
type mill struct {
	t      *testing.T
	w      *sim.World
	locals []*Local
	s      *Service
}

var (
	fine      = policy.Outcome{Connected: true, Status: 200}
	broken    = policy.Outcome{Connected: true, Status: 503}
	abandoned = policy.Outcome{Connected: true, Reason: policy.ClientAborted, Side: policy.Downstream}
)

func newMill(t *testing.T, s *Settings, endpoints int) *mill {
	t.Helper()
	m := &mill{t: t, w: sim.New(sim.Options{Seed: 1}), s: NewService("api", s)}
	e, err := m.w.Host("10.9.9.9").Engine(engine.Options{Loops: 2})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.w.Close() })
	for _, l := range e.Loops() {
		m.locals = append(m.locals, NewLocal(l, func(string, policy.Reason) {}))
	}
	m.have(endpoints)
	m.pass(time.Second)
	return m
}

func (m *mill) have(n int) {
	u := discovery.Update{}
	for i := range n {
		address := fmt.Sprintf("10.0.0.%d:80", i+1)
		u.Endpoints = append(u.Endpoints, discovery.Endpoint{ID: address, Address: address, Weight: 1})
	}
	m.s.Update(u)
}

// now is the loops' time.
func (m *mill) now() (n int64) {
	m.on(0, func(l *Local) { n = l.loop.Nanos() })
	return n
}

// on runs f on a loop.
func (m *mill) on(loop int, f func(*Local)) {
	m.locals[loop].loop.Post(func() { f(m.locals[loop]) })
	m.w.RunFor(0)
}

// pass lets time go on, with the sweeps that there are each second.
func (m *mill) pass(d time.Duration) {
	for ; d > time.Second; d -= time.Second {
		m.w.RunFor(time.Second)
		m.s.Sweep(m.now())
	}
	m.w.RunFor(d)
	m.s.Sweep(m.now())
}

// pick is one pick; -1: none, for a reason.
func (m *mill) pick(loop int, t *Tried) (c Choice, at int, why policy.Reason) {
	m.on(loop, func(l *Local) {
		var err error
		if c, err = l.Pick(m.s, t); err != nil {
			at, why = -1, policy.ReasonOf(err)
			return
		}
		at = slices.IndexFunc(m.s.Set().Members, func(o Member) bool { return o.Endpoint == c.Member.Endpoint })
	})
	return c, at, why
}

func (m *mill) done(loop int, c Choice, o policy.Outcome) {
	m.on(loop, func(l *Local) { l.Done(&c, o) })
}

// calls makes n exchanges, whose outcome is that of their endpoint, and counts them.
func (m *mill) calls(n int, of ...policy.Outcome) (counts []int) {
	m.t.Helper()
	counts = make([]int, len(m.s.Set().Members))
	for i := range n {
		c, at, why := m.pick(i%2, &Tried{})
		if at < 0 {
			m.t.Fatalf("call %d of %d: %v", i, n, why)
		}
		counts[at]++
		m.done(i%2, c, of[min(at, len(of)-1)])
	}
	return counts
}

func (m *mill) wantNone(why policy.Reason) {
	m.t.Helper()
	for loop := range 2 {
		if c, at, got := m.pick(loop, &Tried{}); got != why {
			m.t.Errorf("picked %d, %v; want none, %v", at, got, why)
			if at >= 0 {
				m.done(loop, c, abandoned)
			}
		}
	}
}

func (m *mill) breakerIs(i int, want breaker.State) {
	m.t.Helper()
	if v, ok := m.s.Breaker(m.s.Set().Members[i].Endpoint, m.now()); v.State != want || !ok {
		m.t.Errorf("the breaker of %d is %v, want %v", i, v.State, want)
	}
}

func (m *mill) wantOut(want ...int) {
	m.t.Helper()
	var out []int
	for i, o := range m.s.Set().Members {
		if v, _ := m.s.Ejection(o.Endpoint, m.now()); v.Out {
			out = append(out, i)
		}
	}
	if !slices.Equal(out, want) {
		m.t.Errorf("ejected are %v, want %v", out, want)
	}
}

// end looks for what must not be left behind.
func (m *mill) end() {
	m.t.Helper()
	for _, o := range m.s.Set().Members {
		if n := o.Inflight(); n != 0 {
			m.t.Errorf("%s: %d in flight", o.Address, n)
		}
	}
}

// Breakers open, half-open and close as configured, for all loops at once.
func TestBreakersKeepPicksAway(t *testing.T) {
	m := newMill(t, &Settings{Balance: "round_robin", Breaker: usualBreaker()}, 2)
	m.calls(9, broken, fine)
	m.breakerIs(0, breaker.Closed)
	m.calls(1, broken, fine)
	m.breakerIs(0, breaker.Open)
	if got := m.calls(20, broken, fine); got[0] != 0 || got[1] != 20 {
		t.Errorf("calls %v while the first is open", got)
	}
	m.calls(5, fine, broken)
	m.wantNone(policy.BreakerOpen)
	m.pass(10*time.Second - 1)
	m.wantNone(policy.BreakerOpen)
	m.pass(1)
	m.breakerIs(0, breaker.HalfOpen)
	first, at, _ := m.pick(0, &Tried{})
	second, other, _ := m.pick(1, &Tried{})
	if at == other || at < 0 || other < 0 {
		t.Errorf("probes at %d and %d, want one at each", at, other)
	}
	m.wantNone(policy.BreakerOpen)
	m.done(1, second, fine)
	m.breakerIs(other, breaker.Closed)
	m.breakerIs(at, breaker.HalfOpen)
	if got := m.calls(10, fine); got[at] != 0 {
		t.Errorf("calls %v beside a probe", got)
	}
	m.done(0, first, broken)
	m.breakerIs(at, breaker.Open)
	m.pass(10 * time.Second)
	if got := m.calls(20, fine); got[at] < 8 || got[at] > 12 {
		t.Errorf("calls %v after a probe has succeeded", got)
	}
	m.end()
}

// An attempt that is cancelled, or of which nothing is ever heard, does not wedge a breaker.
func TestProbesThatComeToNothing(t *testing.T) {
	m := newMill(t, &Settings{Balance: "p2c", Breaker: usualBreaker()}, 1)
	m.calls(5, broken)
	m.pass(10 * time.Second)
	for i := range 50 {
		c, at, why := m.pick(i%2, &Tried{})
		if at != 0 {
			t.Fatalf("probe %d: %v", i, why)
		}
		m.done(i%2, c, abandoned)
	}
	for range 3 {
		if _, at, why := m.pick(0, &Tried{}); at != 0 {
			t.Fatal(why)
		}
		m.pass(32*time.Second - 1)
		m.wantNone(policy.BreakerOpen)
		m.pass(1)
	}
	m.calls(1, fine)
	m.breakerIs(0, breaker.Closed)
}

// An endpoint that is out gets nothing; afterwards it gets more and more, whatever the
// balance.
func TestEjectedEndpointsReturnGradually(t *testing.T) {
	for _, balance := range []string{"round_robin", "random", "p2c"} {
		t.Run(balance, func(t *testing.T) {
			m := newMill(t, &Settings{Balance: balance, Ejection: usualEjection()}, 4)
			for i := 0; len(m.ejected()) == 0; i++ {
				if m.calls(1, broken, fine); i > 200 {
					t.Fatal("not ejected after 200 calls")
				}
			}
			m.wantOut(0)
			if got := m.calls(1000, broken, fine); got[0] != 0 {
				t.Errorf("%d calls to an ejected endpoint", got[0])
			}
			m.pass(30*time.Second - 1)
			if got := m.calls(100, broken, fine); got[0] != 0 {
				t.Errorf("%d calls to an ejected endpoint", got[0])
			}
			m.pass(1)
			m.wantOut()
			for _, share := range []float64{0.1, 0.5, 0.9, 1} {
				m.pass(time.Duration(share*float64(30*time.Second)) - time.Duration(m.now()-m.returned()))
				got := m.calls(2000, fine)
				// A pick in 4, times its share, among those that are left.
				want := 2000 * share / (3 + share)
				if d := float64(got[0]) - want; d > 90 || d < -90 {
					t.Errorf("with a share of %v: calls %v, want about %.0f", share, got, want)
				}
			}
			m.end()
		})
	}
}

// returned is when the first endpoint has.
func (m *mill) returned() int64 {
	v, _ := m.s.Ejection(m.s.Set().Members[0].Endpoint, m.now())
	return v.Until
}

func (m *mill) ejected() (all []int) {
	for i, o := range m.s.Set().Members {
		if o.ejection.Out(m.now()) {
			all = append(all, i)
		}
	}
	return all
}

// When every endpoint fails, the cap keeps as many in as it says; one alone stays in always.
func TestTheCapKeepsEndpointsIn(t *testing.T) {
	for _, c := range []struct{ n, percent, out int }{{1, 99, 0}, {2, 50, 1}, {3, 50, 1}, {4, 50, 2}, {4, 20, 0}, {10, 30, 3}} {
		m := newMill(t, &Settings{Balance: "round_robin", Ejection: usualEjection()}, c.n)
		m.s.Settings().Ejection.MaxPercent = c.percent
		m.calls(100*c.n, broken)
		if got := len(m.ejected()); got != c.out {
			t.Errorf("%d of %d are out, want %d", got, c.n, c.out)
		}
		if m.s.Capped() == 0 || m.s.Ejections(eject.InARow) != uint64(c.out) {
			t.Errorf("counted: %d capped, %d ejected", m.s.Capped(), m.s.Ejections(eject.InARow))
		}
	}
}

// Ejection leaves somebody to pick, whatever keeps the others away; a repeat does not go to
// the ejected while the first attempt had somebody else.
func TestSomebodyIsLeft(t *testing.T) {
	m := newMill(t, &Settings{Balance: "round_robin", Ejection: usualEjection()}, 2)
	m.calls(10, broken, fine)
	m.wantOut(0)
	var tried Tried
	c, at, _ := m.pick(0, &tried)
	if at != 1 {
		t.Fatalf("picked %d", at)
	}
	if _, again, why := m.pick(0, &tried); again != -1 || why != policy.NoHealthyEndpoint {
		t.Errorf("a repeat goes to the ejected endpoint %d, %v", again, why)
	}
	m.done(0, c, fine)

	m.s.Set().Members[1].SetDown(true)
	tried.Reset()
	c, at, why := m.pick(0, &tried)
	if at != 0 {
		t.Fatalf("nobody is left beside the ejected: %v", why)
	}
	m.done(0, c, fine)
	m.pass(time.Second) // one of one may not be out
	m.wantOut()

	m = newMill(t, &Settings{Balance: "round_robin", Ejection: usualEjection(), MaxConnections: 1}, 2)
	m.calls(10, broken, fine)
	c, at, _ = m.pick(0, &Tried{})
	if at != 1 {
		t.Fatalf("picked %d", at)
	}
	m.wantNone(policy.EndpointLimit) // it is busy, which is no reason to go to the other
	m.done(0, c, fine)
	m.end()
}

// With both, what is ejected is tried before nothing is, what is open never.
func TestBreakersAndEjection(t *testing.T) {
	m := newMill(t, &Settings{Balance: "round_robin", Ejection: usualEjection(), Breaker: usualBreaker()}, 2)
	m.s.Settings().Breaker.Failures = 8
	m.calls(10, broken, fine)
	m.wantOut(0)
	m.breakerIs(0, breaker.Closed)
	m.calls(8, fine, broken)
	m.breakerIs(1, breaker.Open)
	m.wantOut(0)
	if got := m.calls(2, broken); got[0] != 2 {
		t.Errorf("calls %v, want both to the ejected", got)
	}
	m.calls(1, broken)
	m.wantNone(policy.BreakerOpen)
}

// State outlives sets and reloads; other settings take effect; none, and nothing is held
// against anybody.
func TestReloads(t *testing.T) {
	both := func() *Settings {
		return &Settings{Balance: "round_robin", Ejection: usualEjection(), Breaker: usualBreaker()}
	}
	m := newMill(t, both(), 4)
	m.calls(20, broken, fine)
	m.breakerIs(0, breaker.Open)
	m.wantOut(0)
	m.have(5)
	m.s.Configure(both())
	m.breakerIs(0, breaker.Open)
	m.wantOut(0)
	patient := both()
	patient.Breaker.Open = time.Minute
	m.s.Configure(patient)
	m.pass(59 * time.Second)
	m.breakerIs(0, breaker.Open)
	m.pass(time.Second)
	m.breakerIs(0, breaker.HalfOpen)

	m = newMill(t, both(), 4)
	m.calls(40, broken, broken, fine)
	m.wantOut(0, 1)
	m.have(3)
	m.wantOut(1)
	strict := both()
	strict.Ejection.MaxPercent = 10
	m.s.Configure(strict)
	m.wantOut()
	m.breakerIs(0, breaker.Open)
	m.s.Configure(&Settings{Balance: "round_robin"})
	if got := m.calls(30, fine); got[0] != 10 {
		t.Errorf("calls %v after breakers and ejection were taken away", got)
	}
	m.s.Configure(both())
	m.breakerIs(0, breaker.Closed)
	m.end()
}

// What is said of breakers and ejection, once each.
func TestEvents(t *testing.T) {
	m := newMill(t, &Settings{Balance: "round_robin", Ejection: usualEjection(), Breaker: usualBreaker()}, 2)
	woken := 0
	m.s.OnEvent(func() { woken++ })
	m.calls(10, broken, fine)
	m.pass(60 * time.Second)
	m.calls(2, fine)
	all, lost := m.s.TakeEvents()
	var said []string
	for _, e := range all {
		text := e.Endpoint.Address
		if b := e.Breaker; b != nil {
			text += fmt.Sprintf(" %v to %v", b.From, b.To)
		}
		if j := e.Ejection; j != nil {
			text += fmt.Sprintf(" out %v %v", j.Out, j.For)
		}
		said = append(said, text)
	}
	a := "10.0.0.1:80 "
	want := []string{a + "closed to open", a + "out true 30s", a + "open to half-open", a + "out false 0s", a + "half-open to closed"}
	if !slices.Equal(said, want) || lost != 0 || woken != len(want) {
		t.Errorf("%q (%d lost, woken %d times), want %q", said, lost, woken, want)
	}
	if n := m.s.BreakerChanges(breaker.Open); n != 1 {
		t.Errorf("%d changes to open", n)
	}
	for range 2000 {
		m.s.noteBreaker(m.s.Set().Members[0].Endpoint, breaker.Change{To: breaker.Open})
	}
	if all, lost := m.s.TakeEvents(); len(all)+lost != 2000 || lost == 0 {
		t.Errorf("%d and %d lost", len(all), lost)
	}
}
