package discovery

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"
)

// Window is the shortest time between two updates of one service: changes that
// come faster are folded into the last of them.
const Window = 20 * time.Millisecond

// Spec is one source of a service's endpoints.
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

// Set runs the sources of services, keeps the last good endpoints of each source,
// and merges those of one service: one source after the other, and where several
// name an address, as the first of them has it. What a source reports as a failure
// changes the Status and never the endpoints.
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
	changed chan struct{}   // closed and replaced when an entry's result arrives or is delivered
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
		e := s.entries[name]
		s.start(e, e.feeds)
	}
	s.mu.Unlock()

	<-ctx.Done()
	s.mu.Lock()
	s.stopped = true
	s.mu.Unlock()
	s.running.Wait()
	return ctx.Err()
}

// Apply makes specs, by service name, the wanted state; the order of a service's
// sources is that of their precedence. Sources whose Key is unchanged run on
// untouched. The endpoints of a source whose Key changed stay until the new source
// has sent its own. A service that is no longer named is forgotten. After Apply
// returns, nothing of a stopped source reaches OnUpdate; its goroutines end soon
// after and are waited for by Run.
func (s *Set) Apply(specs map[string][]Spec) {
	s.deliver.Lock()
	defer s.deliver.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()

	for name, e := range s.entries {
		if len(specs[name]) == 0 {
			e.stop()
			delete(s.entries, name)
		}
	}
	for name, list := range specs {
		if len(list) == 0 {
			continue
		}
		e := s.entries[name]
		if e == nil {
			e = &entry{name: name, wake: make(chan struct{}, 1)}
			s.entries[name] = e
		}
		fresh := e.renew(list)
		if s.ctx != nil && !s.stopped {
			s.start(e, fresh)
		}
	}
	s.announce()
}

// start runs sources of e and, the first time, its deliveries. Called with mu held.
func (s *Set) start(e *entry, feeds []*feed) {
	for _, f := range feeds {
		ctx, cancel := context.WithCancel(s.ctx)
		f.cancel = cancel
		s.running.Go(func() { s.watch(ctx, e, f) })
	}
	if e.cancel == nil {
		ctx, cancel := context.WithCancel(s.ctx)
		e.cancel = cancel
		s.running.Go(func() { s.pass(ctx, e) })
	}
}

// watch runs a source of e until it ends.
func (s *Set) watch(ctx context.Context, e *entry, f *feed) {
	err := f.spec.New().Run(ctx, func(u Update) { s.receive(e, f, u) })
	if ctx.Err() != nil {
		return
	}
	if err == nil {
		err = errors.New("source ended by itself")
	}
	s.log.Error("discovery source ended", "service", e.name, "from", f.spec.From, "error", err)
	s.mu.Lock()
	defer s.mu.Unlock()
	f.fail(err, time.Now())
	f.ended = true
	s.announce()
}

// receive takes what a source of e reports.
func (s *Set) receive(e *entry, f *feed, u Update) {
	if u.At.IsZero() {
		u.At = time.Now()
	}
	u.Service = e.name
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.gone {
		return
	}
	defer s.announce()
	log := s.log.With("service", e.name, "from", f.spec.From)
	if u.Err != nil {
		if f.err == nil || u.News {
			log.Warn("discovery source out of reach, last endpoints kept", "endpoints", len(f.good.Endpoints), "error", u.Err)
		}
		f.fail(u.Err, u.At)
		return
	}
	if f.err != nil {
		log.Info("discovery source back", "away", u.At.Sub(f.errSince))
	}
	var dropped int
	u.Endpoints, dropped = unique(u.Endpoints)
	if dropped > 0 {
		log.Warn("endpoints with the id of another dropped", "dropped", dropped)
	}
	f.succeed(u)
	e.merge()
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
	e.delivered, e.handing = true, false
	s.announce()
}

// announce wakes those who wait for first results. Called with mu held.
func (s *Set) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// WaitFirst returns once OnUpdate has had a complete set, possibly empty, of each
// service: every source has answered, or has ended for good. A source that has
// failed is not waited for where another one of the service has endpoints. At the
// end of ctx it returns an error that names those still without one and what their
// sources last reported. Where services are named, it waits for those only.
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
// whose sources have ended; none named: of all. Called with mu held.
func (s *Set) missing(named []string) (waiting, failed []error) {
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		if len(named) > 0 && !slices.Contains(named, name) {
			continue
		}
		more, never := s.entries[name].missing()
		if more != nil {
			waiting = append(waiting, more)
		}
		if never != nil {
			failed = append(failed, never)
		}
	}
	return waiting, failed
}
