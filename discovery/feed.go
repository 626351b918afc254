package discovery

import (
	"context"
	"time"
)

// feed is one source of a service with its last good set; its fields are guarded
// by the Set's mu, except the first block.
type feed struct {
	// immutable after the Set made it
	spec Spec

	cancel context.CancelFunc // nil until started
	gone   bool               // replaced or removed: reports nothing any more
	ended  bool               // the source has returned for good

	good  Update                    // last complete set
	have  bool                      // good is a set
	from  string                    // whose set good is: this source's, or that of the one before
	since map[EndpointKey]time.Time // when the source first named each endpoint of good

	err      error // last failure; nil: in contact
	errSince time.Time
	failures int
	success  time.Time // last time the source answered
}

// stop ends the source and what it may still report.
func (f *feed) stop() {
	f.gone = true
	if f.cancel != nil {
		f.cancel()
	}
}

// inherit takes over the set of the source that f replaces, until f has its own.
func (f *feed) inherit(old *feed) {
	f.good, f.have, f.from, f.since = old.good, old.have, old.from, old.since
}

// fail notes that the source is out of reach; the last good set stays.
func (f *feed) fail(err error, at time.Time) {
	if f.err == nil {
		f.errSince = at
	}
	f.err = err
	f.failures++
}

// succeed takes a complete set.
func (f *feed) succeed(u Update) {
	f.err, f.errSince, f.failures, f.success = nil, time.Time{}, 0, u.At
	if f.have && f.from == f.spec.From && Equal(f.good.Endpoints, u.Endpoints) {
		f.good.Index, f.good.Via = u.Index, u.Via
		return
	}
	since := make(map[EndpointKey]time.Time, len(u.Endpoints))
	for i := range u.Endpoints {
		key := u.Endpoints[i].Key()
		since[key] = u.At
		if before, ok := f.since[key]; ok && f.from == f.spec.From {
			since[key] = before
		}
	}
	f.good, f.have, f.from, f.since = u, true, f.spec.From, since
}
