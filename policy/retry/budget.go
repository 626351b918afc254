package retry

import (
	"sync"
	"sync/atomic"
	"time"
)

// Limits are those of a Budget.
type Limits struct {
	// Percent of the exchanges may be repeats: of those under way at each moment, and of
	// those begun.
	Percent int
	// Min repeats may be under way whatever the traffic, and as many may begin a second.
	Min int
}

// Budget bounds the repeats of one service in the whole process. It holds two things: the
// repeats under way are at most a share of the exchanges under way, so that repeats never
// crowd out first attempts; and those made are at most the same share of the exchanges
// begun, so that what fails fast is not repeated all the faster. The zero value is ready.
// Any goroutine.
//
// Cost: two atomic additions for each exchange; a repeat takes a lock that is never held for
// longer than a few additions (BenchmarkBudget).
type Budget struct {
	active  atomic.Int64 // exchanges under way
	begun   atomic.Int64 // since the start, that an endpoint was asked for
	repeats atomic.Int64 // under way

	mu     sync.Mutex
	credit account
}

// account is what may still be repeated of the exchanges begun.
type account struct {
	repeats float64
	most    float64 // of repeats
	at      int64   // Nanos up to which it is settled; 0: never
	begun   int64   // Budget.begun then
	// most was found from what had come between marked and the look that moved it.
	marked, markedBegun int64
}

// memory is how long an exchange without a failure counts for the repeats of later ones.
const memory = 10 * time.Second

// Begin and End count an exchange that asks for an endpoint.
func (b *Budget) Begin() {
	b.active.Add(1)
	b.begun.Add(1)
}

// Enter is Begin for an exchange that may be refused before an endpoint is asked for, as by a rate
// limit. It allows no repeats over time before Ask, or a flood of those would.
func (b *Budget) Enter() { b.active.Add(1) }

// Ask tells that an endpoint is asked for, for the first time since Enter.
func (b *Budget) Ask() { b.begun.Add(1) }

// End is the end of what Begin or Enter began.
func (b *Budget) End() { b.active.Add(-1) }

// Active is the number of exchanges between Begin and End.
func (b *Budget) Active() int64 { return b.active.Load() }

// Repeats is the number of repeats under way that draw from the budget.
func (b *Budget) Repeats() int64 { return b.repeats.Load() }

// Allowed is how many there may be under way at this moment.
func (b *Budget) Allowed(l Limits) int64 {
	return max(int64(l.Min), b.active.Load()*int64(l.Percent)/100)
}

// Answer is what Take says.
type Answer uint8

// The answers.
const (
	Granted Answer = iota
	Busy           // too many repeats are under way: there may be room in a moment
	Exhausted
)

// Take asks for a repeat at the moment now, in nanoseconds of a clock that does not go back
// and is not 0. What is granted is given back by one call of Give when the attempt is over.
func (b *Budget) Take(l Limits, now int64) Answer {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.credit.settle(l, b.begun.Load(), now)
	switch {
	case b.credit.repeats < 1:
		return Exhausted
	case b.repeats.Load() >= b.Allowed(l):
		return Busy
	}
	b.credit.repeats--
	b.repeats.Add(1)
	return Granted
}

// settle adds what has come since the last look, and forgets what is older than memory.
func (a *account) settle(l Limits, begun, now int64) {
	floor := float64(l.Min) * memory.Seconds()
	if a.at == 0 {
		a.repeats = floor + share(l, begun)
		a.most = a.repeats
		a.at, a.begun, a.marked, a.markedBegun = now, begun, now, begun
		return
	}
	a.repeats += share(l, begun-a.begun) + float64(l.Min)*float64(max(now-a.at, 0))/float64(time.Second)
	a.at, a.begun = max(now, a.at), begun
	if since := a.at - a.marked; since >= int64(time.Second) {
		a.most = floor + share(l, begun-a.markedBegun)*memory.Seconds()/time.Duration(since).Seconds()
		a.marked, a.markedBegun = a.at, begun
	}
	a.repeats = min(a.repeats, a.most)
}

func share(l Limits, exchanges int64) float64 { return float64(exchanges) * float64(l.Percent) / 100 }

// Give ends a repeat that Take has granted.
func (b *Budget) Give() { b.repeats.Add(-1) }
