// Package breaker stops sending to an endpoint that fails again and again. A Gate stands
// before each endpoint: closed, traffic flows; after so many failures in a row it is open
// and nothing passes; after a while it is half-open, and a few probes decide. The state
// machine is github.com/sony/gobreaker's; what stands here keeps it off the hot path, gives
// it the caller's clock, and takes back the place of a probe of which nothing is ever heard.
// The package must not know of endpoints, connections or configuration files.
//
// Cost: while an endpoint has not failed, one atomic load to enter and one to leave
// (BenchmarkGate).
package breaker

import (
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/larboard-proxy/larboard/policy"
)

// Settings of the breakers of a service. They are compared: a Gate that meets other ones
// than before carries its state over.
type Settings struct {
	Failures uint32        // in a row, that open it; at least 1
	Open     time.Duration // until it is half-open
	Probes   uint32        // that pass while it is half-open, and have to succeed; at least 1
	// Lease is how long a probe keeps its place without a word. One that its endpoint has
	// begun to answer by then is a success, any other counts as neither.
	Lease time.Duration
	On    policy.Classifier
}

// State of a Gate.
type State uint8

// The states, in the order in which metrics number them.
const (
	Closed   State = iota // traffic flows
	HalfOpen              // probes only
	Open                  // nothing passes
)

func (s State) String() string { return [...]string{"closed", "half-open", "open"}[s] }

// Change is one change of a Gate's state.
type Change struct {
	From, To State
	At       int64  // on the clock of the callers
	Failures uint32 // in a row, that have opened it
}

// View is what is known of a Gate at one moment.
type View struct {
	State    State
	Since    int64 // of State; 0: it has never been another
	Until    int64 // Open: when it becomes half-open
	Failures uint32
	Probes   int // under way
}

// machine is gobreaker's, which decides. Its clock is the machine's own: Gate asks it
// only when its callers' clock says so, hence a Timeout that has always passed by then.
type machine = gobreaker.TwoStepCircuitBreaker[struct{}]

// instantly stands for no time at all, since 0 means a minute to gobreaker.
const instantly = time.Nanosecond

func newMachine(s Settings, changed func(from, to gobreaker.State)) *machine {
	return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:   s.Probes,
		Timeout:       instantly,
		ReadyToTrip:   func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= s.Failures },
		IsExcluded:    func(err error) bool { return err == errNeither },
		OnStateChange: func(_ string, from, to gobreaker.State) { changed(from, to) },
	})
}

func stateOf(s gobreaker.State) State {
	return [...]State{gobreaker.StateClosed: Closed, gobreaker.StateHalfOpen: HalfOpen, gobreaker.StateOpen: Open}[s]
}
