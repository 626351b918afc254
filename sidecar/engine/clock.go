package engine

import "time"

// Clock is the time an engine lives by. Methods are called from every loop at once.
type Clock interface {
	// Now is the wall clock; its value carries a monotonic reading where the clock has one.
	Now() time.Time
	// Nanos is monotonic nanoseconds since an arbitrary start, never negative. It is called
	// about twice a turn of a loop and must cost no more than a clock read.
	Nanos() int64
}

type realClock struct{ start time.Time }

// RealClock returns the machine's clock.
func RealClock() Clock { return &realClock{start: time.Now()} }

func (c *realClock) Now() time.Time { return time.Now() }
func (c *realClock) Nanos() int64   { return int64(time.Since(c.start)) }

// anchorPeriod is how old the pair (wall, monotonic) of a loop may be, in nanoseconds: a
// stepped wall clock is seen after that long.
const anchorPeriod = int64(time.Second)

// instant is a loop's cached idea of the time. Owned by the loop.
type instant struct {
	clock       Clock
	nanos       int64
	stale       bool // a task or callback ran since nanos was read
	anchor      time.Time
	anchorNanos int64
}

func (i *instant) start(clock Clock) {
	i.clock = clock
	i.nanos = clock.Nanos()
	i.anchor, i.anchorNanos = clock.Now(), i.nanos
}

func (i *instant) refresh() {
	i.nanos = i.clock.Nanos()
	i.stale = false
	if i.nanos-i.anchorNanos > anchorPeriod {
		i.anchor, i.anchorNanos = i.clock.Now(), i.nanos
	}
}

// at converts a point in time to the clock's nanoseconds: 0 for the zero time ("never"),
// otherwise at least 1.
func (i *instant) at(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(i.anchorNanos+int64(t.Sub(i.anchor)), 1)
}

// Now is the time as of the last resume that asked for it; a few nanoseconds. Loop only.
func (l *Loop) Now() time.Time {
	n := l.Nanos()
	return l.time.anchor.Add(time.Duration(n - l.time.anchorNanos))
}

// Nanos is the engine clock's monotonic nanoseconds, cached like Now. Loop only.
func (l *Loop) Nanos() int64 {
	if l.time.stale {
		l.time.refresh()
	}
	return l.time.nanos
}
