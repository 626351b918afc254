package http2

import (
	"encoding/binary"
	"fmt"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// The ways a connection ends (RFC 9113 sections 5.4.1 and 6.8).
//
//   - Drain: a first GOAWAY that refuses nothing, so that requests on their way still arrive; a
//     second one, with the last stream that is served, after the answer to a PING (everything
//     sent before it is here by then) or a second; then the end of the last stream.
//   - fatal: GOAWAY with a code; the streams fail.
//   - lost: the transport is gone; the streams fail.
//
// In the first two the outgoing direction is ended and what still comes is thrown away for a
// moment: a socket that is closed over unread bytes sends a RST, which can overtake the GOAWAY.

// endState is how far a connection is on its way to the end.
type endState struct {
	draining bool  // the first GOAWAY was sent
	final    bool  // the last one: streams above refuseAbove are refused
	leaving  bool  // the peer sent GOAWAY (client: no stream can be opened)
	dead     bool  // nothing more is taken from the peer
	shut     bool  // our direction was ended
	closed   bool  // the transport is closed
	told     bool  // the owner knows
	goodbye  error // client: why the endpoint says that it ends, where it names an error
	abused   policy.Reason

	refuseAbove uint32
	discarded   int
	err         error // nil where all was in order
	reason      policy.Reason
}

// drain begins the two-step shutdown; again it does nothing.
func (c *conn) drain() {
	if c.end.draining || c.end.dead {
		return
	}
	c.end.draining = true
	c.goAway(maxWindow, codeNone, "") // the largest id
	c.ping(pingDrain)
	c.times.drain = c.now() + int64(drainWithin)
	c.arm(c.times.drain)
}

// drainAnswered is the second step.
func (c *conn) drainAnswered() {
	if !c.end.draining || c.end.final || c.end.dead {
		return
	}
	c.times.drain = 0
	c.end.final = true
	c.goAway(c.last, codeNone, "")
}

func (c *conn) goAway(last uint32, code errorCode, debug string) {
	c.end.refuseAbove = last
	c.reserve(frameHeader + 8 + len(debug))
	c.out = appendGoAway(c.out, last, code, debug)
}

// fatal ends the connection for what the peer has done.
func (c *conn) fatal(code errorCode, r policy.Reason, text violation) {
	if c.end.dead {
		return
	}
	c.goAway(c.last, code, string(text))
	c.die(r, text)
}

// die fails all streams. What is in the output is still sent.
func (c *conn) die(r policy.Reason, err error) {
	if c.end.dead {
		return
	}
	e := &c.end
	e.dead, e.err, e.reason = true, err, r
	if r >= policy.HTTP2Protocol && r <= policy.HTTP2PingTimeout {
		e.abused = r // whether it broke the rules or kept to them: counted by its reason
	}
	c.more, c.paused = false, false
	c.times.stop()
	c.dropInput()
	for _, s := range c.streams.slots {
		if s != nil && !s.is(streamOver) {
			s.fail(failure{reason: r, cause: err})
		}
	}
	for _, list := range [...]*waitlist{&c.forRoom, &c.forSettings} { // those that have no id yet
		for s := list.first; s != nil; s = s.next {
			s.fail(failure{reason: r, cause: err})
		}
	}
	c.hook()
}

// dropInput gives back what holds incomplete frames and header blocks: they will not be taken.
func (c *conn) dropInput() {
	if c.buf != nil {
		c.leaveInput()
	}
	if c.block != nil {
		c.loop.Release(c.block)
		c.block, c.blockHead = nil, blockHead{}
	}
}

// finish brings an ending connection a step further. It runs at the end of a turn.
func (c *conn) finish() {
	e := &c.end
	if !e.dead && c.live == 0 && (e.final || e.leaving) && len(c.out) == 0 {
		e.dead = true
		c.times.stop()
		c.dropInput()
	}
	if !e.dead || e.closed || e.shut {
		return
	}
	if c.times.linger == 0 {
		c.times.linger = c.now() + int64(lingerFor)
		c.arm(c.times.linger)
	}
	if c.blocked || len(c.out) > 0 {
		return // drained or tick comes
	}
	e.shut = true
	if err := c.t.CloseWrite(); err != nil {
		c.closeTransport()
		return
	}
	c.t.Conn().OnReadable(c.readF)
	if c.t.Pending() {
		c.linger()
	}
}

// linger throws away what the peer sends after the end.
func (c *conn) linger() {
	if c.end.closed || !c.end.shut {
		return
	}
	b := c.loop.Buffer(smallChunk)
	defer c.loop.Release(b)
	for c.end.discarded < lingerBytes {
		n, err := c.t.TryRead(b)
		if err == engine.ErrWouldBlock {
			c.t.Conn().OnReadable(c.readF)
			return
		}
		if err != nil {
			break
		}
		c.end.discarded += n
	}
	c.closeTransport()
}

func (c *conn) closeTransport() {
	if c.end.closed {
		return
	}
	c.end.closed = true
	c.blocked = false
	c.times.stop()
	c.times.timer.Stop()
	c.t.Conn().SetUser(nil)
	c.t.Close()
	if c.out != nil {
		c.loop.Release(c.out)
		c.out = nil
	}
	c.hook()
}

func (c *conn) onGoAway(f *frame) {
	switch {
	case f.stream != 0:
		c.broken("GOAWAY of a stream")
		return
	case len(f.payload) < 8:
		c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "GOAWAY of a wrong size")
		return
	}
	if c.control(1); c.end.dead {
		return
	}
	last := binary.BigEndian.Uint32(f.payload) &^ (1 << 31)
	code := errorCode(binary.BigEndian.Uint32(f.payload[4:]))
	c.end.leaving = true
	c.hook()
	if !c.client {
		return // it opens no more; what is under way is served
	}
	if code != codeNone {
		debug := f.payload[8:]
		c.end.goodbye = fmt.Errorf("GOAWAY with %v %q", code, debug[:min(len(debug), maxDebug)])
	}
	for _, s := range c.streams.slots {
		if s != nil && s.id > last && !s.is(streamOver) {
			s.refuse(code)
		}
	}
}

// maxDebug bounds what is kept of the words beside a GOAWAY; what gRPC servers say is shorter.
const maxDebug = 64

// orderly is the error of a connection that has ended: nil where nothing went wrong.
func (c *conn) orderly() error {
	if c.end.err == nil {
		return nil
	}
	e := &policy.Error{Reason: c.end.reason, Side: policy.Downstream, Phase: policy.PhaseBody, Err: c.end.err}
	if c.client {
		e.Side = policy.Upstream
	}
	return e
}
