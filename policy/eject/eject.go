// Package eject takes endpoints that stand out for their failures out of rotation for a
// while: those that fail so often in a row, and those whose share of successes is far below
// that of the others. Where a breaker protects an endpoint, ejection protects callers, as
// long as others can do its work: never more than a share of the endpoints is out, and so
// never the only one. What it decides follows from counts and the time it is told; it must
// not know of addresses, health checks or configuration files.
//
// Cost: one atomic addition for an outcome, one atomic load for each endpoint that a pick
// looks at (BenchmarkCount).
package eject

import (
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Settings of a service's ejection.
type Settings struct {
	Consecutive uint32 // failures in a row that eject; 0: they never do
	Rate        Rate
	// Time is how long an endpoint is out, times the number of its ejections in a row, but
	// not more than MaxTime.
	Time, MaxTime time.Duration
	MaxPercent    int           // of the endpoints, that may be out at once
	Ramp          time.Duration // after its return, until an endpoint is picked like any other
	On            policy.Classifier
}

// Rate ejects by success rate: who is below mean - Deviation * standard deviation, taken over
// those with enough requests in an interval.
type Rate struct {
	Interval  time.Duration // 0: never
	Requests  uint32        // that an endpoint must have had to be judged
	Endpoints int           // that must have had as many
	Deviation float64
	Margin    float64 // below the mean at least, of 1: rates that hardly differ eject nobody
}

// Cause of an ejection.
type Cause uint8

// The causes.
const (
	InARow Cause = iota // failures
	ByRate              // of successes
)

func (c Cause) String() string { return [...]string{"consecutive", "success_rate"}[c] }

// Endpoint is what ejection knows of one endpoint, shared by all loops. The zero value is
// in rotation. Times are nanoseconds on a clock that never goes back.
type Endpoint struct {
	until  atomic.Int64  // it is out until then, and returns afterwards; 0: nothing is held against it
	row    atomic.Uint32 // failures in a row
	window atomic.Uint64 // of this interval: failures<<32 | outcomes

	// of the Guard
	since  int64
	length int64 // of the last ejection
	times  int   // ejections in a row
	cause  Cause
	back   bool // its return has been told
}

// Count takes one outcome, and reports whether the endpoint is to be ejected for failures
// in a row; while it cannot be, again after as many.
func (e *Endpoint) Count(s *Settings, v policy.Verdict) (due bool) {
	switch v {
	case policy.Success:
		if e.row.Load() != 0 {
			e.row.Store(0)
		}
		if s.Rate.Interval > 0 {
			e.window.Add(1)
		}
	case policy.Failure:
		if s.Rate.Interval > 0 {
			e.window.Add(1<<32 | 1)
		}
		return e.row.Add(1)%max(s.Consecutive, 1) == 0 && s.Consecutive > 0
	}
	return false
}

// Spotless reports that nothing is held against e: it is neither out nor returning.
func (e *Endpoint) Spotless() bool { return e.until.Load() == 0 }

// Out reports whether e is ejected.
func (e *Endpoint) Out(now int64) bool { return now < e.until.Load() }

// Share is how much of its share of the picks e gets, 0 to 1.
func (e *Endpoint) Share(s *Settings, now int64) float64 {
	until := e.until.Load()
	switch {
	case until == 0:
		return 1
	case now < until:
		return 0
	case now-until >= int64(s.Ramp):
		return 1
	}
	return float64(now-until) / float64(s.Ramp)
}

// most is how many of n endpoints may be out.
func (s *Settings) most(n int) int { return n * s.MaxPercent / 100 }

// View is what is known of an endpoint at one moment; the zero value: it was never out, or
// that is forgotten.
type View struct {
	Out          bool
	Since, Until int64
	Cause        Cause
	Times        int // ejections in a row
}
