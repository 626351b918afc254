package discovery

import (
	"context"
	"time"
)

// entry is one service of a Set; its fields are guarded by the Set's mu, except
// the first block.
type entry struct {
	// immutable after the Set made it
	name string
	spec Spec
	wake chan struct{} // one slot: a set waits to be delivered

	cancel context.CancelFunc // nil until started
	gone   bool               // replaced or removed: reports nothing any more
	ended  bool               // the source has returned for good

	good    Update // last complete set
	have    bool   // good is a set
	pending bool   // good has not been delivered
	// delivered: OnUpdate has had a first set and has returned
	delivered bool

	err      error // last failure; nil: in contact
	errSince time.Time
	failures int
	success  time.Time // last time the source answered
}

// stop ends the source and what it may still report.
func (e *entry) stop() {
	e.gone = true
	if e.cancel != nil {
		e.cancel()
	}
}

// inherit takes over what is known of the service, delivered or not.
func (e *entry) inherit(old *entry) {
	e.good, e.have, e.pending, e.delivered = old.good, old.have, old.pending, old.delivered
	if e.pending {
		e.wake <- struct{}{}
	}
}

// fail notes that the source is out of reach; the last good set stays.
func (e *entry) fail(err error, at time.Time) {
	if e.err == nil {
		e.errSince = at
	}
	e.err = err
	e.failures++
}

// succeed takes a complete set and, when it is a change, puts it up for delivery.
func (e *entry) succeed(u Update) {
	same := e.have && Equal(e.good.Endpoints, u.Endpoints)
	e.err, e.errSince, e.failures, e.success = nil, time.Time{}, 0, u.At
	if same {
		e.good.Index = u.Index
		return
	}
	e.good, e.have, e.pending = u, true, true
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// take returns the set that waits to be delivered.
func (e *entry) take() (Update, bool) {
	if e.gone || !e.pending {
		return Update{}, false
	}
	e.pending = false
	return e.good, true
}
