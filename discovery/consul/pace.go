package consul

import (
	"context"
	"sync"
	"time"
)

const (
	// firstBackoff and maxBackoff bound the wait after a refusal (reach.go has those
	// after other errors); it is a random part of a bound that doubles ("full jitter").
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = 10 * time.Second

	// burst queries may follow each other at once, after that one a refill: an index
	// that flaps, or an agent that answers a blocking query at once, costs no more. A
	// query returns the whole state, so nothing is lost by asking later.
	burst  = 8
	refill = 500 * time.Millisecond

	// allBurst and allRefill are the same for all watches of a client together.
	allBurst  = 1000
	allRefill = 4 * time.Millisecond
)

// backoff counts errors in a row; the zero value is ready.
type backoff struct{ failures int }

// bound returns the wait after so many errors; random is in [0, 1).
func (b backoff) bound(random float64) time.Duration {
	bound := maxBackoff
	if b.failures < 10 {
		bound = min(maxBackoff, firstBackoff<<max(0, b.failures-1))
	}
	return time.Duration(random * float64(bound))
}

// bucket is a token bucket kept as the time at which it was, or will be, empty.
type bucket struct {
	refill time.Duration // of one token
	burst  time.Duration // what it takes to fill
	empty  time.Time
}

func newBucket(burst int, refill time.Duration) bucket {
	return bucket{refill: refill, burst: time.Duration(burst) * refill}
}

// take takes one token and returns how long to wait before it may be used.
func (b *bucket) take(now time.Time) time.Duration {
	if full := now.Add(-b.burst); b.empty.Before(full) {
		b.empty = full
	}
	b.empty = b.empty.Add(b.refill)
	return max(0, b.empty.Sub(now))
}

// shared is a bucket for concurrent use.
type shared struct {
	mu sync.Mutex
	bucket
}

func (s *shared) take(now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.bucket.take(now)
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
