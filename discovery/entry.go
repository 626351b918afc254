package discovery

import (
	"context"
	"errors"
	"fmt"
)

// entry is one service of a Set; its fields are guarded by the Set's mu, except
// the first block.
type entry struct {
	// immutable after the Set made it
	name string
	wake chan struct{} // one slot: a set waits to be delivered

	cancel context.CancelFunc // of the deliveries; nil until started
	gone   bool               // removed: delivers nothing any more

	feeds []*feed // in the order of their precedence

	merged  Update // the set in force
	have    bool   // merged is a set
	pending bool   // merged has not been delivered
	// delivered: OnUpdate has had a first set and has returned; handing: it has one
	// at this moment.
	delivered, handing bool
}

// stop ends the service's sources and what they may still report.
func (e *entry) stop() {
	e.gone = true
	for _, f := range e.feeds {
		f.stop()
	}
	if e.cancel != nil {
		e.cancel()
	}
}

// renew makes specs the sources of e and returns those that have to be started.
// One whose Key stays goes on untouched; a new one takes over the set of the source
// whose place it takes.
func (e *entry) renew(specs []Spec) (fresh []*feed) {
	old, kept := e.feeds, make([]bool, len(e.feeds))
	next := make([]*feed, len(specs))
	for i, spec := range specs {
		for j, f := range old {
			if !kept[j] && f.spec.Key == spec.Key {
				next[i], kept[j] = f, true
				break
			}
		}
	}
	for i, spec := range specs {
		if next[i] != nil {
			continue
		}
		next[i] = &feed{spec: spec}
		if i < len(old) && !kept[i] {
			next[i].inherit(old[i])
		}
		fresh = append(fresh, next[i])
	}
	for j, f := range old {
		if !kept[j] {
			f.stop()
		}
	}
	e.feeds = next
	e.merge()
	return fresh
}

// merge makes one set of what the sources have and, when it is a change, puts it up
// for delivery. While no source has a set, the one in force stays.
func (e *entry) merge() {
	u, have := Update{Service: e.name}, false
	for _, f := range e.feeds {
		if !f.have {
			continue
		}
		have = true
		if f.good.At.After(u.At) {
			u.At = f.good.At
		}
	}
	if !have {
		return
	}
	if len(e.feeds) == 1 {
		u.Index, u.Via = e.feeds[0].good.Index, e.feeds[0].good.Via
	}
	u.Endpoints = union(e.feeds)
	if e.have && Equal(e.merged.Endpoints, u.Endpoints) {
		e.merged.Index, e.merged.Via = u.Index, u.Via
		return
	}
	e.merged, e.have, e.pending = u, true, true
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// union puts the sets one after the other. Of an address that several sources name,
// the endpoints of the first of them count.
func union(feeds []*feed) []Endpoint {
	if len(feeds) == 1 {
		return feeds[0].good.Endpoints
	}
	owner := map[string]int{}
	var all []Endpoint
	for i, f := range feeds {
		for _, e := range f.good.Endpoints {
			if first, taken := owner[e.Address]; taken && first != i {
				continue
			}
			owner[e.Address] = i
			all = append(all, e)
		}
	}
	return all
}

// take returns the set that waits to be delivered.
func (e *entry) take() (Update, bool) {
	if e.gone || !e.pending {
		return Update{}, false
	}
	e.pending, e.handing = false, true
	return e.merged, true
}

// missing says what e still lacks for its first complete set: something that may
// come, or what will not. Both nil: nothing.
//
// Every source must have answered, but for those that have failed where another
// has endpoints: that one is there to stand in for them.
func (e *entry) missing() (waiting, failed error) {
	for _, f := range e.feeds {
		switch {
		case f.have:
		case f.err == nil:
			return fmt.Errorf("discovery: service %q: no answer from %s yet", e.name, f.spec.From), nil
		case len(e.merged.Endpoints) > 0:
		case f.ended:
			failed = errors.Join(failed, fmt.Errorf("discovery: service %q: %w", e.name, f.err))
		default:
			waiting = errors.Join(waiting, fmt.Errorf("discovery: service %q: no endpoints yet: %w", e.name, f.err))
		}
	}
	if waiting == nil && e.have && (!e.delivered || e.pending || e.handing) {
		waiting = fmt.Errorf("discovery: service %q: its first endpoints are being delivered", e.name)
	}
	return waiting, failed
}
