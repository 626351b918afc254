package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Window is the shortest time between two updates of one service: changes that
// come faster are folded into the last of them.
const Window = 20 * time.Millisecond

// Spec says where the endpoints of one service come from.
type Spec struct {
	// Key identifies the source's settings: while it stays the same, Apply leaves
	// the running source alone.
	Key string
	// From names the place for people and for Status ("static", "consul:dc1").
	From string
	// New makes the source; it is called once per start, must not block and must not
	// call the Set.
	New func() Source
}

// Set runs one source per service and keeps the last good endpoints of each. What
// a source reports as a failure changes the Status and never the endpoints.
//
// All methods are safe for concurrent use, except that OnUpdate must not call
// Apply.
type Set struct {
	// OnUpdate receives each complete set that differs from the one before: the
	// first at once, further ones at most once a Window per service. Calls never
	// overlap; a slow one delays every service. Update.Err is always nil; the
	// endpoints are shared and must not be written. Assign before Run.
	OnUpdate func(Update)

	// immutable after New
	log *slog.Logger

	deliver sync.Mutex // held across OnUpdate; taken before mu

	mu      sync.Mutex // guards what follows
	entries map[string]*entry
	ctx     context.Context // of Run; nil until then
	stopped bool            // Run has begun to return
	changed chan struct{}   // closed and replaced when an entry's first result arrives or is delivered
	running sync.WaitGroup
}

// New returns an empty Set. A nil log discards.
func New(log *slog.Logger) *Set {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Set{log: log, entries: map[string]*entry{}, changed: make(chan struct{})}
}

// Run starts the sources, and those of later Apply calls, until ctx ends; it
// returns ctx's error after every goroutine of the Set has ended. Call it once.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.ctx != nil {
		s.mu.Unlock()
		return errors.New("discovery: set is already running")
	}
	s.ctx = ctx
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		s.start(s.entries[name])
	}
	s.mu.Unlock()

	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
	return ctx.Err()
}

// Apply makes specs, by service name, the wanted state. Sources whose Key is
// unchanged run on untouched. A service whose Key changed keeps its last good
// endpoints until the new source has sent its own. A service that is no longer
// named is forgotten. After Apply returns, nothing of a stopped source reaches
// OnUpdate; its goroutines end soon after and are waited for by Run.
func (s *Set) Apply(specs map[string]Spec) {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()

	for name, old := range s.entries {
		spec, wanted := specs[name]
		if wanted && spec.Key == old.spec.Key {
			continue
		}
		old.stop()
		delete(s.entries, name)
		if wanted {
			s.add(name, spec, old)
		}
	}
	for name, spec := range specs {
		if _, there := s.entries[name]; !there {
			s.add(name, spec, nil)
		}
	}
	s.announce()
}

// add makes an entry, with what is known of the service so far, and starts it
// when the Set runs. Called with mu held.
func (s *Set) add(name string, spec Spec, old *entry) {
	e := &entry{name: name, spec: spec, wake: make(chan struct{}, 1)}
	if old != nil {
		e.inherit(old)
	}
	s.entries[name] = e
	if s.ctx != nil && !s.stopped {
		s.start(e)
	}
}

// start runs the source of e and its deliveries. Called with mu held.
func (s *Set) start(e *entry) {
	ctx, cancel := context.WithCancel(s.ctx)
	e.cancel = cancel
	s.running.Go(func() { s.watch(ctx, e) })
	s.running.Go(func() { s.pass(ctx, e) })
}

// watch runs the source of e until it ends.
func (s *Set) watch(ctx context.Context, e *entry) {
	err := e.spec.New().Run(ctx, func(u Update) { s.receive(e, u) })
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("source ended by itself")
	}
	s.log.Error("discovery source ended", "service", e.name, "from", e.spec.From, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.fail(err, time.Now())
	e.ended = true
	s.announce()
}

// receive takes what the source of e reports.
func (s *Set) receive(e *entry, u Update) {
	if u.At.IsZero() {
		u.At = time.Now()
	}
	u.Service = e.name
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.gone {
		return
	}
	if u.Err != nil {
		if e.err == nil {
			s.log.Warn("discovery source out of reach, last endpoints kept",
				"service", e.name, "from", e.spec.From, "endpoints", len(e.good.Endpoints), "error", u.Err)
		}
		e.fail(u.Err, u.At)
		s.announce()
		return
	}
	if e.err != nil {
		s.log.Info("discovery source back", "service", e.name, "from", e.spec.From, "away", u.At.Sub(e.errSince))
	}
	var dropped int
	u.Endpoints, dropped = unique(u.Endpoints)
	if dropped > 0 {
		s.log.Warn("endpoints with the id of another dropped", "service", e.name, "from", e.spec.From, "dropped", dropped)
	}
	e.succeed(u)
	s.announce()
}

// pass hands the sets of e to OnUpdate, no more than one a Window.
func (s *Set) pass(ctx context.Context, e *entry) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-ctx.Done():
			return
		case <-e.wake:
		}
		s.hand(e)
		timer.Reset(Window)
	}
}

// hand delivers what waits in e, if it still is a change and e still wanted.
func (s *Set) hand(e *entry) {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	s.mu.Lock()
	u, ok := e.take()
	s.mu.Unlock()
	if !ok {
		return
	}
	if s.OnUpdate != nil {
		s.OnUpdate(u)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !e.delivered {
		e.delivered = true
		s.announce()
	}
}

// announce wakes those who wait for a first result. Called with mu held.
func (s *Set) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// WaitFirst returns once OnUpdate has had a complete set, possibly empty, of each
// service, or its source has ended for good. At the end of ctx it returns an error
// that names those still without one and what their sources last reported. Where
// services are named, it waits for those only.
func (s *Set) WaitFirst(ctx context.Context, services ...string) error {
	for {
		s.mu.Lock()
		waiting, failed := s.missing(services)
		changed := s.changed
		s.mu.Unlock()
		if len(waiting) == 0 {
			return errors.Join(failed...)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errors.Join(append(failed, waiting...)...)
		}
	}
}

// missing lists services without a set: those that may still get one, and those
// whose source has ended; none named: of all. Called with mu held.
func (s *Set) missing(named []string) (waiting, failed []error) {
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		if len(named) > 0 && !slices.Contains(named, name) {
			continue
		}
		e := s.entries[name]
		switch {
		case e.delivered:
		case e.have:
			waiting = append(waiting, fmt.Errorf("discovery: service %q: its first endpoints are being delivered", name))
		case e.ended:
			failed = append(failed, fmt.Errorf("discovery: service %q: %w", name, e.err))
		case e.err != nil:
			waiting = append(waiting, fmt.Errorf("discovery: service %q: no endpoints yet: %w", name, e.err))
		default:
			waiting = append(waiting, fmt.Errorf("discovery: service %q: no answer from %s yet", name, e.spec.From))
		}
	}
	return waiting, failed
}
