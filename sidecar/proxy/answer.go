package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// ReasonHeader says why the proxy itself answered.
const ReasonHeader = "x-larboard-reason"

// answer tells the client what went wrong, where an answer can still be given;
// otherwise the connection is reset, so that a broken answer is never taken for a
// whole one.
func (x *Exchange) answer(err error) {
	reason := policy.ReasonOf(err)
	info := reason.Info()
	server := x.server
	if x.sent || !x.answers(reason) || x.Down.state == stateClosed {
		if x.sent && x.answers(reason) && x.Down.state != stateClosed && x.endCall(reason) {
			return
		}
		if x.sent && x.Req.Framing.Minor == 0 {
			x.Down.raw.Abort() // HTTP/1.0 takes an orderly close for the end of the answer
		}
		server.Reset(reason)
		return
	}
	server.Recall() // the endpoint's, if its body failed before anything was sent
	if x.grpc {
		x.answerCall(reason)
		return
	}
	body := append(x.conf.appendSentence(x.text[:0], info), '\n')
	x.text = body

	h := &x.Resp
	h.Reset()
	h.SetStatus(info.Status)
	h.AddString(message.NameContentType, "", "text/plain; charset=utf-8")
	x.conf.addReason(h, info)
	switch {
	case reason == policy.RateLimited:
		x.limited.addRefused(h)
	case info.Status == 503:
		h.AddString(message.NameRetryAfter, "", "1")
	}
	h.Framing = message.Framing{Kind: message.Length, Length: int64(len(body)), Minor: 1}
	x.closeIfLast()
	server.WriteWithin(x.conf.Timeouts.Body)
	if err := server.WriteHead(h); err != nil {
		server.Reset(reason)
		return
	}
	x.sent = true
	if server.WriteBody(body, true) != nil {
		server.Reset(reason)
	}
}

// answers reports whether a reason has an answer: of those of tunnels the one that calls have, too.
func (x *Exchange) answers(r policy.Reason) bool {
	return r.Info().Status != 0 || x.grpc && r == policy.TunnelIdle
}

// bodyError is a failure while the answer streams.
func (x *Exchange) bodyError(err error) error {
	err = x.blame(err)
	var e *policy.Error
	if errors.As(err, &e) && e.Side == policy.Upstream && e.Phase < policy.PhaseBody {
		e.Phase = policy.PhaseBody
	}
	return err
}

// closeIfLast announces the end of the connection where this answer is its last:
// the proxy drains, the listener has gone, a certificate is about to expire, the
// request's body has not been read to its end, or its task has been cancelled.
func (x *Exchange) closeIfLast() {
	if x.Down.last() || !x.body.read || x.task.Err() != nil {
		x.server.SetClose()
	}
}

// settle ends what the exchange began: the pump, and the connection to the
// endpoint, which is kept if it can carry another exchange.
func (x *Exchange) settle(err error) {
	x.server.WatchAbort(nil)
	if err == nil && x.body.running {
		// The answer is complete and the request is not: the endpoint will not read
		// on, and the connection is not used again.
		x.letGo(errSettled)
	}
	x.body.settle(x.task)
	x.decided()
	x.letGo(err)
}
