package upstream

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
)

// outliers is what decides of a service's endpoints together: who is ejected. Loops come
// here only when an endpoint has failed often enough.
type outliers struct {
	mu    sync.Mutex // held for moments, also while the set is swapped
	guard eject.Guard
	now   int64 // of the last look
	crew  []eject.Member

	capped    int64 // Nanos of the last event that told of the cap
	hasCapped bool
}

// cappedEvery is how often it is told that the cap keeps endpoints in, which it may do at
// every few requests.
const cappedEvery = int64(10 * time.Second)

// Event is a change that people should know of: exactly one of Breaker and Ejection is set.
type Event struct {
	Endpoint *Endpoint
	Breaker  *breaker.Change
	Ejection *eject.Change
}

// events are counted for ever, and kept until they are taken.
type events struct {
	wake     atomic.Pointer[func()]
	changes  [3]atomic.Uint64 // of breakers, by the state they come to
	ejected  [2]atomic.Uint64 // by cause
	capped   atomic.Uint64
	mu       sync.Mutex
	waiting  []Event
	overflow int
}

// mostEvents bounds those that wait, should nobody take them.
const mostEvents = 1024

// OnEvent has f called when there is something for TakeEvents. It is called on loops too,
// and must neither block nor call the Service.
func (s *Service) OnEvent(f func()) { s.events.wake.Store(&f) }

// TakeEvents returns what has happened since it was called last, and how much more.
func (s *Service) TakeEvents() (all []Event, lost int) {
	s.events.mu.Lock()
	defer s.events.mu.Unlock()
	all, lost = s.events.waiting, s.events.overflow
	s.events.waiting, s.events.overflow = nil, 0
	return all, lost
}

func (e *events) add(v Event) {
	e.mu.Lock()
	if len(e.waiting) < mostEvents {
		e.waiting = append(e.waiting, v)
	} else {
		e.overflow++
	}
	e.mu.Unlock()
	if wake := e.wake.Load(); wake != nil {
		(*wake)()
	}
}

// noteBreaker is called by a gate, with its lock held.
func (s *Service) noteBreaker(e *Endpoint, c breaker.Change) {
	s.events.changes[c.To].Add(1)
	s.events.add(Event{Endpoint: e, Breaker: &c})
}

// noteEjections tells of changes. s.outliers.mu is locked.
func (s *Service) noteEjections(set *EndpointSet, changes []eject.Change) {
	for _, c := range changes {
		switch {
		case c.Capped:
			s.events.capped.Add(1)
			if o := &s.outliers; o.hasCapped && o.now-o.capped < cappedEvery {
				continue
			}
			s.outliers.capped, s.outliers.hasCapped = s.outliers.now, true
		case c.Out:
			s.events.ejected[c.Cause].Add(1)
		}
		s.events.add(Event{Endpoint: set.Members[c.Index].Endpoint, Ejection: &c})
	}
}

// eject puts e out for failures in a row, where it may be.
func (s *Service) eject(e *Endpoint, now int64) {
	s.outliers.mu.Lock()
	defer s.outliers.mu.Unlock()
	j, set := s.Settings().Ejection, s.Set()
	if j == nil {
		return
	}
	crew := s.outliers.members(set, now)
	for i := range crew {
		if set.Members[i].Endpoint != e {
			continue
		}
		if c, any := s.outliers.guard.Eject(j, crew, i, eject.InARow, now); any {
			s.noteEjections(set, []eject.Change{c})
		}
	}
}

// members are a set's as ejection sees them, valid until the next call. Locked.
func (o *outliers) members(set *EndpointSet, now int64) []eject.Member {
	o.now = max(o.now, now)
	o.crew = o.crew[:0]
	for i := range set.Members {
		m := &set.Members[i]
		o.crew = append(o.crew, eject.Member{Endpoint: &m.ejection, Counts: m.Weight > 0 && !m.Down(),
			Avoided: m.Suspect(now) || !m.gate.Closed()})
	}
	return o.crew
}

// swap brings a new set into force. Where it is smaller, some of the ejected may have to
// return.
func (s *Service) swap(set *EndpointSet) {
	s.outliers.mu.Lock()
	defer s.outliers.mu.Unlock()
	if j := s.Settings().Ejection; j != nil {
		s.noteEjections(set, s.outliers.guard.Keep(j, s.outliers.members(set, s.outliers.now), s.outliers.now))
	}
	s.set.Store(set)
}

// resettle follows new settings. s.mu is locked.
func (s *Service) resettle(v *Settings) {
	s.outliers.mu.Lock()
	defer s.outliers.mu.Unlock()
	for _, e := range s.known {
		if v.Breaker == nil {
			e.gate.Reset()
		} else {
			e.gate.Adopt(v.Breaker)
		}
	}
	if j := v.Ejection; j != nil {
		set := s.Set()
		s.noteEjections(set, s.outliers.guard.Keep(j, s.outliers.members(set, s.outliers.now), s.outliers.now))
		return
	}
	for _, e := range s.known {
		s.outliers.guard.Clear(&e.ejection)
	}
}

// Sweep does what time brings to breakers and ejection, now on the engine's clock. Called
// about once a second by the control plane.
func (s *Service) Sweep(now int64) {
	v := s.Settings()
	if b := v.Breaker; b != nil {
		for _, m := range s.Set().Members {
			m.gate.Turn(b, now)
		}
	}
	if v.Ejection == nil {
		return
	}
	s.outliers.mu.Lock()
	defer s.outliers.mu.Unlock()
	set := s.Set()
	s.noteEjections(set, s.outliers.guard.Sweep(v.Ejection, s.outliers.members(set, now), now))
}

// Breaker tells the state of an endpoint's breaker; false: there is none.
func (s *Service) Breaker(e *Endpoint, now int64) (breaker.View, bool) {
	if s.Settings().Breaker == nil {
		return breaker.View{}, false
	}
	return e.gate.View(now), true
}

// Ejection tells what ejection holds against an endpoint; false: there is none.
func (s *Service) Ejection(e *Endpoint, now int64) (eject.View, bool) {
	if s.Settings().Ejection == nil {
		return eject.View{}, false
	}
	s.outliers.mu.Lock()
	defer s.outliers.mu.Unlock()
	return s.outliers.guard.View(&e.ejection, now), true
}

// Returning is the share of its picks, 0 to 1, that a returning endpoint gets.
func (s *Service) Returning(e *Endpoint, now int64) float64 {
	j := s.Settings().Ejection
	if j == nil {
		return 1
	}
	return e.ejection.Share(j, now)
}

// Passed reports whether breaker or ejection keep new traffic from e.
func (s *Service) Passed(e *Endpoint, now int64) bool {
	v := s.Settings()
	return v.Breaker != nil && !e.gate.Ready(now) || v.Ejection != nil && e.ejection.Out(now)
}

// BreakerChanges counts the changes of breakers to a state.
func (s *Service) BreakerChanges(to breaker.State) uint64 { return s.events.changes[to].Load() }

// Ejections counts those for a cause.
func (s *Service) Ejections(c eject.Cause) uint64 { return s.events.ejected[c].Load() }

// Capped counts the ejections that the cap did not let happen.
func (s *Service) Capped() uint64 { return s.events.capped.Load() }
