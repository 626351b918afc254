package proxy

import (
	"errors"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// attempt sends the request to one endpoint and waits for the head of its answer.
func (x *Exchange) attempt() error {
	if x.record.Attempts++; x.record.Attempts == 1 {
		x.Route.Service.Repeats.Ask()
	}
	x.tried.Ask = x.ask()
	var err error
	if x.choice, err = x.pick(); err != nil {
		return err
	}
	x.told = policy.GRPCNone
	x.picked = x.loop.loop.Nanos()
	x.limitTry()
	x.choice.Until, x.choice.For = x.by(), x.Down.origin(x.settings)
	if x.record.Attempts == 1 {
		x.record.Queue = time.Duration(x.picked-x.start) - x.record.RequestHead
	}
	x.record.Connect, x.record.ResponseHead = 0, 0
	x.up, err = x.loop.upstream.Acquire(&x.choice, x.fresh)
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
	if err := x.offers(); err != nil {
		return err
	}
	x.up.WriteWithin(x.within(x.endpointSilence()))
	x.passTimeout()
	x.passTrace()
	if x.granted {
		x.Req.Framing.Continue = false
	}
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
			x.setUpstreamDeadline(x.headSilence())
		}
		if err := x.up.ReadHead(&x.Resp); err != nil {
			return err
		}
		if x.Resp.Status >= 200 || x.Resp.Status == 101 {
			x.record.ResponseHead = x.since(x.picked)
			x.up.Answered()
			x.loop.upstream.Answered(&x.choice)
			x.noteStatus(&x.Resp)
			if err := x.accepted(); err != nil {
				return err
			}
			return x.heed()
		}
		if x.Req.Framing.Minor == 0 {
			continue // HTTP/1.0 knows no interim answers
		}
		if x.Resp.Status == 100 {
			if x.granted {
				continue // by an earlier endpoint: the client has begun to send, and may take this for leave to do it again
			}
			x.granted = true
		}
		x.server.WriteWithin(x.clientSilence())
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
		return x.silent(x.body.err)
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
	case x.tryOver():
		return tryTimeout(err)
	}
	return x.silent(err)
}

// letGo ends an attempt: err nil where its answer has been taken whole.
func (x *Exchange) letGo(err error) {
	x.giveBack()
	if x.choice.Service == nil {
		return
	}
	o := policy.Outcome{Latency: x.record.ResponseHead, Connected: x.up != nil && phaseOf(err) != policy.PhaseConnect,
		Kept: x.up != nil && x.up.Reused, Hurried: x.timed || x.record.Attempts > 1} // of which only what others have left is this attempt's
	if err == nil || err == errSettled {
		o.Status = x.Resp.Status
	} else {
		o.Reason, o.Side = policy.ReasonOf(err), sideOf(err)
	}
	o.GRPC = x.callStatus(err)
	x.record.Endpoint, x.record.EndpointLeft, x.record.EndpointID = x.choice.Member.Address, x.choice.Member.Left(), ""
	if x.up != nil {
		x.record.EndpointID = x.up.PeerID
	}
	x.record.Active.Endpoint = x.choice.Member.Inflight()
	x.noteTry(&o, err)
	x.loop.upstream.Done(&x.choice, o)
	x.choice = upstream.Choice{}
	if x.up == nil {
		return
	}
	if err == nil {
		x.loop.upstream.Put(x.up)
	} else {
		x.loop.upstream.Close(x.up)
	}
	x.up = nil
}

// noteTry adds the attempt that ends to the record.
func (x *Exchange) noteTry(o *policy.Outcome, err error) {
	t := observability.Try{
		Endpoint: x.record.Endpoint, EndpointID: x.record.EndpointID,
		Span: x.attemptSpan(), Reason: o.Reason, Side: o.Side, Status: o.Status, GRPC: o.GRPC,
		Reused: x.up != nil && x.up.Reused,
		Start:  time.Duration(x.picked - x.start), Connect: x.record.Connect, Head: x.record.ResponseHead, Total: x.since(x.picked),
	}
	if o.Reason != policy.None {
		t.Phase = phaseOf(err)
	}
	x.record.Tries = append(x.record.Tries, t)
}

func sideOf(err error) policy.Side {
	if e, ok := errors.AsType[*policy.Error](err); ok {
		return e.Side
	}
	return policy.Internally
}
