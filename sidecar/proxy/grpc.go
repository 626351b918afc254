package proxy

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/grpc"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// A gRPC call is an exchange like any other; what is different about it stands here. Its
// failures are told as statuses of gRPC, its deadline comes from the caller, and since it
// may be a stream that is silent for long, it has the patience of a tunnel.
//
// Cost: for a request that is no call, one look at its method and content type
// (TestPlainPathAllocatesNothing has calls, too).

// isCall reports whether h is the head of a gRPC call.
func isCall(h *message.Head) bool {
	if string(h.MethodBytes()) != "POST" || h.Framing.Minor == 0 {
		return false
	}
	contentType, _ := h.Get(message.NameContentType)
	return grpc.Is(contentType)
}

// neverEnds is a deadline that is as good as none; adding it to a time does not overflow.
const neverEnds = time.Duration(1 << 61)

// heedTimeout lets grpc-timeout end the exchange where nothing else does sooner. A value
// that is malformed or repeated is refused, as grpc-go refuses it.
func (x *Exchange) heedTimeout() error {
	if !x.grpc {
		return nil
	}
	var value []byte
	given := 0
	for _, f := range x.Req.Fields() {
		if f.ID == message.NameGRPCTimeout && !f.Deleted() {
			value = x.Req.Value(f)
			given++
		}
	}
	if given == 0 {
		return nil
	}
	d, ok := grpc.ParseTimeout(value)
	if !ok || given > 1 {
		return &policy.Error{Reason: policy.BadRequest, Side: policy.Downstream, Phase: policy.PhaseHead,
			Err: fmt.Errorf("grpc-timeout %.32q, given %d times: it is 1 to 8 digits and one of H M S m u n", value, given)}
	}
	x.timed = true
	if d < neverEnds && (x.until == 0 || x.start+int64(d) < x.until) {
		x.until = x.start + int64(d)
	}
	if x.overdue() {
		return &policy.Error{Reason: policy.RequestDeadline, Side: policy.Downstream, Phase: policy.PhaseRoute}
	}
	return nil
}

// passTimeout tells the endpoint how much time is left. One that was not told by the
// caller learns nothing: when timeouts.request ends its call, it sees that.
func (x *Exchange) passTimeout() {
	if !x.timed || x.until == 0 {
		return
	}
	x.text = grpc.AppendTimeout(x.text[:0], time.Duration(x.until-x.loop.loop.Nanos()))
	x.Req.Set(message.NameGRPCTimeout, "", x.text)
}

// clientSilence is how long the client may neither send what it owes nor take what
// waits for it.
func (x *Exchange) clientSilence() time.Duration {
	if x.grpc && x.settings != nil {
		return x.settings.Timeouts.Tunnel
	}
	return x.conf.Timeouts.Body
}

// endpointSilence is clientSilence for the endpoint, once its answer has begun.
func (x *Exchange) endpointSilence() time.Duration {
	if x.grpc {
		return x.settings.Timeouts.Tunnel
	}
	return x.settings.Timeouts.Body
}

// headSilence is how long the head of the answer may take. Many gRPC servers send it
// with their first message only.
func (x *Exchange) headSilence() time.Duration {
	if x.grpc {
		return x.settings.Timeouts.Tunnel
	}
	return x.settings.Timeouts.ResponseHead
}

// requestMoved and answerMoved: what moves in one direction of a call shows that it is
// alive, as in a tunnel, and gives the other direction its time anew. The end of the
// answer says how the call ended.
func (x *Exchange) requestMoved(up *upstream.Conn) {
	if x.grpc && !x.awaiting {
		up.ReadWithin(x.within(x.endpointSilence()))
	}
}

func (x *Exchange) answerMoved(end bool) {
	if end {
		x.noteStatus(x.up.Trailers())
		x.hideTrailers(x.up.Trailers())
	} else if x.grpc && x.body.running {
		x.server.ReadWithin(x.clientSilence())
	}
}

// silent is err, or TunnelIdle for a call whose silence err stands for.
func (x *Exchange) silent(err error) error {
	if !x.grpc || !errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	phase := phaseOf(err)
	switch policy.ReasonOf(err) {
	case policy.UpstreamTimeout:
		if phase != policy.PhaseSend { // there it has not taken what it was sent
			return &policy.Error{Reason: policy.TunnelIdle, Side: policy.Upstream, Phase: phase, MaybeProcessed: true, Err: err}
		}
	case policy.RequestTimeout, policy.BodyAborted:
		return &policy.Error{Reason: policy.TunnelIdle, Side: policy.Downstream, Phase: phase, Err: err}
	}
	return err
}

// noteStatus keeps what h, a head or trailers, says of how a call ended.
func (x *Exchange) noteStatus(h *message.Head) {
	if !x.grpc || h == nil {
		return
	}
	if code, ok := h.Get(message.NameGRPCStatus); ok {
		x.told = grpc.ParseStatus(code)
	}
}

// callStatus is how a call has ended for its client, err being how the exchange did.
func (x *Exchange) callStatus(err error) policy.GRPCStatus {
	switch {
	case !x.grpc:
		return policy.GRPCNone
	case err != nil && err != errSettled:
		return policy.GRPCStatusOf(policy.ReasonOf(err).Info().GRPC)
	case x.told != policy.GRPCNone:
		return x.told
	}
	return grpc.OfHTTP(x.Resp.Status)
}

// answerCall is the proxy's own answer to a call: a head alone, which says everything
// ("Trailers-Only").
func (x *Exchange) answerCall(reason policy.Reason) {
	h := &x.Resp
	h.Reset()
	h.SetStatus(200)
	h.AddString(message.NameContentType, "", grpc.ContentType)
	x.addStatus(h, reason)
	if reason == policy.RateLimited {
		x.limited.addRefused(h)
	}
	h.Framing = message.Framing{Kind: message.NoBody, Minor: 1}
	x.closeIfLast()
	x.server.WriteWithin(x.conf.Timeouts.Body)
	err := x.server.WriteHead(h)
	if err == nil {
		x.sent = true
		err = x.server.Flush()
	}
	if err != nil {
		x.server.Reset(reason)
	}
}

// endCall ends an answer that has begun and will not come to its end with trailers that
// say so; false: there is no way to send any. A message that was cut in two is no danger:
// its length stands before it.
func (x *Exchange) endCall(reason policy.Reason) bool {
	if !x.grpc || x.Resp.Framing.Kind != message.Chunked {
		return false
	}
	h, status := &x.Resp, x.Resp.Status
	h.Reset()
	x.addStatus(h, reason)
	x.server.WriteWithin(x.conf.Timeouts.Body)
	err := x.server.WriteTrailers(h)
	h.Status = status
	return err == nil
}

func (x *Exchange) addStatus(h *message.Head, reason policy.Reason) {
	info := reason.Info()
	h.AddString(message.NameGRPCStatus, "", statusDigits[info.GRPC])
	if x.conf.HideReason {
		x.text = grpc.AppendMessage(x.text[:0], info.Plain())
	} else {
		x.text = append(x.text[:0], info.Code...)
		x.text = append(x.text, ": "...)
		x.text = grpc.AppendMessage(x.text, info.Sentence)
	}
	h.Add(message.NameGRPCMessage, "", x.text)
	x.conf.addReason(h, info)
}

// statusDigits are gRPC's codes as grpc-status writes them.
var statusDigits = [...]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15", "16"}
