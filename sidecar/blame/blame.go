// Package blame gives the failures of connections their reasons, in one way for every version
// of HTTP: whose fault an error of the engine is, and what it means in the phase it came in.
//
// What it must not know: codecs, services, routes.
package blame

import (
	"errors"
	"io"
	"os"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Upstream is the reason of an error while an endpoint's answer is awaited or read.
func Upstream(err error, phase policy.Phase) policy.Reason {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return policy.UpstreamTimeout
	case phase == policy.PhaseBody:
		return policy.UpstreamTruncated
	case err == io.EOF || err == io.ErrUnexpectedEOF:
		return policy.UpstreamClosed
	}
	return policy.UpstreamReset
}

// Downstream is the reason of an error while a client's request is awaited or read.
func Downstream(err error, phase policy.Phase) policy.Reason {
	switch {
	case phase == policy.PhaseBody:
		return policy.BodyAborted
	case errors.Is(err, os.ErrDeadlineExceeded):
		return policy.RequestTimeout
	}
	return policy.ClientAborted
}

// Tunnel is the reason of an error in a tunnel, which would otherwise be the given one: there
// are no messages there, which could end too soon.
func Tunnel(err error, otherwise policy.Reason) policy.Reason {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return policy.TunnelIdle
	case otherwise == policy.UpstreamTruncated:
		return policy.UpstreamReset
	case otherwise == policy.BodyAborted:
		return policy.ClientAborted
	}
	return otherwise
}

// Interrupted corrects the blame where the engine, not the peer, ended the wait: the drain
// deadline, a full queue, or (on a client stream) a downstream that was seen to reset while we
// waited for the endpoint. It returns e.
func Interrupted(e *policy.Error) *policy.Error {
	switch {
	case errors.Is(e.Err, engine.ErrDrain):
		e.Reason, e.Side, e.Retryable = policy.Draining, policy.Internally, false
	case errors.Is(e.Err, engine.ErrOverload):
		e.Reason, e.Side, e.Retryable = policy.Overloaded, policy.Internally, false
	case errors.Is(e.Err, engine.ErrPeerReset):
		e.Reason, e.Side, e.Retryable = policy.ClientAborted, policy.Downstream, false
	}
	return e
}

// Own is the *policy.Error in err's chain, with which a task was cancelled by somebody who
// knows better; nil: there is none.
func Own(err error) *policy.Error {
	if e, ok := errors.AsType[*policy.Error](err); ok {
		return e
	}
	return nil
}
