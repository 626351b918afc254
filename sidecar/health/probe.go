package health

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"sync"
	"time"
)

// probe checks one target on a goroutine of its own.
type probe struct {
	checker *Checker
	stop    context.CancelFunc // nil before the start; guarded by Checker.mu

	target Target // immutable but for TLS

	mu      sync.Mutex
	tls     func() *tls.Config
	counter counter
	status  Status
	retired bool // results are dropped
}

func newProbe(c *Checker, t Target) *probe {
	return &probe{
		checker: c,
		target:  t,
		tls:     t.TLS,
		counter: newCounter(t.Spec),
		status: Status{Key: t.Key, Service: t.Service, Address: t.Address, Kind: t.Spec.Kind,
			Up: true, Since: time.Now()},
	}
}

// run checks until ctx ends. The first check comes at a random moment of the first
// interval, so that the endpoints of a fresh set are not all checked at once.
func (p *probe) run(ctx context.Context) {
	spec := p.target.Spec
	pause := time.Duration(rand.Float64() * float64(spec.Interval))
	for wait(ctx, pause) {
		if !p.checker.acquire(ctx) {
			return
		}
		started := time.Now()
		p.check(ctx)
		p.checker.release()
		pause = max(0, vary(spec.Interval, spec.Jitter)-time.Since(started))
	}
}

// vary lengthens or shortens d by up to the share jitter of it.
func vary(d time.Duration, jitter float64) time.Duration {
	return time.Duration(float64(d) * (1 + jitter*(2*rand.Float64()-1)))
}

// check makes one check and counts it.
func (p *probe) check(ctx context.Context) {
	p.mu.Lock()
	config := p.tls
	p.mu.Unlock()
	attempt := attempt{dial: p.checker.dial, address: p.target.Address, spec: &p.target.Spec}
	if config != nil {
		if attempt.tls = config(); attempt.tls == nil {
			return
		}
	}
	started := time.Now()
	within, cancel := context.WithTimeout(ctx, p.target.Spec.Timeout)
	defer cancel()
	result, ok := attempt.run(within)
	if ctx.Err() != nil {
		return // we are stopping: that says nothing about the endpoint
	}
	p.count(ok, result, started)
}

// count records the result of a check and tells of a change.
func (p *probe) count(ok bool, result string, started time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired {
		return
	}
	s, now := &p.status, time.Now()
	if s.At.IsZero() || s.OK != ok {
		s.Streak = 0
	}
	s.Streak++
	s.OK, s.Result, s.At, s.Duration = ok, result, started, now.Sub(started)
	if p.counter.record(ok) {
		p.change(p.counter.up(), result, now)
	}
}

// change notes a new state and queues its report; with mu held, so that reports
// come in order and none after retire's.
func (p *probe) change(up bool, reason string, now time.Time) {
	t, lasted := &p.target, now.Sub(p.status.Since)
	p.status.Up, p.status.Since = up, now
	p.checker.changes.add(Change{Key: t.Key, Service: t.Service, Address: t.Address,
		Up: up, Reason: reason, Lasted: lasted, At: now})
}

// retire stops p; gone says that nobody goes on in its place. Called with
// Checker.mu held.
func (p *probe) retire(gone bool) {
	if p.stop != nil {
		p.stop()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	if gone && !p.status.Up {
		p.change(true, "no longer checked", time.Now())
	}
}

// inherit takes over the state of a probe that p stands in for.
func (p *probe) inherit(old *probe) {
	old.mu.Lock()
	defer old.mu.Unlock()
	old.retired = true
	p.counter = old.counter
	p.counter.inherit(p.target.Spec)
	p.status.Up, p.status.Since = old.status.Up, old.status.Since
}

func (p *probe) setTLS(config func() *tls.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tls = config
}

func (p *probe) view() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}
