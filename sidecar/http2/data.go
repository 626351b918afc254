package http2

import (
	"encoding/binary"

	"github.com/larboard-proxy/larboard/policy"
)

// DATA, RST_STREAM and WINDOW_UPDATE (RFC 9113 sections 5.1, 5.2, 6.1, 6.4, 6.9).

func (c *conn) onData(f *frame) {
	n := f.length
	switch {
	case f.stream == 0:
		c.broken("DATA of no stream")
		return
	case !f.unpad():
		c.broken("padding longer than its frame")
		return
	case int64(n) > c.recvWindow:
		c.fatal(codeFlowControl, c.reason(policy.HTTP2FlowControl, policy.UpstreamProtocol), "more DATA than the connection's window")
		return
	}
	c.recvWindow -= int64(n)
	c.exchanged()
	if len(f.payload) == 0 && !f.has(flagEndStream) {
		if c.emptyFrame(); c.end.dead {
			return
		}
	}
	s := c.streams.get(f.stream)
	if s == nil || s.is(streamOver|streamRecvEnd) {
		c.giveBack(n)
		c.late(f.stream, s)
		return
	}
	s.in += uint64(frameHeader + n)
	if bad, code := s.judge(f, n); bad != "" {
		c.giveBack(n)
		c.resetStream(s, code, bad)
		return
	}
	c.take(s, f, n)
}

// judge says what is wrong with a DATA frame for s.
func (s *Stream) judge(f *frame, n int) (violation, errorCode) {
	switch {
	case !s.is(streamGotHead):
		return "DATA before the head", codeProtocol
	case int64(n) > s.recvWindow:
		return "more DATA than the stream's window", codeFlowControl
	case s.expect >= 0 && (int64(len(f.payload)) > s.expect || f.has(flagEndStream) && int64(len(f.payload)) != s.expect):
		return "DATA at odds with Content-Length", codeProtocol
	}
	return "", 0
}

// take keeps the payload for the reader. The connection's window is given back at once, so that
// a stream that nobody reads never holds up the others; but where buffers are short only as it
// is read.
func (c *conn) take(s *Stream, f *frame, n int) {
	s.recvWindow -= int64(n)
	size := len(f.payload)
	if s.is(streamShed) || c.kept() > keptAtLimit && size > 0 && !c.loop.HasRoom(size) {
		c.shed(s, f, n)
		return
	}
	s.credit(n - size)
	var from *loan
	if c.loop.Short() {
		c.giveBack(n - size)
		s.debt += size
	} else {
		c.giveBack(n)
		from = c.lends(size)
	}
	if s.expect >= 0 {
		s.expect -= int64(size)
	}
	if from != nil {
		s.body.borrow(f.payload, from)
	} else {
		s.body.append(c.loop, f.payload)
	}
	if f.has(flagEndStream) {
		s.recvEnd()
	}
	s.wakeReader()
}

// kept is how much of the connection's window is not given back yet: what has come and was not
// read since buffers are short, and little else.
func (c *conn) kept() int64 {
	return max(defaultWindow, int64(c.o.ConnectionWindow)) - c.recvWindow - c.owed
}

// shed gives up what the peer sends on s, since there is no room for it: frames cannot wait in the
// socket without holding up those that make room elsewhere.
func (c *conn) shed(s *Stream, f *frame, n int) {
	s.flags |= streamShed
	c.giveBack(n)
	if f.has(flagEndStream) {
		s.recvEnd()
	}
	s.wakeReader()
}

// late is a frame of a stream that has ended: s, or already forgotten. What the peer had sent
// before it knew is passed over; but where it must know better, it is told.
func (c *conn) late(id uint32, s *Stream) {
	switch {
	case s == nil && c.idle(id):
		c.broken("a frame of a stream that was never opened")
	case s != nil && s.is(streamOver) && !s.is(streamPeerReset), s == nil && (c.client || c.resets.has(id)):
		c.lateFrame()
	case s != nil && !s.is(streamOver):
		c.resetStream(s, codeStreamClosed, "a frame after END_STREAM")
	default:
		c.reserve(frameHeader + 4)
		c.out = appendReset(c.out, id, codeStreamClosed)
		c.provoked()
	}
}

// idle reports whether a stream has not been opened yet, or never can be.
func (c *conn) idle(id uint32) bool {
	if c.client {
		return id&1 == 0 || id >= c.nextID
	}
	return id&1 == 0 || id > c.last
}

func (c *conn) onReset(f *frame) {
	switch {
	case len(f.payload) != 4:
		c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "RST_STREAM of a wrong size")
		return
	case f.stream == 0 || c.idle(f.stream):
		c.broken("RST_STREAM of a stream that was never opened")
		return
	}
	s := c.streams.get(f.stream)
	if s == nil || s.is(streamOver) {
		if !c.resets.take(f.stream) { // ours may have met the peer's on the way
			c.lateFrame()
		}
		return
	}
	s.in += frameHeader + 4
	code := errorCode(binary.BigEndian.Uint32(f.payload))
	s.peerReset(code)
	switch {
	case !c.client:
		c.rapid(s)
	case code != codeNone || !s.is(streamRecvEnd):
		c.stormy() // an endpoint may not want the rest of a request that it has answered
	}
}

func (c *conn) onWindow(f *frame) {
	if len(f.payload) != 4 {
		c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "WINDOW_UPDATE of a wrong size")
		return
	}
	if c.windowFrame(); c.end.dead {
		return
	}
	n := int64(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
	if f.stream == 0 {
		c.openWindow(n)
		return
	}
	s := c.streams.get(f.stream)
	if s == nil || s.is(streamOver) {
		if s == nil && c.idle(f.stream) {
			c.broken("WINDOW_UPDATE of a stream that was never opened")
		}
		return // section 6.9: may come at any time after the end
	}
	switch {
	case n == 0:
		c.resetStream(s, codeProtocol, "a window opened by nothing")
	case s.window+n > maxWindow:
		c.resetStream(s, codeFlowControl, "a window opened too far")
	default:
		s.openWindow(n)
	}
}

// openWindow opens what we may send on the connection.
func (c *conn) openWindow(n int64) {
	switch {
	case n == 0:
		c.broken("the connection's window opened by nothing")
	case c.sendWindow+n > maxWindow:
		c.fatal(codeFlowControl, c.reason(policy.HTTP2FlowControl, policy.UpstreamProtocol), "the connection's window opened too far")
	default:
		c.sendWindow += n
		c.offer()
	}
}

// giveBack lets the peer send n bytes more on the connection. It is told once a quarter of the
// window has come together.
func (c *conn) giveBack(n int) {
	c.owed += int64(n)
	if c.owed < max(defaultWindow, int64(c.o.ConnectionWindow))/4 || c.end.dead {
		return
	}
	c.reserve(frameHeader + 4)
	c.out = appendWindow(c.out, 0, uint32(c.owed))
	c.recvWindow += c.owed
	c.owed = 0
}

// resetRing remembers streams that we have reset.
type resetRing struct {
	ids []uint32
	at  int
}

// add remembers one more, and forgets the oldest where there are most already.
func (r *resetRing) add(id uint32, most int) {
	if len(r.ids) < most {
		r.ids = append(r.ids, id)
		return
	}
	r.ids[r.at] = id
	r.at = (r.at + 1) % len(r.ids)
}

// take forgets a stream, and reports whether it was remembered.
func (r *resetRing) take(id uint32) bool {
	for i, x := range r.ids {
		if x == id {
			r.ids[i] = 0
			return true
		}
	}
	return false
}

func (r *resetRing) has(id uint32) bool {
	for _, x := range r.ids {
		if x == id {
			return true
		}
	}
	return false
}
