package engine

import "time"

// Timer calls a function on its loop once a duration has passed. The zero value is not
// usable: see Loop.NewTimer. Loop only.
type Timer struct {
	node
	loop     *Loop
	deadline int64 // nanoseconds; 0 when stopped
	f        func()
}

// NewTimer returns a stopped timer. Loop only.
func (l *Loop) NewTimer() *Timer { return &Timer{loop: l} }

// Arm (re)starts the timer: f runs on the loop once d has passed and must not park. Moving a
// running timer later is two stores; the wheel learns of it when the old time comes up.
func (t *Timer) Arm(d time.Duration, f func()) {
	t.f = f
	t.armAt(t.loop.Nanos() + int64(max(d, 0)))
}

func (t *Timer) armAt(nanos int64) {
	t.deadline = max(nanos, 1)
	if t.linked() && t.tick() <= deadlineTick(t.deadline) {
		return
	}
	t.loop.wheel.schedule(&t.node, t.deadline, timerKey)
}

// Stop makes sure that f is not called. A stopped timer may be armed again.
func (t *Timer) Stop() {
	t.deadline, t.f = 0, nil
	t.unlink()
}

// pause is Stop that leaves the node in the wheel: for timers that are armed again soon.
func (t *Timer) pause() { t.deadline = 0 }

func (t *Timer) expire(l *Loop) {
	switch {
	case t.deadline == 0:
	case t.deadline > l.time.nanos:
		l.wheel.schedule(&t.node, t.deadline, timerKey)
	default:
		t.deadline = 0
		l.guard(inTimer, t.f)
	}
}

// expire is called by the wheel for each node that came up.
func (l *Loop) expire(n *node) {
	c, t := n.owner()
	if t != nil {
		t.expire(l)
		return
	}
	c.expire()
}
