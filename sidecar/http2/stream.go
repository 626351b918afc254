package http2

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Stream is one exchange on a connection: a message.Stream, and what the exchange asks of every
// codec beside it. Its methods are for tasks of the connection's loop: one at a time reads, one
// at a time writes. After Close nobody may use it.
type Stream struct {
	c     *conn
	head  message.Head // received and not yet taken by ReadHead
	trail message.Head
	body  body
	streamState
}

// streamState is what a record begins anew with; the memory of the rest is used again.
type streamState struct {
	id    uint32 // 0 while a client's stream has sent nothing
	flags streamFlags
	fate  failure

	// The reader's.
	reader     *engine.Task // parked
	readBy     int64        // deadline in the loop's nanoseconds; 0: none
	expect     int64        // what Content-Length leaves to come; -1: unknown
	recvWindow int64
	owed       int // bytes of the window to be given back
	debt       int // bytes of the connection's window that are given back as they are read
	unread     int // bytes of the last view
	in         uint64
	interim    int

	// The writer's.
	wstate  writeState
	pending *message.Head // given to WriteHead, not sent
	asked   asked         // client: what the response's framing depends on
	writer  *engine.Task  // parked
	writeBy int64
	owes    int64  // of a Length body
	window  int64  // what the peer takes
	lastAt  int32  // where its last HEADERS or DATA frame is in the output,
	lastSeq uint32 // as long as this is the output's
	out     uint64
	list    *waitlist
	next    *Stream
	prev    *Stream

	watcher engine.TaskRef
	opened  int64
}

type streamFlags uint16

const (
	streamGotHead   streamFlags = 1 << iota // the (final) head has been received
	streamHeld                              // a head waits for ReadHead
	streamRecvEnd                           // END_STREAM has been received
	streamSentHead                          // HEADERS have been sent (client: the request may be processed)
	streamSentEnd                           // END_STREAM has been sent
	streamOver                              // reset, by whomever, or failed
	streamPeerReset                         // reset by the peer
	streamCounted                           // counts against the limit
	streamTrailers                          // trail holds trailers
	streamHEAD                              // the request's method is HEAD (server)
	streamTunnels                           // the request asks for a tunnel (CONNECT, or a WebSocket)
	streamTunnel                            // and got it
	streamWaitsConn                         // the writer waits for room or the connection's window
	streamShed                              // what comes is thrown away: there was no room for it
)

// writeState says what is being written.
type writeState uint8

const (
	writeNothing writeState = iota // no head yet
	writeHeadOnly
	writeLength
	writeOpen // ends when it ends: Chunked, UntilClose and Tunnel
	writeDone
)

// failure is why a stream cannot be used any more; the zero value is "it can".
type failure struct {
	reason  policy.Reason
	cause   error
	refused bool // nothing of the request was looked at
	// farewell: the endpoint ended the connection in order, and the request came too late.
	farewell bool
}

var _ message.Stream = (*Stream)(nil)

func (s *Stream) is(f streamFlags) bool { return s.flags&f != 0 }

// spareStreams and spareHead bound what a loop keeps of streams: records in number, and the
// memory of each one's heads.
const (
	spareStreams = 2048
	spareHead    = 4 << 10
)

// keptStreams is how many records stay at hand when a burst is over.
const keptStreams = 16

// GiveBack lets go of what a burst has left in l's records of streams. Loop only.
func GiveBack(l *engine.Loop) {
	p := poolOf(l)
	if len(p.streams) > keptStreams {
		p.streams = append(make([]*Stream, 0, keptStreams), p.streams[:keptStreams]...)
	}
}

func (c *conn) takeStream() *Stream {
	var s *Stream
	if n := len(c.pool.streams); n > 0 {
		s = c.pool.streams[n-1]
		c.pool.streams = c.pool.streams[:n-1]
	} else {
		s = &Stream{}
	}
	s.c = c
	s.opened = c.now()
	s.expect = -1
	s.recvWindow = max(defaultWindow, int64(c.o.StreamWindow))
	s.window = c.peerWindow
	c.live++
	c.times.idle = 0
	return s
}

// putStream gives the record back.
func (c *conn) putStream(s *Stream) {
	c.live--
	if c.live == 0 {
		c.rests()
	}
	s.head.Reset()
	s.head.Trim(spareHead)
	if s.is(streamTrailers) {
		s.trail.Reset()
		s.trail.Trim(spareHead)
	}
	s.c, s.streamState = nil, streamState{}
	if len(c.pool.streams) < spareStreams {
		c.pool.streams = append(c.pool.streams, s)
	}
}

// rests sets the idle deadline of a connection without a stream, and lets it end if it is to.
func (c *conn) rests() {
	c.times.idle = c.times.within(c.o.IdleTimeout, c.now())
	c.arm(c.times.idle)
	if c.end.dead || c.end.final || c.end.leaving {
		c.hook()
	}
}

// count lets s count against the limit.
func (c *conn) count(s *Stream) {
	s.flags |= streamCounted
	c.open++
}

// uncount ends that, once the stream is closed as far as the protocol goes.
func (s *Stream) uncount() {
	if s.is(streamCounted) {
		s.flags &^= streamCounted
		s.c.open--
		if s.c.client {
			s.c.news = true
			s.c.hook()
		}
	}
}

// recvEnd: the peer's direction has ended.
func (s *Stream) recvEnd() {
	s.flags |= streamRecvEnd
	if s.is(streamSentEnd) {
		s.uncount()
	}
}

// sentEnd: our direction has ended.
func (s *Stream) sentEnd() {
	s.flags |= streamSentEnd
	s.wstate = writeDone
	if s.is(streamRecvEnd) {
		s.uncount()
	}
}

func (s *Stream) wakeReader() {
	if s.reader != nil {
		s.reader.Wake()
	}
}

func (s *Stream) wakeWriter() {
	if s.writer != nil {
		s.writer.Wake()
	}
}

// openWindow moves what we may send.
func (s *Stream) openWindow(n int64) {
	s.window += n
	if s.window > 0 && !s.is(streamWaitsConn) {
		s.wakeWriter()
	}
}

// fail ends s: its tasks wake with the failure. What was received before is still read where
// the peer's message is complete.
func (s *Stream) fail(f failure) {
	if s.is(streamOver) {
		return
	}
	s.flags |= streamOver
	s.fate = f
	s.uncount()
	s.wakeReader()
	s.wakeWriter()
	s.abort()
}

// abort cancels the task that watches s: with engine.ErrPeerReset where the peer has left, with the
// reason where it has not.
func (s *Stream) abort() {
	if !s.watcher.Live() {
		return
	}
	e := &policy.Error{Reason: s.fate.reason, Side: policy.Downstream, Phase: policy.PhaseWait, Err: s.fate.cause}
	switch {
	case s.c.client || e.Reason == policy.None || e.Reason == policy.ClientAborted:
		s.watcher.Cancel(engine.ErrPeerReset)
		return
	case e.Reason == policy.Draining || e.Reason == policy.Internal:
		e.Side = policy.Internally
	}
	s.watcher.Cancel(e)
}

// resetStream resets s for what the peer has done.
func (c *conn) resetStream(s *Stream, code errorCode, text violation) {
	c.reset(s, code)
	s.fail(failure{reason: c.streamReason(code), cause: text})
	c.provoked()
}

func (c *conn) streamReason(code errorCode) policy.Reason {
	switch {
	case c.client:
		return policy.UpstreamProtocol
	case code == codeFlowControl:
		return policy.HTTP2FlowControl
	}
	return policy.HTTP2Protocol
}

// reset sends RST_STREAM and remembers that.
func (c *conn) reset(s *Stream, code errorCode) {
	if c.end.dead || s.id == 0 {
		return
	}
	c.reserve(frameHeader + 4)
	c.out = appendReset(c.out, s.id, code)
	s.out += frameHeader + 4
	if c.client || !s.is(streamRecvEnd) {
		c.remember(s.id)
	}
	c.gaveUp(s)
}

// remember notes a stream that we have reset, of which more may come.
func (c *conn) remember(id uint32) { c.resets.add(id, max(resetsKept, int(c.o.MaxStreams))) }

// streamError is resetStream by id. A stream that was never opened cannot be reset, and one
// that has ended is past it, so the connection ends (section 5.4.1 lets us): an error that is
// told of the one and hidden of the other would depend on how fast the answer was.
func (c *conn) streamError(id uint32, code errorCode, text violation) {
	if s := c.streams.get(id); s != nil && !s.is(streamOver) {
		c.resetStream(s, code, text)
		return
	}
	c.fatal(code, c.streamReason(code), text)
}

// peerReset: RST_STREAM has come.
func (s *Stream) peerReset(code errorCode) {
	s.flags |= streamPeerReset
	if code == codeRefused {
		s.refuse(code)
		return
	}
	f := failure{cause: resetBy(code)}
	if s.c.client && !s.is(streamGotHead) && (code == codeProtocol || code == codeHTTP11) {
		f.reason = policy.UpstreamProtocol
	}
	s.fail(f)
}

// refuse fails a stream that the endpoint has not looked at.
func (s *Stream) refuse(code errorCode) {
	f := failure{cause: resetBy(code)}
	if s.c.client && !s.is(streamGotHead) {
		f.reason, f.refused, f.farewell = policy.UpstreamRefused, true, code == codeNone
	}
	s.fail(f)
}

// resetBy is the peer's code as an error.
type resetBy errorCode

func (r resetBy) Error() string { return "http2: the peer reset the stream: " + errorCode(r).String() }

// ID is the stream's id, 0 while nothing of it has been sent.
func (s *Stream) ID() uint32 { return s.id }

// Burdened reports, of a client's stream, whether the endpoint may have had work with it: its
// head was sent, and not to one that was taking leave.
func (s *Stream) Burdened() bool { return s.is(streamSentHead) && !s.fate.farewell }

// ReadWithin bounds the wait for what is read to d from now; 0: no bound. A reader that
// waits already keeps to it from now on: the other direction's task may give it more time,
// or less.
func (s *Stream) ReadWithin(d time.Duration) {
	was := s.readBy
	s.readBy = s.c.times.within(d, s.c.now())
	if s.readBy != 0 && (was == 0 || s.readBy < was) {
		s.wakeReader() // which parks again; a later deadline is found when the one of before comes
	}
}

// WriteWithin is ReadWithin for what is written.
func (s *Stream) WriteWithin(d time.Duration) { s.writeBy = s.c.times.within(d, s.c.now()) }

// WatchAbort makes a reset by the peer, or the loss of the connection, cancel t with
// engine.ErrPeerReset, and any other end of the stream with its reason, at once if it has been
// seen. nil ends that.
func (s *Stream) WatchAbort(t *engine.Task) {
	s.watcher = engine.TaskRef{}
	if t == nil {
		return
	}
	s.watcher = t.Ref()
	if s.is(streamOver) {
		s.abort()
	}
}

// Buffered is how many bytes of the body have been received and not read.
func (s *Stream) Buffered() int { return s.body.size }

// BodyReady reports whether ReadBody would not wait.
func (s *Stream) BodyReady() bool {
	return s.body.size > 0 || s.is(streamRecvEnd|streamOver|streamShed)
}

// BytesIn counts what was received on the stream, frame headers included.
func (s *Stream) BytesIn() uint64 { return s.in }

// BytesOut counts what was sent on the stream, frame headers included.
func (s *Stream) BytesOut() uint64 { return s.out }

// WebSocketAccept is what an HTTP/1.1 endpoint has to answer to the key in the request's head
// (RFC 6455 section 4.2.2); empty where the request opens no WebSocket.
func (s *Stream) WebSocketAccept() []byte {
	if s.asked.tunnel == nil {
		return nil
	}
	return s.asked.tunnel[:]
}

// Splicer moves bytes below a codec; see package http1.
type Splicer = interface {
	Fill(most int64) (int, error)
	Flush() error
}

// Nothing is ever spliced, since frames are in the way.

// SpliceIn is 0.
func (s *Stream) SpliceIn() int64 { return 0 }

// SpliceOut is 0.
func (s *Stream) SpliceOut() int64 { return 0 }

// ReadSplice refuses: engine.ErrNoSplice.
func (s *Stream) ReadSplice(Splicer) (n int, end bool, err error) {
	return 0, false, engine.ErrNoSplice
}

// WriteSplice refuses: engine.ErrNoSplice.
func (s *Stream) WriteSplice(Splicer, int, bool) error { return engine.ErrNoSplice }

// Plain is nil: the stream's bytes are not those of the connection.
func (s *Stream) Plain() *engine.Conn { return nil }

// SetClose does nothing: a connection of many streams ends by itself.
func (s *Stream) SetClose() {}

// Close ends the exchange's use of s, which nobody may use afterwards. What is not complete is
// reset: with NO_ERROR where the answer is complete and the rest of the request is not wanted,
// with CANCEL by a client, INTERNAL_ERROR by a server that broke off its answer.
func (s *Stream) Close() {
	c := s.c
	s.watcher = engine.TaskRef{}
	if !s.is(streamOver) {
		switch {
		case s.is(streamSentEnd) && s.is(streamRecvEnd):
			c.completed()
		case s.is(streamRecvEnd) && c.client, s.is(streamSentEnd) && !c.client:
			c.reset(s, codeNone)
		case c.client:
			c.reset(s, codeCancel)
		default:
			c.reset(s, codeInternal)
		}
	}
	s.uncount()
	s.payDebt()
	s.body.drop(c.loop)
	if s.list != nil {
		s.list.remove(s)
	}
	if s.id != 0 {
		c.streams.remove(s)
	}
	c.putStream(s)
	c.offer()
}

// Reset gives the stream up, and tells the peer why as far as the protocol has a word for it.
func (s *Stream) Reset(r policy.Reason) {
	if s.is(streamOver) {
		return
	}
	if !s.is(streamSentEnd) || !s.is(streamRecvEnd) {
		s.c.reset(s, s.codeOf(r))
	}
	s.watcher = engine.TaskRef{} // whoever calls knows
	s.fail(failure{reason: r, cause: engine.ErrClosed})
}

func (s *Stream) codeOf(r policy.Reason) errorCode {
	switch {
	case s.c.client:
		return codeCancel
	case r == policy.Internal:
		return codeInternal
	case s.is(streamTunnel) && s.asked.connect && (r == policy.UpstreamReset || r == policy.UpstreamClosed):
		return codeConnect // RFC 9113 section 8.5
	case s.is(streamTunnel):
		return codeCancel // what RFC 8441 section 5 makes of a reset of TCP
	case !s.is(streamSentHead) && (r == policy.Draining || r == policy.Overloaded || r == policy.BuffersShort):
		return codeRefused
	case r == policy.HTTP2FlowControl:
		return codeFlowControl
	case r == policy.BadRequest || r == policy.BodyAborted || r == policy.HTTP2Protocol:
		return codeProtocol
	case r == policy.HTTP2Stalled || r == policy.ClientAborted || r == policy.RequestTimeout || r == policy.TunnelIdle:
		return codeCancel
	}
	return codeInternal
}
