package engine

import "time"

// workers is the pool of tasks whose coroutines wait for a function. Last in, first out: the
// warm stack is used again.
type workers struct {
	free  []*Task
	decay decay
}

func (w *workers) take() *Task {
	n := len(w.free)
	if n == 0 {
		return nil
	}
	t := w.free[n-1]
	w.free[n-1] = nil
	w.free = w.free[:n-1]
	return t
}

func (w *workers) put(l *Loop, t *Task) {
	w.free = append(w.free, t)
	l.armUpkeep()
}

func (w *workers) busy(n int) { w.decay.use(n) }

// trim stops the coroutines that the recent peak does not ask for, a few at a time.
func (w *workers) trim(l *Loop) {
	for range w.decay.step(len(l.active), len(w.free)) {
		t := w.take()
		t.stop()
		l.counts.coroutines--
	}
}

func (w *workers) stopAll(l *Loop) {
	for t := w.take(); t != nil; t = w.take() {
		t.stop()
		l.counts.coroutines--
	}
}

// decay decides how many spare items a pool may keep: as many as the recent peak of use
// needs, where the peak is forgotten by a quarter each period: of a burst of 10,000 a few dozen
// are left after 20 s. Making one again costs less than keeping it for long.
type decay struct {
	peak   int // most in use at once in this period
	recent int
}

func (d *decay) use(n int) { d.peak = max(d.peak, n) }

// step ends a period: it returns how many of the free items to drop.
func (d *decay) step(inUse, free int) int {
	d.recent = max(d.peak, d.recent-max(d.recent/4, 1))
	d.peak = inUse
	excess := inUse + free - d.recent
	if excess <= 0 {
		return 0
	}
	return min(free, excess, max(excess/2, 16))
}

// upkeepPeriod is how often the pools are looked at while they hold anything.
const upkeepPeriod = time.Second

func (l *Loop) armUpkeep() {
	if l.upkeep.deadline == 0 && !l.draining.done {
		l.upkeep.armAt(l.time.nanos + int64(upkeepPeriod))
	}
}

func (l *Loop) runUpkeep() {
	l.workers.trim(l)
	l.buffers.trim(l)
	l.pipes.trim()
	l.counts.lagWindow()
	if len(l.workers.free) > 0 || l.buffers.spare() > 0 || len(l.pipes.free) > 0 {
		l.armUpkeep()
	}
}
