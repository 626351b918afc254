package identity

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Current holds the newest snapshot of one identity. Readers take it through an
// atomic pointer; one writer, Set, replaces it. It goes back to none only where the
// issuer withdraws the identity.
type Current struct {
	log      *slog.Logger
	now      func() time.Time
	snapshot atomic.Pointer[Snapshot]

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced by each accepted Set
	accepted  uint64        // materials, the generation of the newest
	rotations uint64
	lastError string
	reporter  errorReporter
}

// errorReporter is what our sources offer beside Source: the text of their last
// failure, empty while all is well.
type errorReporter interface{ LastError() string }

// NewCurrent returns a holder without identity: Snapshot is nil, and callers
// refuse connections with policy.NoIdentity until the first Set.
func NewCurrent(log *slog.Logger) *Current { return NewCurrentAt(log, time.Now) }

// NewCurrentAt is NewCurrent under another clock: by it certificates are judged and
// connections given their time. Only Run's warnings are by the machine's.
func NewCurrentAt(log *slog.Logger, now func() time.Time) *Current {
	return &Current{log: log, now: now, changed: make(chan struct{})}
}

// Snapshot returns the newest snapshot, nil before the first material and once it is
// withdrawn. A caller that finds nil fails closed. It costs one atomic load.
func (c *Current) Snapshot() *Snapshot { return c.snapshot.Load() }

// Changed returns a channel that is closed at the next accepted Set. Take it
// before Snapshot to miss nothing.
func (c *Current) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// Wait blocks until there is an identity or ctx ends.
func (c *Current) Wait(ctx context.Context) (*Snapshot, error) {
	for {
		changed := c.Changed()
		if s := c.Snapshot(); s != nil {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Set makes m current. Material that cannot serve (no key, another name than its
// ID, no bundle of its own domain) is refused and logged, and the old one stays. The
// zero Material withdraws it: from then on there is no identity, until the next Set.
// It does not block and suits Source.Run's out.
func (c *Current) Set(m Material) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.snapshot.Load()
	if m.ID.IsZero() && m.Certificate.Leaf == nil {
		c.withdraw(old)
		return
	}
	s, err := newSnapshot(m, c.accepted+1)
	if err != nil {
		c.lastError = err.Error()
		c.log.Error("identity material refused, the old one stays", "source", m.Source, "error", err)
		return
	}
	c.lastError, s.now = "", c.now
	c.accepted++
	c.store(s)
	if early := s.notBefore.Sub(c.now()); early > 0 {
		c.log.Warn("identity is not valid yet by this host's clock: peers whose clocks agree refuse it", "identity", s, "for", early.Round(time.Second).String())
	}
	switch {
	case old == nil:
		c.log.Info("identity obtained", "identity", s)
	case !old.certificate.Leaf.Equal(s.certificate.Leaf):
		c.rotations++
		c.log.Info("identity rotated", "identity", s)
	default:
		c.log.Info("trust bundles changed", "identity", s)
	}
}

// store swaps the snapshot and wakes who waits for that; mu is held.
func (c *Current) store(s *Snapshot) {
	c.snapshot.Store(s)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *Current) withdraw(old *Snapshot) {
	if old == nil {
		return
	}
	c.store(nil)
	c.log.Error("identity withdrawn by its issuer: mesh connections are refused until it comes back", "identity", old)
}

// Run feeds Current from src until ctx ends or src fails for good, and watches
// that rotation keeps up: a warning once less than a third of a certificate's
// life is left, an error once it has expired. It returns src's error after all
// its goroutines have ended.
func (c *Current) Run(ctx context.Context, src Source) error {
	if r, ok := src.(errorReporter); ok {
		c.mu.Lock()
		c.reporter = r
		c.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(ctx)
	}()
	err := src.Run(ctx, c.Set)
	cancel()
	<-watched
	return err
}

// watch logs the two ages of each snapshot at most once each.
func (c *Current) watch(ctx context.Context) {
	for {
		changed := c.Changed()
		if s := c.Snapshot(); s != nil {
			c.watchOne(ctx, s, changed)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

func (c *Current) watchOne(ctx context.Context, s *Snapshot, changed <-chan struct{}) {
	late := s.notAfter.Add(-s.notAfter.Sub(s.notBefore) / 3)
	if !waitUntil(ctx, late, changed) {
		return
	}
	c.log.Warn("identity rotation is late: less than a third of the certificate's life is left",
		"identity", s, "last_error", c.Status().LastError)
	if !waitUntil(ctx, s.notAfter, changed) {
		return
	}
	c.log.Error("identity expired: peers refuse us until the source delivers a new certificate",
		"identity", s, "last_error", c.Status().LastError)
}

// waitUntil reports whether the time came before a change or the end.
func waitUntil(ctx context.Context, at time.Time, changed <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-changed:
		return false
	case <-ctx.Done():
		return false
	}
}
