package http2

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Server is the server side of a connection.
type Server struct {
	conn
	handler Handler
}

// Serve begins to serve t, whose handshake is done and which no task reads any more. Our SETTINGS
// go out at the end of the turn. first holds what has been read already; it lies in lent, a
// buffer of the loop that is now the Server's. Both may be nil. Loop only.
func Serve(t engine.Transport, o *Options, h Handler, first, lent []byte) *Server {
	s := &Server{handler: h}
	c := &s.conn
	c.init(t, o, s)
	c.greet()
	if len(first) > 0 && lent == nil {
		lent = c.loop.Buffer(max(len(first), inputBuffer))
	}
	if lent != nil {
		c.buf = lent[:cap(lent)]
		c.w = copy(c.buf, first)
	}
	c.times.head = c.times.within(o.HeadTimeout, c.now())
	c.arm(c.times.head)
	c.start()
	return s
}

// start begins to read, at the end of the turn.
func (c *conn) start() {
	now := c.now()
	c.times.heard = now
	c.times.ping = c.times.within(c.o.PingInterval, now)
	c.arm(c.times.ping)
	c.rests()
	c.more = true
	c.hook()
}

// Drain lets no further streams begin, in two steps (see goaway.go), and closes the connection
// when the last one has ended. Loop only.
func (s *Server) Drain() { s.drain() }

// Abort ends the connection at once, and its streams with r. Loop only.
func (s *Server) Abort(r policy.Reason) { s.abort(r) }

// Streams is how many exchanges are under way.
func (s *Server) Streams() int { return s.live }

// Idle reports that no exchange is under way and no header block.
func (s *Server) Idle() bool { return s.live == 0 && s.blockHead.stream == 0 }

// abort sends GOAWAY, as far as the socket takes it, and closes.
func (c *conn) abort(r policy.Reason) {
	if !c.end.dead {
		code := codeNone
		if r == policy.Internal {
			code = codeInternal
		}
		c.goAway(c.last, code, "")
		c.die(r, engine.ErrClosed)
	}
	c.flush()
	c.closeTransport()
}

// headers implements side: a new request, or trailers.
func (s *Server) headers(h *blockHead, block []byte) {
	c := &s.conn
	if x := c.streams.get(h.stream); x != nil {
		c.trailing(x, h, block)
		return
	}
	if h.stream&1 == 0 {
		c.broken("a client's stream with an even id")
		return
	}
	if h.stream <= c.last {
		s.again(h, block)
		return
	}
	c.note(h.stream)
	switch {
	case c.end.final && h.stream > c.end.refuseAbove:
		s.refuse(h, block)
	case c.open >= int(c.o.MaxStreams) || c.live >= 2*int(c.o.MaxStreams):
		s.refuse(h, block)
		c.overLimit()
	default:
		s.request(h, block)
	}
}

// note keeps which ids were opened: those left out are closed, too, but never were in use.
func (c *conn) note(id uint32) {
	c.seen = c.seen<<((id-c.last)/2) | 1
	if c.last == 0 {
		c.seen = 1
	}
	c.last = id
}

// again is a header block of a stream that has ended (RFC 9113 section 5.1).
func (s *Server) again(h *blockHead, block []byte) {
	c := &s.conn
	back := (c.last - h.stream) / 2
	switch {
	case back < 64 && c.seen>>back&1 == 0:
		c.broken("a stream with a lower id than one before")
	case c.resets.has(h.stream):
		if c.skip(block) {
			c.lateFrame()
		}
	default:
		c.fatal(codeStreamClosed, policy.HTTP2Protocol, "HEADERS of a stream that has ended")
	}
}

// refuse does not begin a stream (section 5.1.2); the client may send it again elsewhere.
func (s *Server) refuse(h *blockHead, block []byte) {
	c := &s.conn
	if !c.skip(block) {
		return
	}
	c.reserve(frameHeader + 4)
	c.out = appendReset(c.out, h.stream, codeRefused)
	c.remember(h.stream)
}

// request begins a stream.
func (s *Server) request(h *blockHead, block []byte) {
	c := &s.conn
	x := c.takeStream()
	x.id, x.in = h.stream, uint64(h.size)
	f := c.heads.request(block, h.end, &x.head)
	if f.kind != faultConnection && h.itself {
		f = malformed("a stream that depends on itself")
	}
	if f.bad() {
		s.refuted(x, h, f)
		return
	}
	x.flags |= streamGotHead | streamHeld
	x.asked = askedBy(&x.head)
	if x.asked.head {
		x.flags |= streamHEAD
	}
	if x.asked.connect || x.asked.tunnel != nil {
		x.flags |= streamTunnels
	} else {
		x.expects(&x.head.Framing)
	}
	if h.end {
		x.recvEnd()
	}
	c.streams.put(x)
	c.count(x)
	s.handler.Open(x)
}

// expects says how much body has been announced.
func (s *Stream) expects(f *message.Framing) {
	switch f.Kind {
	case message.Length:
		s.expect = f.Length
	case message.NoBody:
		s.expect = 0
	}
}

// refuted ends a request that never becomes an exchange: with the connection, a reset or an
// answer.
func (s *Server) refuted(x *Stream, h *blockHead, f fault) {
	c := &s.conn
	status := 0
	e := &policy.Error{Reason: f.reason, Side: policy.Downstream, Phase: policy.PhaseHead, Err: f.text}
	switch f.kind {
	case faultConnection:
		c.compression(f)
	case faultAnswer:
		status = s.answer(x, f.reason, h.end)
		if f.reason == policy.HeadTooLarge {
			c.bomb()
		}
	default:
		if h.end {
			x.flags |= streamRecvEnd
		}
		c.reset(x, codeProtocol)
		c.provoked()
	}
	s.handler.Malformed(x, status, e)
	c.putStream(x)
}

// answer refuses a request with the status of its reason. It does not wait for room: what is
// answered is bounded by what is read.
func (s *Server) answer(x *Stream, r policy.Reason, end bool) (status int) {
	c := &s.conn
	h := &c.pool.answer
	h.Reset()
	h.SetStatus(r.Info().Status)
	if !c.o.HideReason {
		h.AddString(message.NameOther, "x-larboard-reason", r.String())
	}
	start := c.openBlock(h)
	c.out, _ = appendResponse(c.out, &c.encoder, h, asked{})
	x.closeBlock(start, true)
	if !end {
		c.reset(x, codeNone)
	}
	return r.Info().Status
}

// trailing takes a header block of a stream that has its head: a trailer section.
func (c *conn) trailing(x *Stream, h *blockHead, block []byte) {
	if x.is(streamOver | streamRecvEnd) {
		switch {
		case !c.skip(block):
		case x.is(streamPeerReset) && !c.client:
			c.fatal(codeStreamClosed, policy.HTTP2Protocol, "HEADERS of a stream that was reset")
		case x.is(streamOver):
			c.lateFrame()
		default:
			c.resetStream(x, codeStreamClosed, "HEADERS after END_STREAM")
		}
		return
	}
	if x.is(streamTunnel) || x.is(streamTunnels) && !c.client {
		if c.skip(block) {
			c.resetStream(x, codeProtocol, "HEADERS in a tunnel") // RFC 9113 section 8.5
		}
		return
	}
	f := c.heads.trailers(block, &x.trail)
	x.in += uint64(h.size)
	switch {
	case f.kind == faultConnection:
		c.compression(f)
	case f.bad():
		x.trail.Reset()
		x.trail.Trim(spareHead)
		c.resetStream(x, codeProtocol, f.text)
	case !h.end:
		c.resetStream(x, codeProtocol, "trailers that do not end the stream")
	case h.itself:
		c.resetStream(x, codeProtocol, "a stream that depends on itself")
	case x.expect > 0:
		c.resetStream(x, codeProtocol, "DATA at odds with Content-Length")
	default:
		x.flags |= streamTrailers
		x.recvEnd()
		x.wakeReader()
	}
}

// abused implements side.
func (s *Server) abused(r policy.Reason) { s.handler.Abuse(r, s.end.err) }

// idled implements side.
func (s *Server) idled() { s.drain() }

// settle implements side.
func (s *Server) settle() {
	e := &s.end
	if r := e.abused; r != policy.None {
		e.abused = policy.None
		s.abused(r)
	}
	if e.closed && s.live == 0 && !e.told {
		e.told = true
		s.handler.Closed(s.orderly())
	}
}
