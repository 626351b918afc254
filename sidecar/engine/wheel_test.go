package engine

import (
	"math/rand/v2"
	"testing"
)

// TestWheelAgainstAModel schedules, moves and removes at random and compares what comes up
// with a plain list.
func TestWheelAgainstAModel(t *testing.T) {
	for _, c := range []struct {
		name string
		span int64 // of the deadlines, in ticks
		step int64
	}{
		{"near", 300, 7},
		{"second level", 20_000, 300},
		{"third level", 2_000_000, 50_000},
		{"beyond the reach", 3 * maxTicks, maxTicks / 5},
	} {
		t.Run(c.name, func(t *testing.T) { checkWheel(t, c.span, c.step) })
	}
}

func checkWheel(t *testing.T, span, step int64) {
	random := rand.New(rand.NewPCG(1, uint64(span)))
	var w wheel
	now := int64(12345) << tickShift
	w.start(now)
	timers := make([]*Timer, 200)
	at := make(map[*node]int64)
	for i := range timers {
		timers[i] = &Timer{}
	}
	for range 400 {
		n := &timers[random.IntN(len(timers))].node
		if random.IntN(4) == 0 {
			n.unlink()
			delete(at, n)
		} else {
			at[n] = now + random.Int64N(span<<tickShift)
			w.schedule(n, at[n], timerKey)
		}
		if next := w.next(); next >= 0 {
			for _, d := range at {
				if next > deadlineTick(max(d, now+1))<<tickShift {
					t.Fatalf("next %d is after deadline %d", next, d)
				}
			}
		} else if len(at) > 0 {
			t.Fatal("asleep with deadlines set")
		}
		now += random.Int64N(step << tickShift)
		w.advance(now, func(n *node) {
			if d, ok := at[n]; !ok || d > now {
				t.Fatalf("came up early: %d at %d", d, now)
			}
			delete(at, n)
		})
		for _, d := range at {
			if deadlineTick(d) <= now>>tickShift {
				t.Fatalf("did not come up: %d at %d", d, now)
			}
		}
	}
}

func TestTimerRearmIsLazy(t *testing.T) {
	_, l := stepped(t, Options{})
	timer := l.NewTimer()
	timer.Arm(1e9, func() {})
	key := timer.key
	timer.Arm(5e9, func() {})
	if timer.key != key {
		t.Error("moving a deadline later touched the wheel")
	}
	timer.Arm(1e6, func() {})
	if timer.key == key {
		t.Error("moving a deadline earlier did not reach the wheel")
	}
	timer.Stop()
}

func TestTimersFire(t *testing.T) {
	_, l := stepped(t, Options{})
	var order []int
	const later = 500e6 // no pause of the machine is that long, between two turns
	timers := make([]*Timer, 3)
	for i := range timers {
		timers[i] = l.NewTimer()
	}
	timers[0].Arm(1e6, func() { order = append(order, 0) }) // stopped
	timers[1].Arm(later, func() { order = append(order, 1) })
	timers[2].Arm(1e6, func() {
		order = append(order, 2)
		if len(order) < 3 {
			timers[2].Arm(1e6, timers[2].f)
		}
	})
	timers[0].Stop()
	for len(order) < 4 {
		l.Step(-1)
	}
	for i, want := range []int{2, 2, 2, 1} {
		if order[i] != want {
			t.Fatalf("order %v", order)
		}
	}
}
