package discovery

import (
	"maps"
	"slices"
	"time"
)

// ServiceStatus says what a Set knows of a service and since when.
type ServiceStatus struct {
	Service string
	// From is the Spec's From.
	From string
	// Known is false until a first complete set has arrived, possibly an empty one.
	Known     bool
	Endpoints int
	// Index is the source's own version of the last answer; 0: none.
	Index uint64
	// Changed is the time of the set in force.
	Changed time.Time
	// Success is the last time the source sent a set, changed or not. A source that
	// waits for a change is silent, so an old Success with Err nil is healthy.
	Success time.Time
	// Err is the source's last failure; nil: in contact.
	Err error
	// ErrSince is the first failure since the last Success.
	ErrSince time.Time
	// Failures counts those since the last Success.
	Failures int
	// Ended is true when the source has given up for good.
	Ended bool
}

// Age is for how long the set in force may be out of date at now: zero while the
// source is in contact.
func (s ServiceStatus) Age(now time.Time) time.Duration {
	if s.Err == nil {
		return 0
	}
	return now.Sub(s.ErrSince)
}

// Status describes every service, sorted by name.
func (s *Set) Status() []ServiceStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ServiceStatus, 0, len(s.entries))
	for _, name := range slices.Sorted(maps.Keys(s.entries)) {
		out = append(out, s.entries[name].status())
	}
	return out
}

// Snapshot returns the set in force for a service; false: none has arrived yet or
// the service is not in the Set. The endpoints are shared and must not be written.
func (s *Set) Snapshot(service string) (Update, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[service]
	if e == nil || !e.have {
		return Update{}, false
	}
	return e.good, true
}

func (e *entry) status() ServiceStatus {
	return ServiceStatus{
		Service:   e.name,
		From:      e.spec.From,
		Known:     e.have,
		Endpoints: len(e.good.Endpoints),
		Index:     e.good.Index,
		Changed:   e.good.At,
		Success:   e.success,
		Err:       e.err,
		ErrSince:  e.errSince,
		Failures:  e.failures,
		Ended:     e.ended,
	}
}
