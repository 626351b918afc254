package policy

import (
	"errors"
	"time"
)

// Side says who failed.
type Side uint8

// The sides of an exchange.
const (
	Internally Side = iota
	Downstream
	Upstream
)

func (s Side) String() string {
	return [...]string{"internal", "downstream", "upstream"}[s]
}

// Phase says how far an exchange had come.
type Phase uint8

// The phases, in their order.
const (
	PhaseAccept Phase = iota
	PhaseHead
	PhaseRoute
	PhasePick
	PhaseConnect
	PhaseSend
	PhaseWait // for the response head
	PhaseBody
	PhaseRecord
)

func (p Phase) String() string {
	return [...]string{"accept", "head", "route", "pick", "connect", "send", "wait", "body", "record"}[p]
}

// Error is how codecs, pools and the exchange report a failure: the reason, whose
// it was, when, and what may be done about it. It is created on failure only.
type Error struct {
	Reason Reason
	Side   Side
	Phase  Phase
	// Retryable: another endpoint may well succeed.
	Retryable bool
	// MaybeProcessed: a byte of the request may have reached the endpoint, so a
	// request that is not idempotent must not be repeated.
	MaybeProcessed bool
	// Err is the cause; may be nil.
	Err error
}

func (e *Error) Error() string {
	s := e.Reason.String()
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// ReasonOf finds the reason in err's chain: None for nil, Internal where there is none.
func ReasonOf(err error) Reason {
	if err == nil {
		return None
	}
	if e := ErrorOf(err); e != nil {
		return e.Reason
	}
	return Internal
}

// ErrorOf finds the *Error in err's chain; nil: there is none.
func ErrorOf(err error) *Error {
	e, _ := errors.AsType[*Error](err)
	return e
}

// Outcome is what one attempt at one endpoint came to. It is made exactly once an
// attempt and feeds balancing, health, metrics and the log.
type Outcome struct {
	Reason Reason // None: an answer was delivered, whatever its status
	Side   Side   // whose failure, where Reason is not None
	Status int    // HTTP status received from the endpoint; 0: none
	// GRPC is how a gRPC call ended: the endpoint's word where there was one, else what
	// Reason comes to. GRPCNone: no call, or it has not ended yet.
	GRPC GRPCStatus
	// Connected: the endpoint accepted the connection. False marks it passively.
	Connected bool
	// Kept: the connection had been used before. That it ended may only mean that the
	// endpoint was about to close it.
	Kept bool
	// Hurried: the time was set by the client (grpc-timeout), as short as it likes.
	Hurried bool
	Latency time.Duration // from the pick to the response head (HTTP) or to the connection (TCP)
}

// Failed reports whether the endpoint is to blame.
func (o Outcome) Failed() bool { return o.Reason != None && o.Side == Upstream }
