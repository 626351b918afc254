package engine

import "time"

// draining is a loop's way to its end: draining (no accepts, tasks run on), forced (tasks
// cancelled, connections closed), done.
type draining struct {
	active, forced, done bool
	timer                *Timer
}

func (l *Loop) drain(deadline time.Time) {
	d := &l.draining
	if d.done || d.forced {
		return
	}
	if !d.active {
		d.active = true
		d.forced = deadline.IsZero() // then nothing more is accepted
		l.closeAcceptors()
		if f := l.engine.options.OnDrain; f != nil {
			f(l)
		}
	}
	if deadline.IsZero() || l.time.at(deadline) <= l.Nanos() {
		l.force()
		return
	}
	d.timer.Stop()
	d.timer.Arm(time.Duration(l.time.at(deadline)-l.Nanos()), l.force)
}

// force cancels the tasks, closes the connections nobody works on, and gives the tasks the
// grace period to end.
func (l *Loop) force() {
	l.draining.forced = true
	for _, t := range l.active {
		t.Cancel(ErrDrain)
	}
	for _, c := range l.table {
		if c != nil && c.reader == nil && c.writer == nil {
			if len(l.active) == 0 || c.onReadable != nil {
				l.cut(c, ErrDrain)
			}
		}
	}
	l.draining.timer.Stop()
	l.draining.timer.Arm(l.engine.options.DrainGrace, l.abandon)
}

func (l *Loop) abandon() {
	for _, t := range l.active {
		l.abandoned = append(l.abandoned, t.Name()+" in "+t.why)
	}
	l.draining.done = true
}

// drainTurn looks whether the loop may end.
func (l *Loop) drainTurn() {
	if len(l.active) > 0 || l.posts.waiting() {
		return
	}
	if l.draining.forced || l.counts.conns == 0 {
		l.draining.done = true
	}
}

// end frees what the loop owns. No task is active, except abandoned ones.
func (l *Loop) end() {
	l.draining.forced = true
	for _, c := range l.table {
		if c != nil {
			l.cut(c, ErrDrain)
		}
	}
	l.closeAcceptors()
	l.workers.stopAll(l)
	l.pipes.closeFree()
	l.draining.timer.Stop()
	l.upkeep.Stop()
	l.publish()
	l.pulse.polling.Store(true)
	l.posts.close(l)
}
