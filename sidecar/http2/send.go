package http2

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What a task writes to a stream. It goes to the connection's output; the task parks while that
// has no room, or while a window is empty.

func duration(nanos int64) time.Duration { return time.Duration(nanos) }

// WriteHead implements message.Stream. h must not be changed until the next WriteBody,
// WriteTrailers, Flush or Recall: it is compressed only when it is sent.
func (s *Stream) WriteHead(h *message.Head) error {
	interim := !s.c.client && h.Status < 200 && h.Status != 101
	switch {
	case s.is(streamOver):
		return s.writeFailed(nil)
	case s.wstate != writeNothing:
		return s.misused("a second final head")
	case interim:
		if err := s.sendHead(h, false); err != nil {
			return err
		}
		s.flags &^= streamSentHead
		return nil
	}
	f := &h.Framing
	switch {
	case s.tunnels(h):
		s.wstate = writeOpen
		if !s.c.client {
			s.flags |= streamTunnel
			s.wakeReader()
		}
	case f.Kind == message.NoBody || f.Kind == message.Length && f.Length == 0 || s.bodiless(h.Status):
		s.wstate = writeHeadOnly
	case f.Kind == message.Length:
		if s.wstate, s.owes = writeLength, f.Length; f.Length < 0 {
			s.wstate = writeNothing
			return s.misused("a negative length")
		}
	default:
		s.wstate = writeOpen
	}
	s.pending = h
	return nil
}

// tunnels reports whether our direction stays open for opaque bytes after h.
func (s *Stream) tunnels(h *message.Head) bool {
	if s.c.client {
		return h.Framing.Upgrade.End != 0 || string(h.MethodBytes()) == "CONNECT"
	}
	return h.Framing.Kind == message.Tunnel
}

// bodiless reports whether a response of that status has no body here.
func (s *Stream) bodiless(status int) bool {
	return !s.c.client && (s.is(streamHEAD) || status == 204 || status == 304)
}

// Recall takes back a final head of which nothing has been sent, and reports whether there was
// one.
func (s *Stream) Recall() bool {
	if s.pending == nil || s.is(streamTunnel) {
		return false
	}
	s.pending, s.wstate = nil, writeNothing
	return true
}

// Flush implements message.Stream: a head without a body is complete with it.
func (s *Stream) Flush() error {
	if s.pending == nil {
		if s.is(streamOver) && s.wstate != writeDone {
			return s.writeFailed(nil)
		}
		return nil
	}
	return s.sendPending(s.wstate == writeHeadOnly)
}

// WriteBody implements message.Stream. Data for a message that has no body is dropped.
func (s *Stream) WriteBody(p []byte, end bool) error {
	switch s.wstate {
	case writeDone:
		return nil
	case writeNothing:
		return s.misused("a body written before its head")
	case writeHeadOnly:
		return s.Flush()
	case writeLength:
		if s.owes -= int64(len(p)); s.owes < 0 || end && s.owes > 0 {
			s.owes = 0
			return s.misused("a body at odds with the announced length")
		}
	}
	if s.pending != nil {
		if err := s.sendPending(end && len(p) == 0); err != nil {
			return err
		}
	}
	return s.sendData(p, end)
}

// WriteTrailers implements message.Stream: it ends a body with t.
func (s *Stream) WriteTrailers(t *message.Head) error {
	if s.wstate != writeOpen && (s.wstate != writeLength || s.owes > 0) || s.is(streamTunnel) || t == nil {
		return s.WriteBody(nil, true)
	}
	if s.pending != nil {
		if err := s.sendPending(false); err != nil {
			return err
		}
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	c := s.c
	start := c.openBlock(t)
	c.out = appendTrailers(c.out, &c.encoder, t)
	if len(c.out) == start+frameHeader {
		c.out = c.out[:start]
		return s.sendData(nil, true)
	}
	s.closeBlock(start, true)
	c.offer()
	return nil
}

// sendPending sends the head that waits.
func (s *Stream) sendPending(end bool) error {
	h := s.pending
	s.pending = nil
	return s.sendHead(h, end)
}

// sendHead compresses h into the output, where no task comes between: the order of blocks is
// that of the encoder.
func (s *Stream) sendHead(h *message.Head, end bool) error {
	c := s.c
	if c.client && h.Framing.Upgrade.End != 0 {
		if err := s.awaitSettings(); err != nil {
			return err
		}
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	start := c.openBlock(h)
	if s.tooLate() { // or by now, since what was there before may have left, and failed
		c.out = c.out[:start]
		s.refuse(codeRefused)
		return s.writeFailed(nil)
	}
	var bad violation
	if c.client {
		s.asked = askedBy(h)
		to := target{https: c.secure, authority: c.o.Authority}
		c.out, bad = appendRequest(c.out, &c.encoder, h, to, c.settings.connect)
	} else {
		c.out, bad = appendResponse(c.out, &c.encoder, h, s.asked)
	}
	if bad != "" {
		c.out = c.out[:start]
		c.offer()
		return s.unsendable(bad)
	}
	if c.client {
		c.begin(s)
	}
	s.closeBlock(start, end)
	c.offer()
	return nil
}

// tooLate reports that a client's stream cannot begin any more: the connection ends. Until it has
// begun, nobody but its own task can tell it so.
func (s *Stream) tooLate() bool {
	e := &s.c.end
	return s.id == 0 && (e.leaving || e.final || e.dead)
}

// unsendable is the error of a head that cannot be sent.
func (s *Stream) unsendable(bad violation) error {
	if s.c.client && s.is(streamTunnels) {
		return &policy.Error{Reason: policy.UpstreamProtocol, Side: policy.Upstream, Phase: policy.PhaseSend, Err: bad}
	}
	return s.misused(bad)
}

// fieldRoom is what a field takes beside its bytes, at most.
const fieldRoom = 16

// openBlock makes room for the block of h, which is a bound, and for the header of its frame.
func (c *conn) openBlock(h *message.Head) (start int) {
	n := 256 + len(h.MethodBytes()) + len(h.PathBytes()) + len(h.AuthorityBytes()) + len(c.o.Authority)
	for _, f := range h.Fields() {
		n += fieldRoom + int(f.Name.End-f.Name.Start) + int(f.Value.End-f.Value.Start)
	}
	c.reserve(frameHeader + n + n/maxFrame*frameHeader)
	start = len(c.out)
	c.out = appendFrame(c.out, 0, frameHeaders, 0, 0)
	return start
}

// closeBlock completes the frame that openBlock began, in as many frames as it takes.
func (s *Stream) closeBlock(start int, end bool) {
	c := s.c
	flags := flagEndHeaders
	if end {
		flags |= flagEndStream
	}
	n := len(c.out) - start - frameHeader
	if n > maxFrame {
		flags &^= flagEndHeaders
		c.splitBlock(start+frameHeader, n, s.id)
	}
	appendFrame(c.out[:start], min(n, maxFrame), frameHeaders, flags, s.id)
	s.out += uint64(len(c.out) - start)
	s.flags |= streamSentHead
	s.lastAt, s.lastSeq = int32(start), c.seq
	if n > maxFrame {
		s.lastSeq = c.seq - 1 // the flag is not to be set afterwards
	}
	c.budgets.control.earn(controlEarned, controlRate)
	if end {
		s.sentEnd()
	}
}

// splitBlock puts the headers of CONTINUATION frames into a block of n bytes at from.
func (c *conn) splitBlock(from, n int, id uint32) {
	pieces := (n - 1) / maxFrame // beyond the first
	c.out = append(c.out, make([]byte, pieces*frameHeader)...)
	for i := pieces; i > 0; i-- {
		at := from + i*maxFrame
		size := min(n-i*maxFrame, maxFrame)
		to := at + (i-1)*frameHeader
		copy(c.out[to+frameHeader:], c.out[at:at+size])
		flags := frameFlags(0)
		if i == pieces {
			flags = flagEndHeaders
		}
		appendFrame(c.out[:to], size, frameContinuation, flags, id)
	}
}

// sendData sends p as DATA, piece by piece as windows and room allow.
func (s *Stream) sendData(p []byte, end bool) error {
	c := s.c
	var since int64 // when the wait for the peer began
	for len(p) > 0 {
		n := s.allowance(len(p))
		if n == 0 || s.is(streamOver) {
			if err := s.await(&since); err != nil {
				return err
			}
			continue
		}
		since = 0
		s.piece(p[:n], end && n == len(p))
		p = p[n:]
	}
	if end && s.wstate != writeDone {
		if err := s.sendEnd(); err != nil {
			return err
		}
	}
	c.offer()
	return nil
}

// allowance is how many of n bytes may be sent now.
func (s *Stream) allowance(n int) int {
	c := s.c
	if c.makeRoom(min(n, maxFrame)); !c.hasRoom() {
		return 0
	}
	room := outClass - frameHeader - len(c.out)
	return max(0, int(min(int64(min(n, maxFrame, room)), s.window, c.sendWindow)))
}

// piece appends one DATA frame.
func (s *Stream) piece(p []byte, end bool) {
	c := s.c
	var flags frameFlags
	if end {
		flags = flagEndStream
	}
	c.reserve(frameHeader + len(p))
	s.lastAt, s.lastSeq = int32(len(c.out)), c.seq
	c.out = appendFrame(c.out, len(p), frameData, flags, s.id)
	c.out = append(c.out, p...)
	n := int64(len(p))
	s.window -= n
	c.sendWindow -= n
	s.out += uint64(frameHeader + n)
	c.exchanged()
	if n >= crumb || s.window > 0 && c.sendWindow > 0 {
		c.budgets.windows.earn(windowEarned+int(n/windowBytes), windowRate)
	} else {
		c.windowFrame()
	}
	if end {
		s.sentEnd()
	}
}

// sendEnd ends our direction: in the last frame, if that is still here, otherwise in one of its
// own.
func (s *Stream) sendEnd() error {
	c := s.c
	if s.is(streamOver) {
		return s.writeFailed(nil)
	}
	if s.lastSeq == c.seq && c.out != nil && s.is(streamSentHead) {
		c.out[int(s.lastAt)+4] |= byte(flagEndStream)
		s.sentEnd()
		return nil
	}
	if err := s.awaitRoom(); err != nil {
		return err
	}
	c.reserve(frameHeader)
	c.out = appendFrame(c.out, 0, frameData, flagEndStream, s.id)
	s.out += frameHeader
	s.sentEnd()
	return nil
}

// awaitRoom parks until the output has room.
func (s *Stream) awaitRoom() error {
	var since int64
	for s.c.makeRoom(1); !s.c.hasRoom() || s.is(streamOver); s.c.makeRoom(1) {
		if s.tooLate() {
			s.refuse(codeRefused)
		}
		if err := s.await(&since); err != nil {
			return err
		}
	}
	return nil
}

// await parks until there may be room and windows to go on with. since is when it first did so
// without having sent anything; the stall time counts from there.
func (s *Stream) await(since *int64) error {
	c := s.c
	if s.is(streamOver) {
		return s.writeFailed(nil)
	}
	switch {
	case !c.hasRoom():
		c.forRoom.push(s)
	case s.window > 0 && c.sendWindow <= 0:
		c.forWindow.push(s)
	}
	now := c.now()
	if *since == 0 {
		*since = now
	}
	by, stall := s.writeBy, int64(0)
	if by == 0 || !s.is(streamTunnel) { // a tunnel has the patience that its writer was given
		stall = c.times.within(c.o.StallTimeout, *since)
	}
	if stall != 0 && (by == 0 || stall < by) {
		by = stall
	}
	c.offer() // somebody else may be able to go on
	err := s.parkWriter("stream write", by)
	if err == engine.ErrTimeout && due(stall, c.now()) && !s.is(streamOver) {
		err = s.stalled()
	}
	if err != nil {
		c.offer()
		return s.writeFailed(err)
	}
	return nil
}

// stalled is the error of a stream whose peer takes nothing.
func (s *Stream) stalled() error {
	e := &policy.Error{Reason: policy.HTTP2Stalled, Side: policy.Downstream, Phase: policy.PhaseBody, Err: engine.ErrTimeout}
	if s.c.client {
		e.Reason, e.Side, e.Phase = policy.UpstreamTimeout, policy.Upstream, policy.PhaseSend
		e.MaybeProcessed = s.is(streamSentHead)
	}
	return e
}

func (s *Stream) parkWriter(why string, by int64) error {
	if s.writer != nil {
		panic("http2: two tasks write to one stream")
	}
	t := s.c.loop.Current()
	if t == nil {
		return engine.ErrWouldBlock
	}
	s.writer = t
	if s.list != nil {
		s.flags |= streamWaitsConn
	}
	err := s.park(t, why, by)
	s.flags &^= streamWaitsConn
	s.writer = nil
	if s.list != nil {
		s.list.remove(s)
	}
	return err
}

// awaitSettings parks until the endpoint has said what it can do.
func (s *Stream) awaitSettings() error {
	c := s.c
	s.flags |= streamTunnels
	for !c.settings.received {
		if s.is(streamOver) {
			return s.writeFailed(nil)
		}
		c.forSettings.push(s)
		if err := s.parkWriter("settings", s.writeBy); err != nil {
			return s.writeFailed(err)
		}
	}
	return nil
}
