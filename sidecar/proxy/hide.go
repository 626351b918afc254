package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/grpc"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// HideReason is the step of listeners whose clients are not to learn why the proxy answers:
// neither of this proxy (appendSentence) nor of the one in front of the endpoint.
type HideReason struct{}

// Request implements Step.
func (HideReason) Request(*Exchange) error { return nil }

// Response implements Step. What the endpoint's proxy has said itself is said again, in our
// words: its body would tell as much as the field.
func (HideReason) Response(x *Exchange) error {
	code, ok := x.Resp.Lookup(ReasonHeader)
	if !ok {
		return nil
	}
	failed := x.Resp.Status >= 400 || x.grpc && x.told != policy.GRPCOK
	if r, known := policy.ReasonCalled(string(code)); known && failed && x.answers(r) && x.up.PeerID != "" {
		x.letGo(errSettled) // its outcome is its status, as where nothing is hidden
		return &policy.Error{Reason: r, Side: policy.Upstream, Phase: policy.PhaseWait, Err: errSaidByPeer}
	}
	x.Resp.DelName(ReasonHeader)
	return nil
}

var errSaidByPeer = errors.New("the answer of the endpoint's own proxy")

// hideTrailers is HideReason for an answer that the endpoint's proxy had to end early.
func (x *Exchange) hideTrailers(h *message.Head) {
	if h == nil || !x.conf.HideReason {
		return
	}
	code, ok := h.Lookup(ReasonHeader)
	if !ok {
		return
	}
	if r, known := policy.ReasonCalled(string(code)); known && x.up.PeerID != "" {
		x.text = grpc.AppendMessage(x.text[:0], r.Info().Plain())
		h.Set(message.NameGRPCMessage, "", x.text)
	}
	h.DelName(ReasonHeader)
}

// appendSentence appends what an answer says of its reason.
func (c *ListenerConfig) appendSentence(dst []byte, i *policy.ReasonInfo) []byte {
	if c.HideReason {
		return append(dst, i.Plain()...)
	}
	dst = append(dst, i.Code...)
	dst = append(dst, ": "...)
	return append(dst, i.Sentence...)
}

// addReason adds the field that tells the reason.
func (c *ListenerConfig) addReason(h *message.Head, i *policy.ReasonInfo) {
	if !c.HideReason {
		h.AddString(message.NameOther, ReasonHeader, i.Code)
	}
}
