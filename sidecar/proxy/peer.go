package proxy

import (
	"errors"
	"slices"

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
	x.try.doubtful = false
	if x.Resp.Status < 500 && (x.told == policy.GRPCNone || x.told == policy.GRPCOK) {
		return nil
	}
	code, ok := x.Resp.Lookup(ReasonHeader)
	x.try.doubtful = ok && !unprocessed(string(code))
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
	unseen = [...]policy.Reason{policy.NoEndpoints, policy.NoHealthyEndpoint, policy.BreakerOpen, policy.ConnectFailed, policy.ConnectTimeout,
		policy.IntentionsUnknown}
	half = [...]policy.Reason{policy.UpstreamReset, policy.UpstreamClosed, policy.Draining}
)

// unprocessed reports whether a proxy that gives this reason has not let anybody process the
// request. It is asked where a status alone would allow a repeat, so that what is not proven
// is believed all the same: it only forbids.
func unprocessed(code string) bool {
	for _, r := range [...]policy.Reason{policy.EndpointLimit, policy.UpstreamRefused, policy.RateLimited, policy.QuotaUnavailable} {
		if r.String() == code {
			return true
		}
	}
	return slices.ContainsFunc(unseen[:], func(r policy.Reason) bool { return r.String() == code })
}

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
