package http2

import (
	"errors"
	"io"
	"os"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/blame"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What a task reads of a stream.

// ReadHead implements message.Stream. A server's stream has its head from the beginning, and
// gives it out once; then comes io.EOF. A client's returns interim responses one by one, as far
// as nothing newer has come before they were read.
func (s *Stream) ReadHead(h *message.Head) error {
	h.Reset()
	for !s.is(streamHeld) {
		switch {
		case !s.c.client:
			return io.EOF
		case s.is(streamOver):
			return s.readFailed(nil, policy.PhaseWait)
		case s.is(streamGotHead) || s.wstate == writeNothing:
			return s.misused("a response read without a request")
		}
		if err := s.awaitInput(); err != nil && !(err == engine.ErrTimeout && s.is(streamHeld)) {
			return s.readFailed(err, policy.PhaseWait)
		}
	}
	s.flags &^= streamHeld
	*h, s.head = s.head, *h
	return nil
}

// ReadBody implements message.Stream. Pieces are views of the stream's own buffers; the stream's
// window is given back for what was read by the call before.
func (s *Stream) ReadBody() (p []byte, end bool, err error) {
	s.consumed()
	if !s.is(streamGotHead) {
		return nil, false, s.misused("a body read before its head")
	}
	if s.is(streamTunnels) && !s.is(streamTunnel) && !s.c.client {
		return nil, true, nil // the request itself has no body; what comes is the tunnel's
	}
	for {
		if s.is(streamShed) {
			return nil, false, &policy.Error{Reason: policy.BuffersShort, Phase: policy.PhaseBody, Err: engine.ErrOverload}
		}
		if p = s.body.next(s.c.loop); len(p) > 0 {
			s.unread = len(p)
			return p, s.body.size == 0 && s.is(streamRecvEnd), nil
		}
		switch {
		case s.is(streamRecvEnd):
			return nil, true, nil
		case s.is(streamOver):
			return nil, false, s.readFailed(nil, policy.PhaseBody)
		}
		if err := s.awaitInput(); err != nil && !(err == engine.ErrTimeout && s.BodyReady()) {
			return nil, false, s.readFailed(err, policy.PhaseBody)
		}
	}
}

// Trailers implements message.Stream.
func (s *Stream) Trailers() *message.Head {
	if s.is(streamTrailers) {
		return &s.trail
	}
	return nil
}

// awaitInput parks until something about the reader's side may have changed. Callers let what has
// come win over the deadline.
func (s *Stream) awaitInput() error {
	if s.reader != nil {
		panic("http2: two tasks read from one stream")
	}
	t := s.c.loop.Current()
	if t == nil {
		return engine.ErrWouldBlock
	}
	s.reader = t
	err := s.park(t, "stream read", s.readBy)
	s.reader = nil
	if err == engine.ErrTimeout && !due(s.readBy, s.c.now()) {
		return nil // it was moved meanwhile
	}
	return err
}

// park parks until the deadline by.
func (s *Stream) park(t *engine.Task, why string, by int64) error {
	if by == 0 {
		return t.Park(why)
	}
	left := by - s.c.now()
	if left <= 0 {
		if err := t.Err(); err != nil {
			return err
		}
		return engine.ErrTimeout
	}
	return t.ParkFor(why, duration(left))
}

// consumed gives back the windows for the view that was given out last.
func (s *Stream) consumed() {
	n := s.unread
	if n == 0 {
		return
	}
	s.unread = 0
	s.body.release(s.c.loop)
	if s.debt > 0 {
		paid := min(s.debt, n)
		s.debt -= paid
		s.c.giveBack(paid)
	}
	s.credit(n)
}

// credit lets the peer send n bytes more on the stream. It is told once half of the window has
// come together.
func (s *Stream) credit(n int) {
	c := s.c
	s.owed += n
	if s.owed == 0 || uint32(s.owed) < c.o.StreamWindow/2 || s.is(streamRecvEnd|streamOver) {
		return
	}
	c.reserve(frameHeader + 4)
	c.out = appendWindow(c.out, s.id, uint32(s.owed))
	s.out += frameHeader + 4
	s.recvWindow += int64(s.owed)
	s.owed = 0
}

// payDebt gives back what of the connection's window was kept for bytes that nobody will read.
func (s *Stream) payDebt() {
	if s.debt > 0 {
		s.c.giveBack(s.debt)
		s.debt = 0
	}
}

// misused reports a mistake of the caller.
func (s *Stream) misused(text violation) error {
	return &policy.Error{Reason: policy.Internal, Side: policy.Internally, Phase: policy.PhaseSend, Err: text}
}

// readFailed is the error of a reader: err, or what the stream failed of. Whoever cancels a
// task with a *policy.Error of its own gets that one back.
func (s *Stream) readFailed(err error, phase policy.Phase) error {
	if own := blame.Own(err); own != nil {
		return own
	}
	e := &policy.Error{Side: policy.Downstream, Phase: phase, Err: err}
	if err == nil {
		e.Err, e.Reason = s.fate.cause, s.fate.reason
	}
	if s.c.client {
		e.Side = policy.Upstream
		e.Retryable = phase == policy.PhaseWait
		e.MaybeProcessed = s.is(streamSentHead) && !s.fate.refused
		if e.Reason == policy.None || phase == policy.PhaseBody && brokenOff(e.Reason) {
			e.Reason = blame.Upstream(e.Err, phase)
		}
	} else if e.Reason == policy.None || e.Reason == policy.ClientAborted {
		e.Reason = blame.Downstream(e.Err, phase)
	}
	return s.blamed(e)
}

// brokenOff reports whether r says no more than that the connection is gone.
func brokenOff(r policy.Reason) bool {
	return r == policy.UpstreamReset || r == policy.UpstreamClosed
}

// writeFailed is readFailed for a writer.
func (s *Stream) writeFailed(err error) error {
	if own := blame.Own(err); own != nil {
		return own
	}
	e := &policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseBody, Err: err}
	if s.c.client {
		e.Reason, e.Side, e.Phase = policy.UpstreamReset, policy.Upstream, policy.PhaseSend
		e.Retryable = !s.is(streamGotHead)
		e.MaybeProcessed = s.is(streamSentHead) && !s.fate.refused
	}
	if err == nil {
		e.Err = s.fate.cause
		if s.fate.reason != policy.None {
			e.Reason = s.fate.reason
		}
	} else if s.c.client && errors.Is(err, os.ErrDeadlineExceeded) {
		e.Reason = policy.UpstreamTimeout
	}
	return s.blamed(e)
}

// blamed corrects the reason for a tunnel, and where the engine and not the peer ended the wait.
func (s *Stream) blamed(e *policy.Error) error {
	if s.is(streamTunnel) {
		e.Reason = blame.Tunnel(e.Err, e.Reason)
	}
	return blame.Interrupted(e)
}
