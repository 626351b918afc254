package breaker

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

var usual = Settings{Failures: 5, Open: 10 * time.Second, Probes: 1, Lease: 30 * time.Second, On: policy.AllFailures}

// bench is a gate on the virtual clock of a synctest bubble.
type bench struct {
	*Gate
	t       *testing.T
	start   time.Time
	s       Settings
	changes []string
}

func onClock(t *testing.T, s Settings, f func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{Gate: &Gate{}, t: t, start: time.Now(), s: s}
		b.OnChange = func(c Change) {
			b.changes = append(b.changes, fmt.Sprintf("%v %v->%v after %d", time.Duration(c.At), c.From, c.To, c.Failures))
		}
		f(b)
	})
}

func (b *bench) now() int64 { return int64(time.Since(b.start)) }

func (b *bench) enter() (Pass, bool) { return b.Enter(&b.s, b.now()) }

func (b *bench) leave(p Pass, v policy.Verdict) { b.Leave(p, &b.s, b.now(), v) }

// try makes one attempt at once.
func (b *bench) try(v policy.Verdict) bool {
	b.t.Helper()
	ready := b.Ready(b.now())
	p, ok := b.enter()
	if ok != ready {
		b.t.Errorf("at %v: ready %v, let through %v", b.now(), ready, ok)
	}
	if ok {
		b.leave(p, v)
	}
	return ok
}

func (b *bench) times(n int, v policy.Verdict) {
	b.t.Helper()
	for range n {
		if !b.try(v) {
			b.t.Fatalf("at %v: not let through", time.Duration(b.now()))
		}
	}
}

func (b *bench) is(want State) {
	b.t.Helper()
	if got := b.View(b.now()).State; got != want {
		b.t.Errorf("at %v: %v, want %v", time.Duration(b.now()), got, want)
	}
}

func (b *bench) saw(want ...string) {
	b.t.Helper()
	if !slices.Equal(b.changes, want) {
		b.t.Errorf("changes:\n%q, want\n%q", b.changes, want)
	}
}

// A breaker opens at the failure that is configured, is open for the time that is configured
// to the nanosecond, lets through the probes that are configured, and closes.
func TestAsConfigured(t *testing.T) {
	for _, s := range []Settings{usual, {Failures: 1, Open: time.Millisecond, Probes: 3, Lease: time.Second}, {Failures: 20, Open: time.Hour, Probes: 2, Lease: time.Hour}} {
		t.Run(fmt.Sprint(s.Failures, s.Open, s.Probes), func(t *testing.T) {
			onClock(t, s, func(b *bench) {
				time.Sleep(3 * time.Second)
				b.times(100, policy.Success)
				b.times(int(s.Failures)-1, policy.Failure)
				b.is(Closed)
				b.times(1, policy.Failure)
				b.is(Open)
				opened := b.now()
				time.Sleep(s.Open - 1)
				b.is(Open)
				if b.try(policy.Success) {
					t.Error("let through while open")
				}
				time.Sleep(1 * time.Nanosecond)
				b.is(HalfOpen)
				for range s.Probes {
					b.is(HalfOpen)
					b.times(1, policy.Success)
				}
				b.is(Closed)
				b.times(100, policy.Success)
				ends := b.now()
				b.saw(fmt.Sprintf("%v closed->open after %d", time.Duration(opened), s.Failures),
					fmt.Sprintf("%v open->half-open after %d", time.Duration(ends), s.Failures),
					fmt.Sprintf("%v half-open->closed after 0", time.Duration(ends)))
			})
		})
	}
}

func TestOnlyFailuresInARowCount(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		for range 50 {
			b.times(4, policy.Failure)
			b.times(3, policy.Neither)
			b.times(1, policy.Success)
		}
		b.times(4, policy.Failure)
		b.is(Closed)
		if v := b.View(b.now()); v.Failures != 4 {
			t.Errorf("%d failures in a row, want 4", v.Failures)
		}
		b.times(1, policy.Neither)
		b.times(1, policy.Failure)
		b.is(Open)
	})
}

func TestProbesAreBounded(t *testing.T) {
	s := usual
	s.Probes = 3
	onClock(t, s, func(b *bench) {
		b.times(5, policy.Failure)
		time.Sleep(10 * time.Second)
		var passes []Pass
		for range 3 {
			p, ok := b.enter()
			if !ok {
				t.Fatal("a probe is refused")
			}
			passes = append(passes, p)
		}
		if b.Ready(b.now()) {
			t.Error("ready for a fourth")
		}
		if _, ok := b.enter(); ok {
			t.Error("a fourth probe")
		}
		b.leave(passes[0], policy.Success)
		if _, ok := b.enter(); ok {
			t.Error("a success gives no place back: three of them are to close the gate")
		}
		b.leave(passes[1], policy.Failure)
		b.is(Open)
		b.leave(passes[2], policy.Success)
		b.is(Open)
		if v := b.View(b.now()); v.Failures != 6 || v.Probes != 0 || time.Duration(v.Until) != 20*time.Second {
			t.Errorf("%+v", v)
		}
	})
}

// What began before a change says nothing after it.
func TestLateOutcomes(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		old, _ := b.enter()
		older, _ := b.enter()
		b.times(5, policy.Failure)
		b.leave(older, policy.Success)
		b.is(Open)
		time.Sleep(10 * time.Second)
		probe, ok := b.enter()
		if !ok {
			t.Fatal("the probe is refused")
		}
		b.leave(old, policy.Failure)
		b.is(HalfOpen)
		b.leave(probe, policy.Success)
		b.is(Closed)
		b.leave(probe, policy.Failure)
		b.is(Closed)
	})
}

// A probe that is cancelled gives its place back, and one that is lost loses it with its
// lease: neither wedges the gate.
func TestCancelledAndLostProbes(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		b.times(5, policy.Failure)
		time.Sleep(10 * time.Second)
		for range 1000 {
			b.times(1, policy.Neither)
			b.is(HalfOpen)
		}
		for range 10 {
			if _, ok := b.enter(); !ok {
				t.Fatal("the probe is refused")
			}
			time.Sleep(30*time.Second - 1)
			if b.try(policy.Success) {
				t.Fatal("two probes at once")
			}
			time.Sleep(1 * time.Nanosecond)
		}
		b.times(1, policy.Success)
		b.is(Closed)
	})
}

// A probe that its endpoint has begun to answer, and that goes on for ever, is a success
// when its lease ends.
func TestLongAnswer(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		b.times(5, policy.Failure)
		time.Sleep(10 * time.Second)
		p, _ := b.enter()
		b.Answered(&p)
		time.Sleep(30 * time.Second)
		b.Turn(&b.s, b.now())
		b.is(Closed)
		b.leave(p, policy.Failure)
		b.is(Closed)
		if v := b.View(b.now()); v.Failures != 0 {
			t.Errorf("the end of a long answer counts: %+v", v)
		}
	})
}

// Turn shows what time has brought without an attempt.
func TestTurn(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		b.Turn(&b.s, b.now())
		b.times(5, policy.Failure)
		time.Sleep(10*time.Second - 1)
		b.Turn(&b.s, b.now())
		b.saw("0s closed->open after 5")
		time.Sleep(1 * time.Nanosecond)
		b.Turn(&b.s, b.now())
		b.Turn(&b.s, b.now())
		b.saw("0s closed->open after 5", "10s open->half-open after 5")
	})
}

func TestChangedSettings(t *testing.T) {
	patient, quick := usual, usual
	patient.Failures, patient.Open = 8, 20*time.Second
	quick.Failures, quick.Open = 2, time.Second
	onClock(t, usual, func(b *bench) {
		b.times(4, policy.Failure)
		b.s = patient
		b.times(3, policy.Failure)
		b.is(Closed)
		b.s = quick
		b.times(1, policy.Failure)
		b.is(Open)
		b.saw("0s closed->open after 2")
	})
	onClock(t, usual, func(b *bench) {
		b.times(5, policy.Failure)
		time.Sleep(12 * time.Second)
		b.s = patient
		b.Turn(&b.s, b.now())
		b.is(Open)
		time.Sleep(8 * time.Second)
		b.times(1, policy.Success)
		b.is(Closed)
		b.saw("0s closed->open after 5", "20s open->half-open after 5", "20s half-open->closed after 0")
	})
	onClock(t, usual, func(b *bench) {
		b.Adopt(&quick)
		b.times(5, policy.Failure)
		b.s = quick
		b.Adopt(&b.s)
		b.is(Open)
		time.Sleep(time.Second - 1*time.Nanosecond)
		if b.try(policy.Success) {
			t.Error("let through too soon")
		}
		time.Sleep(1 * time.Nanosecond)
		b.times(1, policy.Success)
		b.is(Closed)
		b.saw("0s closed->open after 5", "1s open->half-open after 5", "1s half-open->closed after 0")
	})
	onClock(t, usual, func(b *bench) {
		b.times(5, policy.Failure)
		time.Sleep(10 * time.Second)
		p, _ := b.enter()
		b.s = quick
		b.enter() // makes the machine anew, whose own clock has to move
		time.Sleep(2 * time.Nanosecond)
		if !b.try(policy.Neither) {
			t.Error("the place of a probe under the old settings is not free")
		}
		b.leave(p, policy.Failure)
		b.is(HalfOpen)
		b.times(1, policy.Success)
		b.is(Closed)
	})
}

func TestReset(t *testing.T) {
	onClock(t, usual, func(b *bench) {
		before, _ := b.enter()
		b.times(5, policy.Failure)
		b.Reset()
		b.is(Closed)
		for range 10 {
			b.leave(before, policy.Failure)
		}
		b.times(4, policy.Failure)
		b.is(Closed)
		if v := b.View(b.now()); v.Since != 0 {
			t.Errorf("%+v", v)
		}
	})
}

// Whatever happens on however many loops, a gate whose endpoint has recovered closes.
func TestNothingWedgesTheGate(t *testing.T) {
	for seed := range uint64(200) {
		s := Settings{Failures: 1 + uint32(seed%7), Open: time.Second, Probes: 1 + uint32(seed%3), Lease: 5 * time.Second}
		onClock(t, s, func(b *bench) {
			r := rand.New(rand.NewPCG(seed, 1))
			var out []Pass
			for range 500 {
				switch r.IntN(6) {
				case 0:
					time.Sleep(time.Duration(r.IntN(2000)) * time.Millisecond)
				case 1, 2:
					if p, ok := b.enter(); ok {
						out = append(out, p)
					}
				case 3:
					if len(out) > 0 && r.IntN(4) == 0 {
						out = out[1:] // lost
					}
				case 4:
					if len(out) > 0 {
						i := r.IntN(len(out))
						b.leave(out[i], policy.Verdict(r.IntN(3)))
						if r.IntN(3) > 0 {
							out = slices.Delete(out, i, i+1) // else it is given back twice
						}
					}
				case 5:
					if r.IntN(10) == 0 {
						b.s.Failures, b.s.Probes = 1+uint32(r.IntN(4)), 1+uint32(r.IntN(3))
					}
				}
				if v := b.View(b.now()); v.Probes > int(b.settings.Probes) {
					t.Fatalf("seed %d: %d probes at once of %d", seed, v.Probes, b.s.Probes)
				}
			}
			time.Sleep(10 * time.Second)
			b.enter() // settings that have changed take effect
			time.Sleep(10 * time.Second)
			for range 10 {
				b.times(1, policy.Success)
			}
			b.is(Closed)
		})
	}
}

// Several loops at once: for the race detector, and for the bound on probes.
func TestManyLoops(t *testing.T) {
	s := Settings{Failures: 3, Open: time.Microsecond, Probes: 2, Lease: time.Hour}
	g, start := &Gate{}, time.Now()
	var mu sync.Mutex
	changes := 0
	g.OnChange = func(Change) { mu.Lock(); changes++; mu.Unlock() }
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(uint64(i), 2))
			for range 5000 {
				now := int64(time.Since(start))
				if !g.Ready(now) {
					continue
				}
				p, ok := g.Enter(&s, now)
				if !ok {
					continue
				}
				g.Answered(&p)
				g.Leave(p, &s, int64(time.Since(start)), policy.Verdict(r.IntN(3)))
			}
		})
	}
	group.Wait()
	if v := g.View(int64(time.Since(start))); v.Probes != 0 {
		t.Errorf("left behind: %+v", v)
	}
	if changes == 0 {
		t.Error("nothing ever changed")
	}
}

func TestCleanGateAllocatesNothing(t *testing.T) {
	g, s := &Gate{}, usual
	if n := testing.AllocsPerRun(100, func() {
		p, _ := g.Enter(&s, 1)
		g.Leave(p, &s, 2, policy.Success)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkGate is what a breaker costs an attempt while its endpoint has not failed.
// Target: at most 10 ns, no allocation.
func BenchmarkGate(b *testing.B) {
	g, s := &Gate{}, usual
	b.ReportAllocs()
	for b.Loop() {
		p, _ := g.Enter(&s, 1)
		g.Leave(p, &s, 2, policy.Success)
	}
}
