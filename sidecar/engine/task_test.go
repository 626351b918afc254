package engine

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

var errTest = errors.New("test")

func settle(l *Loop) {
	for l.Step(0) {
	}
}

func TestTasksRunFromTheQueueInOrder(t *testing.T) {
	_, l := stepped(t, Options{})
	var got []string
	note := func(s string) func(*Task) { return func(*Task) { got = append(got, s) } }
	l.Go("a", func(task *Task) {
		l.Go("c", note("c"))
		got = append(got, "a")
		task.Yield()
		got = append(got, "a again")
	})
	l.Go("b", note("b"))
	if len(got) != 0 {
		t.Fatal("a task ran inside Go")
	}
	settle(l)
	want := []string{"a", "b", "c", "a again"}
	if len(got) != len(want) {
		t.Fatalf("order %q, want %q", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Fatalf("order %q, want %q", got, want)
		}
	}
}

func TestCancelIsSticky(t *testing.T) {
	_, l := stepped(t, Options{})
	var errs []error
	task := l.Go("parked", func(task *Task) {
		errs = append(errs, task.Park("x"), task.Park("y"), task.Yield(), task.Sleep(time.Hour))
	})
	settle(l)
	task.Cancel(errTest)
	task.Cancel(ErrDrain)
	settle(l)
	for i, err := range errs {
		if err != errTest {
			t.Errorf("park %d: %v", i, err)
		}
	}
	if len(errs) != 4 {
		t.Errorf("%d parks returned", len(errs))
	}
}

func TestStaleWakeDoesNotReachTheNextFunction(t *testing.T) {
	_, l := stepped(t, Options{})
	var old TaskRef
	l.Go("first", func(task *Task) { old = task.Ref() })
	settle(l)
	woken := 0
	second := l.Go("second", func(task *Task) {
		task.Park("for ever")
		woken++
	})
	settle(l)
	if second != old.task {
		t.Fatal("the pooled task was not used again: the test shows nothing")
	}
	old.Wake()
	old.Cancel(errTest)
	settle(l)
	if woken != 0 || second.Err() != nil || old.Live() {
		t.Error("a stale reference reached the next function")
	}
	second.Wake()
	settle(l)
	if woken != 1 {
		t.Error("not woken")
	}
}

func TestPanicAndGoexitEndOnlyTheirTask(t *testing.T) {
	var names []string
	var values []any
	e, l := stepped(t, Options{OnPanic: func(task string, value any, stack []byte) {
		names, values = append(names, task), append(values, value)
		if len(stack) == 0 {
			t.Error("no stack")
		}
		panic("reporter")
	}})
	l.Go("panics", func(*Task) { panic("boom") })
	l.Go("exits", func(*Task) { runtime.Goexit() })
	l.Post(func() { panic("in post") })
	l.Go("parks", func(task *Task) { task.Yield(); panic(errTest) })
	ran := false
	l.Go("fine", func(*Task) { ran = true })
	settle(l)
	if !ran {
		t.Error("other tasks did not run")
	}
	if len(names) != 4 || names[0] != "post" || names[1] != "panics" || names[2] != "exits" || names[3] != "parks" {
		t.Errorf("reported %q", names)
	}
	if len(values) == 4 && (values[1] != "boom" || values[2] != nil || values[3] != errTest) {
		t.Errorf("values %v", values)
	}
	if s := e.Stats().Total(); s.Panics != 3 || s.Goexits != 1 || s.Tasks != 0 {
		t.Errorf("stats %+v", s)
	}
	again := 0
	for range 5 {
		l.Go("after", func(*Task) { again++ })
	}
	settle(l)
	if again != 5 {
		t.Error("the pool is broken after a panic and a Goexit")
	}
}

func TestGoexitInACallbackDoesNotEndTheLoop(t *testing.T) {
	e := running(t, Options{})
	l := e.Loops()[0]
	ran := make(chan int, 2)
	gate := make(chan struct{})
	l.Post(func() { <-gate })
	l.Post(func() { runtime.Goexit() })
	l.Post(func() { ran <- 1 })
	close(gate)
	<-ran
	on(t, l, func(*Task) { ran <- 2 })
	<-ran
}

func TestPanicsAreNotPooledWithTheirState(t *testing.T) {
	_, l := stepped(t, Options{})
	task := l.Go("a", func(task *Task) { panic("x") })
	task.Cancel(errTest)
	settle(l)
	var err error
	l.Go("b", func(task *Task) { err = task.Yield() })
	settle(l)
	if err != nil {
		t.Errorf("inherited %v", err)
	}
}

func TestPoolDecaysTowardsTheRecentPeak(t *testing.T) {
	_, l := stepped(t, Options{})
	for range 1000 {
		l.Go("burst", func(*Task) {})
	}
	settle(l)
	if n := len(l.workers.free); n != 1000 {
		t.Fatalf("%d pooled after the burst", n)
	}
	steps := 0
	for last := 1000; len(l.workers.free) > 0 && steps < 200; steps++ {
		l.Go("trickle", func(*Task) {})
		settle(l)
		l.runUpkeep()
		n := len(l.workers.free)
		if last-n > 300 {
			t.Errorf("trimmed %d at once", last-n)
		}
		last = n
		if n == 1 {
			break
		}
	}
	if n := len(l.workers.free); n != 1 {
		t.Errorf("%d pooled after %d periods of one task at a time, want 1", n, steps)
	}
	l.runUpkeep()
	l.runUpkeep()
	if n := l.counts.coroutines; n != 0 {
		t.Errorf("%d coroutines kept without use", n)
	}
}

func TestBufferPoolIsLIFOAndDecays(t *testing.T) {
	_, l := stepped(t, Options{})
	a, b := l.Buffer(100), l.Buffer(8<<10)
	if len(a) != 8<<10 || len(l.Buffer(65<<10)) != 65<<10 {
		t.Error("sizes")
	}
	l.Release(a)
	l.Release(b[:10])
	if c := l.Buffer(1); &c[0] != &b[0] || len(c) != 8<<10 {
		t.Error("not the one used last")
	} else {
		l.Release(c)
	}
	for range 4 {
		l.runUpkeep()
	}
	if l.buffers.spare() != 0 || l.buffers.used() != 0 {
		t.Errorf("kept %d, in use %d", l.buffers.spare(), l.buffers.used())
	}
}

func TestCond(t *testing.T) {
	_, l := stepped(t, Options{})
	var c Cond
	var got []string
	wait := func(name string) *Task {
		return l.Go(name, func(task *Task) {
			if err := c.Wait(task); err != nil {
				name += " cancelled"
			}
			got = append(got, name)
		})
	}
	wait("a")
	b := wait("b")
	wait("c")
	settle(l)
	if c.Waiting() != 3 {
		t.Fatal(c.Waiting())
	}
	c.Signal()
	c.Signal()        // for b,
	b.Cancel(errTest) // which passes it on to c
	settle(l)
	if len(got) != 3 || got[0] != "a" || got[1] != "b cancelled" || got[2] != "c" || c.Waiting() != 0 {
		t.Errorf("got %q, %d waiting", got, c.Waiting())
	}
	d := wait("d")
	settle(l)
	d.Cancel(errTest)
	settle(l)
	if c.Waiting() != 0 || c.Signal() {
		t.Error("a cancelled task is still in the queue")
	}
	var err error
	l.Go("e", func(task *Task) { err = c.WaitFor(task, time.Millisecond) })
	for err == nil {
		l.Step(time.Second)
	}
	if err != ErrTimeout || c.Waiting() != 0 {
		t.Errorf("%v, %d waiting", err, c.Waiting())
	}
}

func TestPaceStartsOneATurn(t *testing.T) {
	_, l := stepped(t, Options{HandshakeQueue: 3})
	started, refused := 0, 0
	for range 6 {
		l.Go("handshake", func(*Task) {
			switch l.Pace() {
			case nil:
				started++
			case ErrOverload:
				refused++
			}
		})
	}
	l.Step(0)
	if started != 1 || refused != 2 {
		t.Fatalf("started %d, refused %d in the first turn", started, refused)
	}
	for want := 2; want <= 4; want++ {
		l.Step(0)
		if started != want {
			t.Fatalf("started %d, want %d", started, want)
		}
	}
}

func TestPostIsFIFOFromManyGoroutines(t *testing.T) {
	e := running(t, Options{})
	for _, l := range e.Loops() {
		const posters, each = 4, 500
		got := make([]int, posters)
		done := make(chan struct{})
		left := posters * each
		for p := range posters {
			go func() {
				for i := range each {
					l.Post(func() {
						if got[p] != i {
							t.Errorf("poster %d: %d out of order", p, i)
						}
						got[p]++
						if left--; left == 0 {
							close(done)
						}
					})
				}
			}()
		}
		<-done
	}
}
