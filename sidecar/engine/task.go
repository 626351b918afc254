package engine

import (
	"time"
)

// Task is a coroutine of a loop. Its methods are for the loop and its tasks only, and a
// *Task is valid until its function returns: what may outlive it keeps a TaskRef.
type Task struct {
	worker
	debugState
	loop  *Loop
	label *string // interned name
	f     func(*Task)
	fArg  func(*Task, any)
	arg   any

	gen       uint32
	state     taskState
	index     int // in loop.active
	cancelled error
	why       string
	timer     Timer // Sleep and ParkFor
	timedOut  bool

	moved int    // bytes since resumed
	ops   uint32 // I/O calls since resumed
	since int64  // nanoseconds at the first look at the clock since resumed
}

type taskState uint8

const (
	taskPooled   taskState = iota // no function
	taskRunnable                  // in the run queue, once
	taskRunning
	taskParked
)

// TaskRef is a task that may have ended: waking it then does nothing, even if its coroutine
// serves another function by now.
type TaskRef struct {
	task *Task
	gen  uint32
}

// Ref returns a reference that may outlive the task.
func (t *Task) Ref() TaskRef { return TaskRef{t, t.gen} }

// Live reports whether the task has not ended. Loop only.
func (r TaskRef) Live() bool {
	return r.task != nil && r.task.gen == r.gen && r.task.state != taskPooled
}

// Wake makes the task's current Park return. Loop only.
func (r TaskRef) Wake() {
	if r.Live() {
		r.task.Wake()
	}
}

// Cancel is Task.Cancel if the task is still there. Loop only.
func (r TaskRef) Cancel(err error) {
	if r.Live() {
		r.task.Cancel(err)
	}
}

// Go starts f on a task of the loop, from the run queue: never before Go has returned. name
// shows in the watchdog's report and the panic log; it should be a constant. Loop only.
// It allocates nothing when a pooled task is at hand and f is not a fresh closure.
func (l *Loop) Go(name string, f func(*Task)) *Task {
	t := l.takeTask(name)
	t.f = f
	return t
}

// GoArg is Go for a function with an argument, which saves the closure. A pointer in arg
// allocates nothing.
func (l *Loop) GoArg(name string, f func(*Task, any), arg any) *Task {
	t := l.takeTask(name)
	t.fArg, t.arg = f, arg
	return t
}

func (l *Loop) takeTask(name string) *Task {
	checkOwner(l)
	t := l.workers.take()
	if t == nil {
		t = newTask(l)
	}
	if t.label == nil || *t.label != name {
		t.label = l.intern(name)
	}
	t.index = len(l.active)
	l.active = append(l.active, t)
	l.workers.busy(len(l.active))
	if l.draining.forced {
		t.cancelled = ErrDrain
	}
	t.state = taskRunnable
	l.runnable.push(t)
	return t
}

// intern keeps one copy of each task name, so that the watchdog can read it at any time.
func (l *Loop) intern(name string) *string {
	p := l.names[name]
	if p == nil {
		p = &name
		if len(l.names) < maxNames { // a bound for callers who make names up
			l.names[name] = p
		}
	}
	return p
}

const maxNames = 1024

// resume gives the loop to t until it parks or ends.
func (l *Loop) resume(t *Task) {
	if l.current != nil {
		panic("engine: resume of a task inside a task")
	}
	l.counts.resumes++
	l.counts.steps++
	l.pulse.begin(t.label)
	l.current = t
	l.time.stale = true
	t.state = taskRunning
	t.moved, t.ops, l.belowTLS = 0, 0, false
	t.next()
	l.current = nil
	l.time.stale = true
	if t.finished {
		l.release(t)
	}
}

// release takes a task that ended out of the active ones and keeps its coroutine.
func (l *Loop) release(t *Task) {
	last := len(l.active) - 1
	l.active[t.index] = l.active[last]
	l.active[t.index].index = t.index
	l.active[last] = nil
	l.active = l.active[:last]
	t.timer.pause()
	t.timer.unlink()
	t.f, t.fArg, t.arg, t.cancelled, t.why = nil, nil, nil, nil, ""
	t.gen++
	t.state, t.finished = taskPooled, false
	if t.exited {
		t.discard()
		return
	}
	l.workers.put(l, t)
}

// Loop returns the loop that the task belongs to.
func (t *Task) Loop() *Loop { return t.loop }

// Name returns the name given to Go.
func (t *Task) Name() string { return *t.label }

// Park gives the loop away until somebody wakes the task: it may return early, so callers
// look at their condition again. It returns the cancellation, if there is one, at once.
// why says in dumps what is waited for.
func (t *Task) Park(why string) error {
	checkPark(t)
	if t.cancelled != nil {
		return t.cancelled
	}
	t.why = why
	t.state = taskParked
	t.switchOut()
	return t.cancelled
}

// ParkFor is Park that returns ErrTimeout once d has passed.
func (t *Task) ParkFor(why string, d time.Duration) error {
	t.timedOut = false
	t.timer.armAt(t.loop.Nanos() + int64(max(d, 0)))
	err := t.Park(why)
	t.timer.pause()
	if err == nil && t.timedOut {
		return ErrTimeout
	}
	return err
}

// expired is the function of t.timer.
func (t *Task) expired() {
	t.timedOut = true
	t.Wake()
}

// Yield lets everything else that is runnable run, and the loop poll once. It returns the
// cancellation, if there is one.
func (t *Task) Yield() error {
	checkPark(t)
	if t.cancelled != nil {
		return t.cancelled
	}
	t.state = taskRunnable
	t.loop.runnable.push(t)
	t.switchOut()
	return t.cancelled
}

// Sleep parks for d. It returns nil, or the cancellation.
func (t *Task) Sleep(d time.Duration) error {
	until := t.loop.Nanos() + int64(max(d, 0))
	for {
		left := until - t.loop.Nanos()
		if left <= 0 {
			return t.cancelled
		}
		if err := t.ParkFor("sleep", time.Duration(left)); err != nil && err != ErrTimeout {
			return err
		}
	}
}

// Wake puts a parked task into the run queue; on others it does nothing. Loop only, and only
// while the task is known not to have ended.
func (t *Task) Wake() {
	if t.state != taskParked {
		return
	}
	t.state = taskRunnable
	t.loop.runnable.push(t)
}

// Cancel makes the current park of the task and all later ones return err. The first
// cancellation stays. Loop only.
func (t *Task) Cancel(err error) {
	if t.cancelled == nil && t.state != taskPooled {
		t.cancelled = err
		t.Wake()
	}
}

// Err returns the cancellation, nil if there is none.
func (t *Task) Err() error { return t.cancelled }

// The fairness budget of a turn.
const (
	budgetBytes = 64 << 10
	budgetNanos = int64(200 * time.Microsecond)
	clockEvery  = 8 // I/O calls between two looks at the clock
)

// charge accounts for an I/O call that moved n bytes.
func (t *Task) charge(n int) {
	t.moved += n
	t.ops++
}

// spend yields if the budget of this turn is used up. It is called before an I/O call, so
// that a cancellation found here loses no byte.
func (t *Task) spend() error {
	if t.moved >= budgetBytes {
		return t.Yield()
	}
	if t.ops%clockEvery != clockEvery-1 {
		return nil
	}
	t.loop.time.stale = true
	now := t.loop.Nanos()
	if t.ops < clockEvery {
		t.since = now
		return nil
	}
	if now-t.since > budgetNanos {
		return t.Yield()
	}
	return nil
}
