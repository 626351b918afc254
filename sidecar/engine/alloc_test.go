//go:build !race && !larboard_debug

package engine

import (
	"testing"
	"time"
)

// TestNoAllocations asserts what the hot path promises, in steady state.
func TestNoAllocations(t *testing.T) {
	e := running(t, Options{Loops: 1, Watchdog: WatchdogOptions{Disabled: true}})
	l := e.Loops()[0]
	ln := serve(t, e, echo)
	nothing := func(*Task) {}
	withArg := func(*Task, any) {}
	fired := func() {}
	var cond Cond
	on(t, l, func(task *Task) {
		c, err := l.Dial(ln.Addr(), time.Second)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		in, out := make([]byte, 512), make([]byte, 100)
		timer := l.NewTimer()
		defer timer.Stop()
		signal := func(*Task) { cond.Signal() }
		for _, k := range []struct {
			name string
			f    func()
		}{
			{"round trip", func() { c.WriteBuffers(out, out); c.Read(in) }},
			{"yield", func() { task.Yield() }},
			{"go", func() { l.Go("n", nothing); task.Yield() }},
			{"go with argument", func() { l.GoArg("n", withArg, c); task.Yield() }},
			{"timer", func() { timer.Arm(time.Second, fired) }},
			{"deadline", func() { c.SetReadDeadline(l.Now().Add(time.Second)) }},
			{"sleep", func() { task.Sleep(0); task.ParkFor("x", time.Millisecond) }},
			{"buffer", func() { b := l.Buffer(8 << 10); l.Release(b) }},
			{"cond", func() { l.Go("s", signal); cond.Wait(task) }},
			{"append and flush", func() { c.Append(out); c.Flush(); c.Read(in) }},
			{"queue", func() { c.Queue(out); c.Read(in) }},
			{"end of turn", func() { l.EndOfTurn(fired); task.Yield() }},
		} {
			for range 20 {
				k.f()
			}
			if n := testing.AllocsPerRun(100, k.f); n != 0 {
				t.Errorf("%s: %v allocations", k.name, n)
			}
		}
	})
}
