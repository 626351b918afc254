package http1

import (
	"errors"
	"io"
	"os"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/blame"
)

// fault is what a parser found wrong; the zero value is "nothing". It is made
// into a *policy.Error at the edge of the package, where the side is known.
type fault struct {
	reason policy.Reason
	text   violation
}

// violation is the rule that was broken, as the cause of a *policy.Error.
type violation string

func (v violation) Error() string { return "http1: " + string(v) }

func (f fault) bad() bool { return f.reason != policy.None }

func refuse(text violation) fault     { return fault{policy.BadRequest, text} }
func refuseHost(text violation) fault { return fault{policy.BadHost, text} }
func tooLarge(text violation) fault   { return fault{policy.HeadTooLarge, text} }

// violated turns a fault into the error of this side of the connection: a server
// reports the fault's own reason, a client that the endpoint broke the protocol.
func (c *conn) violated(f fault, phase policy.Phase) error {
	c.flags |= flagBroken
	e := &policy.Error{Reason: f.reason, Side: policy.Downstream, Phase: phase, Err: f.text}
	if c.is(flagClient) {
		e.Reason, e.Side = policy.UpstreamProtocol, policy.Upstream
		e.Retryable = phase == policy.PhaseWait
		e.MaybeProcessed = c.is(flagSent)
	}
	return e
}

// misused reports a mistake of the caller. The connection cannot be used further.
func (c *conn) misused(text violation) error {
	c.flags |= flagBroken
	return &policy.Error{Reason: policy.Internal, Side: policy.Internally, Phase: policy.PhaseSend, Err: text}
}

// readFailed gives a transport's read error its reason. Whoever cancels a task
// with a *policy.Error of its own gets that one back. A body or a tunnel is not
// spoilt by it: nothing was lost, so a caller that was only interrupted (a
// deadline while the tunnel's other direction is alive) may read on.
func (c *conn) readFailed(err error, phase policy.Phase) error {
	if c.flags |= flagFailed; phase != policy.PhaseBody {
		c.flags |= flagBroken
	}
	if own := blame.Own(err); own != nil {
		return own
	}
	if err == io.EOF && phase != policy.PhaseWait {
		err = io.ErrUnexpectedEOF
	}
	e := &policy.Error{Side: policy.Downstream, Phase: phase, Err: err}
	if c.is(flagClient) {
		e.Side = policy.Upstream
		e.Retryable = phase == policy.PhaseWait
		e.MaybeProcessed = c.is(flagSent)
		e.Reason = blame.Upstream(err, phase)
	} else {
		e.Reason = blame.Downstream(err, phase)
	}
	if c.rstate == readTunnel {
		e.Reason = blame.Tunnel(err, e.Reason)
	}
	return blame.Interrupted(e)
}

// writeFailed gives a transport's write error its reason. Reading is not spoilt:
// an endpoint that stops reading may have answered already.
func (c *conn) writeFailed(err error) error {
	c.flags |= flagWriteBroken
	if own := blame.Own(err); own != nil {
		return own
	}
	e := &policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseBody, Err: err}
	if c.is(flagClient) {
		e.Reason, e.Side, e.Phase = policy.UpstreamReset, policy.Upstream, policy.PhaseSend
		e.Retryable = c.rstate == readNothing
		e.MaybeProcessed = c.is(flagSent)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			e.Reason = policy.UpstreamTimeout
		}
	}
	if c.wstate == writeTunnel {
		e.Reason = blame.Tunnel(err, e.Reason)
	}
	return blame.Interrupted(e)
}
