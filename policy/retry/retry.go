// Package retry decides whether an attempt that came to nothing is made again, when, and
// whether the service can bear it. It is pure: it is told what happened, the time and a
// random number. It must not know of connections, bodies or endpoints.
//
// Two rules stand above every setting. What may have been processed is repeated only if
// its method is idempotent (RFC 9110 section 9.2.2); the one thing beside it is a gRPC
// status that the configuration names, since gRPC has no idempotent methods and naming it
// says that such calls may be repeated. And repeats that may be work for an endpoint draw
// from a Budget, so that they cannot turn a bad minute into an outage.
package retry

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Cause is why an attempt is to be repeated.
type Cause uint8

// The causes; a Policy names the first six by their bits.
const (
	NoCause        Cause = iota
	ConnectFailure       // no connection; or behind the endpoint's own proxy none to its workload
	RefusedStream        // the endpoint has not looked at the request
	Reset                // the connection or stream ended, or made no sense, before an answer
	Timeout              // no answer in the time of an attempt, or in that for its head
	Status               // an answer with one of the statuses
	GRPCStatus           // an answer that is nothing but one of gRPC's statuses
	causeCount
)

var causeNames = [causeCount]string{"none", "connect_failure", "refused_stream", "reset", "timeout", "status", "grpc_status"}

func (c Cause) String() string { return causeNames[c] }

// Causes lists all but NoCause.
func Causes() []Cause {
	return []Cause{ConnectFailure, RefusedStream, Reset, Timeout, Status, GRPCStatus}
}

// Causes of a Policy are a set.
type CauseSet uint8

// Of returns the set of causes.
func Of(causes ...Cause) (s CauseSet) {
	for _, c := range causes {
		s |= 1 << c
	}
	return s
}

// Has reports whether c is in s.
func (s CauseSet) Has(c Cause) bool { return s&(1<<c) != 0 }

// Statuses is a set of HTTP statuses, 100 to 599. The zero value is empty.
type Statuses struct{ bits [8]uint64 }

// Add puts from to to, both included, into s. Others than 100 to 599 are left out.
func (s *Statuses) Add(from, to int) {
	for i := max(from, 100); i <= min(to, 599); i++ {
		s.bits[(i-100)/64] |= 1 << ((i - 100) % 64)
	}
}

// Has reports whether status is in s.
func (s *Statuses) Has(status int) bool {
	i := status - 100
	return i >= 0 && i < 500 && s.bits[i/64]&(1<<(i%64)) != 0
}

// GRPCStatuses is a set of gRPC's statuses. The zero value is empty.
type GRPCStatuses uint32

// Add puts st into s.
func (s *GRPCStatuses) Add(st policy.GRPCStatus) { *s |= 1 << st }

// Has reports whether st is in s.
func (s GRPCStatuses) Has(st policy.GRPCStatus) bool { return s&(1<<st) != 0 }

// Policy is what the configuration says of one service's or route's repeats. It is
// immutable. The zero value repeats nothing.
type Policy struct {
	Attempts int // in all, the first included; 1 or less: nothing is repeated
	// On holds the failures that are repeated; answers are those of Statuses and GRPC.
	On       CauseSet
	Statuses Statuses
	GRPC     GRPCStatuses
	// PerTry bounds an attempt from the choice of its endpoint to the head of its answer;
	// 0: nothing but the request's own times does.
	PerTry  time.Duration
	Backoff Backoff
	Budget  Limits
	// Replay is how many bytes of a request's body are kept to be sent again.
	Replay int
}

// Off reports whether p never repeats anything.
func (p *Policy) Off() bool { return p == nil || p.Attempts <= 1 }

// Repeats reports whether anything is repeated for c.
func (p *Policy) Repeats(c Cause) bool {
	switch {
	case p.Off():
		return false
	case c == Status:
		return p.Statuses != Statuses{}
	case c == GRPCStatus:
		return p.GRPC != 0
	}
	return p.On.Has(c)
}

// Backoff is how long to wait before a repeat.
type Backoff struct{ Base, Max time.Duration }

// Before is the wait before attempt number n (2 is the first repeat): anything up to Base,
// which doubles with each repeat up to Max ("full jitter"). random is in [0, 1).
func (b Backoff) Before(n int, random float64) time.Duration {
	most := b.Base
	for i := 2; i < n && most < b.Max; i++ {
		most *= 2
	}
	return time.Duration(random * float64(min(most, b.Max)))
}

// Attempt is one that has ended, as Decide judges it.
type Attempt struct {
	// Err is nil where the head of an answer has come.
	Err    error
	Status int               // of the answer
	GRPC   policy.GRPCStatus // of an answer that is nothing but it; else GRPCNone
	// Doubtful: a proxy on the way has made that status for a failure in which the request
	// may have been processed.
	Doubtful bool
	Number   int // from 1

	Idempotent bool // by its method
	Replayable bool // what was sent of the body can be sent again
	// Burden: the endpoint may have had work with it. Without a byte sent, or where it
	// took leave of the connection before the request, it has not.
	Burden bool
	// Stale: it went over a kept connection that ended without a byte of an answer, most
	// probably because the endpoint was closing it.
	Stale bool
}

// Result is what became of the wish to repeat an attempt.
type Result uint8

// The results.
const (
	Nothing Result = iota // there was none: the attempt's end is not one of the policy's
	Made
	OverBudget
	Spent  // all attempts have been made, or the request's time is over
	Unsafe // it may have been processed and is not idempotent, or its body is not kept
	resultCount
)

var resultNames = [resultCount]string{"nothing", "made", "budget", "spent", "unsafe"}

func (r Result) String() string { return resultNames[r] }

// Results lists all but Nothing.
func Results() []Result { return []Result{Made, OverBudget, Spent, Unsafe} }

// Verdict is what Decide says. Result is Made where the attempt is to be repeated, as far
// as the budget allows it.
type Verdict struct {
	Cause  Cause
	Result Result
	// Free: the repeat does not draw from the budget.
	Free bool
	// AtOnce: it need not wait.
	AtOnce bool
}

// Decide judges an attempt that has ended. It must be one whose failure is not the
// client's: of those it says Nothing.
func (p *Policy) Decide(a Attempt) Verdict {
	if p.Off() {
		return Verdict{}
	}
	cause, proven := p.cause(a)
	v := Verdict{Cause: cause}
	switch {
	case cause == NoCause:
		return v
	case a.Number >= p.Attempts:
		v.Result = Spent
	case !a.Idempotent && !proven || !a.Replayable:
		v.Result = Unsafe
	default:
		v.Result = Made
		v.Free = !a.Burden
		v.AtOnce = a.Number == 1 && (cause == ConnectFailure || cause == RefusedStream || a.Stale && cause == Reset)
	}
	return v
}

// cause is why a is to be repeated, if it is; proven tells that it may be, whatever its
// method: the request was not processed, or the configuration says that it may be again.
func (p *Policy) cause(a Attempt) (c Cause, proven bool) {
	if a.Err == nil {
		switch {
		case a.GRPC != policy.GRPCNone && p.GRPC.Has(a.GRPC):
			return GRPCStatus, !a.Doubtful
		case p.Statuses.Has(a.Status):
			return Status, false
		}
		return NoCause, false
	}
	e := policy.ErrorOf(a.Err)
	if e == nil || e.Side != policy.Upstream {
		return NoCause, false
	}
	if c = causeOf(e); !p.On.Has(c) {
		return NoCause, false
	}
	return c, !e.MaybeProcessed
}

// causeOf sorts the failures of endpoints.
func causeOf(e *policy.Error) Cause {
	switch {
	case e.Reason == policy.UpstreamTimeout || e.Reason == policy.TryTimeout && e.Phase > policy.PhaseConnect:
		return Timeout
	case !e.Retryable:
		return NoCause
	case e.Phase <= policy.PhaseConnect:
		return ConnectFailure
	case e.Reason == policy.UpstreamRefused || e.Reason == policy.EndpointLimit:
		return RefusedStream
	}
	return Reset
}
