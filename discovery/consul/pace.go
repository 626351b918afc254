package consul

import (
	"context"
	"time"
)

const (
	// firstBackoff and maxBackoff bound the wait after an error; the wait is a random
	// part of a bound that doubles ("full jitter").
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second

	// burst queries may follow each other at once, after that one a refill: an index
	// that flaps, or an agent that answers a blocking query at once, costs no more. A
	// query returns the whole state, so nothing is lost by asking later.
	burst  = 8
	refill = 500 * time.Millisecond
)

// backoff counts errors in a row; the zero value is ready.
type backoff struct{ failures int }

// next returns the wait after one more error; random is in [0, 1).
func (b *backoff) next(random float64) time.Duration {
	bound := maxBackoff
	if b.failures < 10 {
		bound = min(maxBackoff, firstBackoff<<b.failures)
	}
	b.failures++
	return time.Duration(random * float64(bound))
}

// reset forgets the errors after a success.
func (b *backoff) reset() { b.failures = 0 }

// bucket is a token bucket kept as the time at which it was, or will be, empty.
type bucket struct{ empty time.Time }

// take takes one token and returns how long to wait before it may be used.
func (b *bucket) take(now time.Time) time.Duration {
	if full := now.Add(-burst * refill); b.empty.Before(full) {
		b.empty = full
	}
	b.empty = b.empty.Add(refill)
	return max(0, b.empty.Sub(now))
}

// sleep waits for d or the end of ctx, whose error it returns.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
