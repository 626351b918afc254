package discovery

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// SourceStatus says what a Set knows of one source and since when.
type SourceStatus struct {
	// From is the Spec's From.
	From string
	// Via says who answered last, where the source has several to ask.
	Via string
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
func (s *SourceStatus) Age(now time.Time) time.Duration {
	if s.Err == nil {
		return 0
	}
	return now.Sub(s.ErrSince)
}

// ServiceStatus says what a Set knows of a service. Of several sources it has the
// oldest Success and ErrSince, the errors of all and no Index.
type ServiceStatus struct {
	Service string
	SourceStatus
	// Sources are in the order of their precedence.
	Sources []SourceStatus
}

// Origin says where one endpoint of a service comes from.
type Origin struct {
	// Position of the source among those of the service.
	Position int
	// Since is when the source first named the endpoint, without interruption.
	Since  time.Time
	Source SourceStatus
	// Also are later sources that name the same address and were passed over.
	Also []string
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
	return e.merged, true
}

// Origins tells of each endpoint in the set in force for a service where it comes
// from.
func (s *Set) Origins(service string) map[EndpointKey]Origin {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.entries[service]
	if e == nil {
		return nil
	}
	return e.origins()
}

func (e *entry) origins() map[EndpointKey]Origin {
	all := make(map[EndpointKey]Origin, len(e.merged.Endpoints))
	owner := map[string]int{}
	also := map[string][]string{}
	for i, f := range e.feeds {
		status := f.status()
		status.From = f.from
		for j := range f.good.Endpoints {
			address := f.good.Endpoints[j].Address
			if first, taken := owner[address]; taken && first != i {
				also[address] = append(also[address], f.from)
				continue
			}
			owner[address] = i
			key := f.good.Endpoints[j].Key()
			all[key] = Origin{Position: i, Since: f.since[key], Source: status}
		}
	}
	for key, o := range all {
		if o.Also = also[key.Address]; o.Also != nil {
			all[key] = o
		}
	}
	return all
}

func (f *feed) status() SourceStatus {
	return SourceStatus{
		From:      f.spec.From,
		Via:       f.good.Via,
		Known:     f.have,
		Endpoints: len(f.good.Endpoints),
		Index:     f.good.Index,
		Changed:   f.good.At,
		Success:   f.success,
		Err:       f.err,
		ErrSince:  f.errSince,
		Failures:  f.failures,
		Ended:     f.ended,
	}
}

func (e *entry) status() ServiceStatus {
	st := ServiceStatus{Service: e.name}
	for _, f := range e.feeds {
		st.Sources = append(st.Sources, f.status())
	}
	st.SourceStatus = overall(st.Sources)
	st.Known, st.Endpoints, st.Changed = e.have, len(e.merged.Endpoints), e.merged.At
	return st
}

// overall folds the states of a service's sources into one.
func overall(all []SourceStatus) SourceStatus {
	if len(all) == 1 {
		return all[0]
	}
	var froms []string
	var errs []error
	one := SourceStatus{Ended: true}
	for i, s := range all {
		froms = append(froms, s.From)
		if i == 0 || s.Success.Before(one.Success) {
			one.Success = s.Success
		}
		if s.Err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.From, s.Err))
			one.ErrSince = earliest(one.ErrSince, s.ErrSince)
		}
		one.Failures += s.Failures
		one.Ended = one.Ended && s.Ended
	}
	one.From, one.Err = strings.Join(froms, ", "), errors.Join(errs...)
	return one
}

// earliest returns the earlier of two moments; a zero one does not count.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
