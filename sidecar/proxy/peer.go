package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/policy"
)

// errPeer is the cause of a failure that happened behind the endpoint's own proxy.
var errPeer = errors.New("said by the endpoint's own proxy")

// heed reads what the endpoint's own proxy says of a request that it could not
// deliver, so that the death of a workload behind a proxy that lives moves requests
// on to other endpoints as the death of both does. Only a peer that has proven its
// identity is believed. A proxy in front of a workload is the only one to say it: an
// answer that a workload passed on from somebody else says nothing about itself, so
// the field is taken out of it.
func (x *Exchange) heed() error {
	if x.Resp.Status < 500 {
		return nil
	}
	code, ok := x.Resp.Lookup(ReasonHeader)
	switch {
	case !ok:
		return nil
	case x.up.PeerID == "":
		if x.conf.Allow != nil {
			x.Resp.DelName(ReasonHeader)
		}
		return nil
	}
	return undelivered(string(code))
}

// unseen are the reasons for which the workload has not seen the request, unless as
// one that may be repeated; half are those for which it may have.
var (
	unseen = [...]policy.Reason{policy.NoEndpoints, policy.NoHealthyEndpoint, policy.ConnectFailed, policy.ConnectTimeout, policy.IntentionsUnknown}
	half   = [...]policy.Reason{policy.UpstreamReset, policy.UpstreamClosed, policy.Draining}
)

// undelivered is the error of an answer that a peer's proxy gave in place of its
// workload, or nil where nothing follows for the endpoint.
func undelivered(code string) error {
	for _, r := range unseen {
		if r.String() == code {
			return &policy.Error{Reason: r, Side: policy.Upstream, Phase: policy.PhaseConnect, Retryable: true, Err: errPeer}
		}
	}
	if policy.EndpointLimit.String() == code { // its workload is busy, which speaks not against it
		return &policy.Error{Reason: policy.EndpointLimit, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, Err: errPeer}
	}
	for _, r := range half {
		if r.String() == code {
			return &policy.Error{Reason: r, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true, Err: errPeer}
		}
	}
	return nil
}

// phaseOf is how far err's exchange had come; PhaseRecord where err does not say.
func phaseOf(err error) policy.Phase {
	if e, ok := errors.AsType[*policy.Error](err); ok {
		return e.Phase
	}
	return policy.PhaseRecord
}
