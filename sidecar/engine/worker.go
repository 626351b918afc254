package engine

import "runtime/debug"

// worker is the coroutine of a Task. It serves one function after another.
//
// Cost: a switch there and back is 94 ns (BenchmarkTaskSwitch); with the goroutines kind,
// which hands a baton over channels, 510 ns.
type worker struct {
	next     func() (struct{}, bool)
	stop     func()
	yield    func(struct{}) bool
	finished bool // the function has ended; the task is not yet released
	exited   bool // by runtime.Goexit: the coroutine is spent
}

func newTask(l *Loop) *Task {
	t := &Task{loop: l}
	t.timer.loop = l
	t.timer.f = t.expired
	t.next, t.stop = l.engine.pull(t.work)
	l.counts.coroutines++
	return t
}

// work is the body of the coroutine.
func (t *Task) work(yield func(struct{}) bool) {
	t.yield = yield
	for {
		t.once()
		t.finished = true
		if !yield(struct{}{}) {
			return
		}
	}
}

// once runs the task's function and contains how it ends. A Goexit cannot be taken back:
// the coroutine tells the loop, which lets it finish elsewhere (see discard).
func (t *Task) once() {
	normal := false
	defer func() {
		if normal {
			return
		}
		if v := recover(); v != nil {
			t.loop.contain(*t.label, v)
			return
		}
		t.loop.contain(*t.label, nil)
		t.exited, t.finished = true, true
		t.yield(struct{}{})
	}()
	checkStart(t)
	if t.f != nil {
		t.f(t)
	} else {
		t.fArg(t, t.arg)
	}
	normal = true
}

// switchOut goes back to the loop until the task is resumed.
func (t *Task) switchOut() {
	if !t.yield(struct{}{}) {
		panic("engine: parked task stopped")
	}
	t.state = taskRunning
}

// discard lets a coroutine that called Goexit finish. iter.Pull passes the Goexit on to the
// goroutine that calls stop, so that must not be the loop's.
func (t *Task) discard() {
	t.loop.counts.coroutines--
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.stop()
	}()
	<-done
}

// contain reports a panic, or with a nil value a Goexit, that ended a task or callback.
func (l *Loop) contain(name string, value any) {
	stack := debug.Stack()
	if value == nil {
		l.counts.goexits++
	} else {
		l.counts.panics++
	}
	l.engine.options.Log.Error("task ended by a panic", "task", name, "value", value, "stack", string(stack))
	if f := l.engine.options.OnPanic; f != nil {
		defer func() { _ = recover() }() // a reporter that panics must not end the loop
		f(name, value, stack)
	}
}

// guard runs a callback and contains its panic; ok says that there was none.
func (l *Loop) guard(what activity, f func()) (ok bool) {
	l.doing(what)
	l.counts.steps++
	l.time.stale = true
	checkCallback(l)
	defer l.recovered(what)
	f()
	return true
}

func (l *Loop) recovered(what activity) {
	if v := recover(); v != nil {
		l.contain(activityNames[what], v)
	}
}
