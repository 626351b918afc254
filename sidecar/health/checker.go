package health

import (
	"cmp"
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Options of a Checker. Report and Log are required.
type Options struct {
	// Report is told of every change of state, in order, by the goroutine of Run and
	// with no lock held. A slow one delays the others' reports but no check.
	Report func(Change)
	Log    *slog.Logger
	// Concurrency bounds the checks under way at once; default 64.
	Concurrency int
	// Dial makes connections; default net.Dialer. Tests stand in here.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Checker checks the targets of the last Apply while Run runs.
type Checker struct {
	report  func(Change)
	log     *slog.Logger
	slots   chan struct{}
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	changes reports

	mu     sync.Mutex
	probes map[string]*probe
	ctx    context.Context // of Run; nil outside it
	wg     sync.WaitGroup  // of the probes; Add only under mu while ctx is set
}

// New returns a checker without targets.
func New(o Options) *Checker {
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	return &Checker{
		report:  o.Report,
		log:     o.Log,
		slots:   make(chan struct{}, or(max(o.Concurrency, 0), 64)),
		dial:    o.Dial,
		changes: reports{ready: make(chan struct{}, 1)},
		probes:  map[string]*probe{},
	}
}

// Run checks until ctx ends and returns its error when all checks have stopped.
// The states are kept for another Run.
func (c *Checker) Run(ctx context.Context) error {
	c.mu.Lock()
	c.ctx = ctx
	for _, p := range c.probes {
		c.start(p)
	}
	c.mu.Unlock()
	for ctx.Err() == nil {
		select {
		case <-c.changes.ready:
			c.deliver()
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	c.ctx = nil
	c.mu.Unlock()
	c.wg.Wait()
	c.deliver()
	return ctx.Err()
}

// start runs p while Run runs. Called with mu held.
func (c *Checker) start(p *probe) {
	if c.ctx == nil {
		return
	}
	ctx, stop := context.WithCancel(c.ctx)
	p.stop = stop
	c.wg.Go(func() { p.run(ctx) })
}

// Apply replaces the targets. Unchanged ones go on with their schedule and their
// state; one whose spec changed keeps its state and starts a new schedule; one
// that is gone (or has another address or service) is reported up if it was down, since
// nobody would ever find it up again. It may be called before, during and after
// Run, from any goroutine, and does not wait for checks under way, whose results
// are dropped.
func (c *Checker) Apply(targets []Target) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := make(map[string]*probe, len(targets))
	for _, t := range targets {
		if next[t.Key] == nil {
			t.Spec = t.Spec.withDefaults()
			next[t.Key] = c.keep(c.probes[t.Key], t)
		}
	}
	for key, p := range c.probes {
		if kept := next[key]; kept != p {
			p.retire(kept == nil || !kept.target.same(p.target))
		}
	}
	for key, p := range next {
		if c.probes[key] != p {
			c.start(p)
		}
	}
	c.probes = next
}

// keep returns old where it can go on, otherwise a new probe with what it can
// inherit.
func (c *Checker) keep(old *probe, t Target) *probe {
	p := newProbe(c, t)
	if old == nil || !old.target.same(t) {
		return p
	}
	if old.target.Spec.equal(t.Spec) {
		old.setTLS(t.TLS)
		return old
	}
	p.inherit(old)
	return p
}

// Status returns the view of all targets, by service and key.
func (c *Checker) Status() []Status {
	c.mu.Lock()
	probes := make([]*probe, 0, len(c.probes))
	for _, p := range c.probes {
		probes = append(probes, p)
	}
	c.mu.Unlock()
	all := make([]Status, 0, len(probes))
	for _, p := range probes {
		all = append(all, p.view())
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Key, b.Key))
	})
	return all
}

// acquire takes one of the bounded slots for a check under way.
func (c *Checker) acquire(ctx context.Context) bool {
	select {
	case c.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Checker) release() { <-c.slots }

// wait sleeps for d; false: ctx ended first.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
