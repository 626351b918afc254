package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// maxAttempts bounds how many endpoints (or fresh connections) one request sees.
const maxAttempts = 3

// attempt sends the request to one endpoint and waits for the head of its answer.
func (x *Exchange) attempt() error {
	x.record.Attempts++
	choice, err := x.loop.upstream.Pick(x.Route.Service, &x.tried)
	if err != nil {
		return err
	}
	choice.Until = x.until
	x.choice, x.picked = choice, x.loop.loop.Nanos()
	x.up, err = x.loop.upstream.Acquire(choice, x.fresh)
	x.record.Connect = x.since(x.picked)
	if err == nil {
		err = x.send()
	}
	if err == nil {
		err = x.await()
	}
	return x.blame(err)
}

// send writes the request head with what is known of the body, and leaves the
// rest to the pump.
func (x *Exchange) send() error {
	x.up.WriteWithin(x.within(x.settings.Timeouts.Body))
	if err := x.up.WriteHead(&x.Req); err != nil {
		return err
	}
	return x.body.send(x)
}

// await reads heads until the final one, passing interim ones on. While the request
// still flows, its pump has the deadlines; the endpoint's time begins at its end.
func (x *Exchange) await() error {
	x.awaiting = true
	defer func() { x.awaiting = false }()
	for {
		if x.body.running {
			x.setUpstreamDeadline(0)
		} else {
			x.setUpstreamDeadline(x.settings.Timeouts.ResponseHead)
		}
		if err := x.up.ReadHead(&x.Resp); err != nil {
			return err
		}
		if x.Resp.Status >= 200 || x.Resp.Status == 101 {
			x.record.ResponseHead = x.since(x.picked)
			x.up.Answered()
			return x.heed()
		}
		if x.Req.Framing.Minor == 0 {
			continue // HTTP/1.0 knows no interim answers
		}
		x.Down.raw.WriteWithin(x.conf.Timeouts.Body)
		if err := x.server.WriteHead(&x.Resp); err != nil {
			return err
		}
	}
}

// blame finds whose failure err is: a client that broke off its body, or left,
// makes the connection to the endpoint fail too.
func (x *Exchange) blame(err error) error {
	switch {
	case err == nil:
		return nil
	case x.body.err != nil:
		return x.body.err
	case errors.Is(err, engine.ErrPeerReset):
		return &policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseWait, Err: err}
	case errors.Is(err, engine.ErrDrain):
		return &policy.Error{Reason: policy.Draining, Phase: policy.PhaseWait, Err: err}
	case x.up != nil && x.up.PeerID != "" && identity.IsAlert(err):
		// In TLS 1.3 the endpoint refuses our certificate after our side of the
		// handshake is done.
		return identity.Classify(err, false)
	case x.overdue():
		return &policy.Error{Reason: policy.RequestDeadline, Side: policy.Upstream, Phase: policy.PhaseWait, Err: err}
	}
	return err
}

// again decides whether another endpoint, or a fresh connection, may be tried
// after err. A request that may have been processed is repeated only if it is
// idempotent (RFC 9110 section 9.2.2), one whose body has begun to flow never.
func (x *Exchange) again(err error) bool {
	var e *policy.Error
	if !errors.As(err, &e) || e.Side != policy.Upstream || x.record.Attempts >= maxAttempts ||
		!x.body.replayable() || x.overdue() {
		return false
	}
	if e.MaybeProcessed && !idempotent(x.Req.MethodBytes()) {
		return false
	}
	switch {
	case e.Err == errPeer:
	case e.Reason == policy.UpstreamTimeout:
		return false // the client has waited long enough, and a slow service needs no more load
	case e.Reason == policy.UpstreamReset, e.Reason == policy.UpstreamClosed:
		if x.up != nil && x.up.Reused {
			// The endpoint closed a kept connection as we chose it; it is as good as
			// any other, over a new connection.
			x.fresh = true
			x.tried.Reset()
		}
		return true
	}
	return e.Retryable
}

// letGo ends a failed attempt.
func (x *Exchange) letGo(err error) {
	if x.choice.Service == nil {
		return
	}
	o := policy.Outcome{Latency: x.record.ResponseHead, Connected: x.up != nil && phaseOf(err) != policy.PhaseConnect}
	if err == nil || err == errSettled {
		o.Status = x.Resp.Status
	} else {
		o.Reason, o.Side = policy.ReasonOf(err), sideOf(err)
	}
	x.record.Endpoint, x.record.EndpointID = x.choice.Member.Address, ""
	x.loop.upstream.Done(x.choice, o)
	x.choice = upstream.Choice{}
	if x.up == nil {
		return
	}
	x.record.EndpointID = x.up.PeerID
	if err == nil {
		x.loop.upstream.Put(x.up)
	} else {
		x.loop.upstream.Close(x.up)
	}
	x.up = nil
}

func sideOf(err error) policy.Side {
	if e, ok := errors.AsType[*policy.Error](err); ok {
		return e.Side
	}
	return policy.Internally
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}
