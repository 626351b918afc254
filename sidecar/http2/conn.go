package http2

import (
	"fmt"
	"io"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// conn is what both sides of a connection share. It belongs to its loop and never parks: the
// engine calls readable, ending, drained and tick.
type conn struct {
	// Fixed.
	t      engine.Transport
	loop   *engine.Loop
	o      *Options
	pool   *pool
	side   side
	client bool
	secure bool // over TLS

	readF, endF, drainF func()

	// Input. buf is lent and nil while no incomplete frame is held; buf[r:w] is unread.
	buf       []byte
	r, w      int
	loan      *loan // of buf, while streams have views of it
	loans     int   // those that are out
	phase     phase
	more      bool // the turn's share was read, and there may be more
	paused    bool // nothing is read until the output has drained
	block     []byte
	blockHead blockHead
	whole     blockHead // of the complete block at hand
	heads     headDecoder
	rules     headRules

	// Output. out is lent or nil; seq counts the times it left.
	out     []byte
	seq     uint32
	blocked bool // the socket has not taken all
	hooked  bool // ending is due
	encoder hpack.Encoder
	// Streams whose writers wait for room in the output, and for the connection's window.
	forRoom, forWindow waitlist
	forSettings        waitlist // a client's, for the endpoint's first SETTINGS
	news               bool     // there may be room for another stream

	// Windows. recv: what the peer may still send; owed: what it can be given back.
	sendWindow int64
	recvWindow int64
	owed       int64
	peerWindow int64 // of a new stream, for what we send

	// Streams.
	streams  table
	open     int    // that count against the limit: neither ended nor reset
	live     int    // not closed by their exchanges
	last     uint32 // the highest id that the peer opened (server)
	seen     uint64 // of the ids up to last, by twos downwards: which were opened
	nextID   uint32 // of the next stream (client)
	peerMost uint32 // the peer's limit of streams
	resets   resetRing
	budgets  budgets
	settings settingsState

	// The way to the end.
	end endState

	times times
}

// side is what a server and a client do differently.
type side interface {
	// headers takes a complete header block.
	headers(h *blockHead, block []byte)
	// abused tells that a protection has ended the connection.
	abused(r policy.Reason)
	// settle looks, at the end of a turn, what is to be told to the owner.
	settle()
	// idled tells that no stream was open for the idle time.
	idled()
}

// phase says what the peer may send.
type phase uint8

const (
	wantPreface phase = iota
	wantSettings
	wantFrames
)

// pool is what the connections of one loop share.
type pool struct {
	streams []*Stream
	loans   []*loan
	scratch hpack.Scratch
	answer  message.Head // of a request that the codec itself refuses
}

type poolKey struct{}

func poolOf(l *engine.Loop) *pool {
	return l.Kept(poolKey{}, func() any { return &pool{} }).(*pool)
}

func (c *conn) init(t engine.Transport, o *Options, x side) {
	c.t, c.loop, c.o, c.side = t, t.Conn().Loop(), o, x
	_, c.secure = t.(*engine.TLS)
	c.pool = poolOf(c.loop)
	c.readF, c.endF, c.drainF = c.readable, c.ending, c.drained
	c.times.timer = c.loop.NewTimer()
	c.times.tickF = c.tick
	c.sendWindow, c.peerWindow = defaultWindow, defaultWindow
	c.recvWindow = max(defaultWindow, int64(o.ConnectionWindow))
	c.rules = headRules{list: o.Head, fields: o.Fields, trailers: o.Trailers, connect: o.AllowConnect}
	c.heads.init(&c.rules, &c.pool.scratch)
	c.encoder.Init(c.loop.Rand().Uint64())
	c.peerMost = assumedStreams
	t.Conn().SetUser(c)
	t.Conn().ReadWithin(0)
	t.Conn().WriteWithin(0)
}

func (c *conn) now() int64 { return c.loop.Nanos() }

// readBuffer is what is read into: so much that moving the incomplete frame at its end costs
// little beside the rest. inputBuffer holds a largest frame and what came with it; no more is
// kept while the rest is awaited.
const (
	readBuffer  = 64 << 10
	inputBuffer = 32 << 10
)

// readable takes what the transport has: at most turnBytes, then the others have a turn.
func (c *conn) readable() {
	if c.end.dead {
		c.linger()
		return
	}
	if c.parse(); c.end.dead { // what somebody else has read
		return
	}
	for moved := 0; ; {
		if c.t.Queued()+len(c.out) > outPause {
			c.paused = true
			c.hook()
			break
		}
		if moved >= turnBytes {
			c.more = true
			c.hook()
			break
		}
		c.roomToRead()
		n, err := c.t.TryRead(c.buf[c.w:])
		if err != nil {
			c.shrink()
			if err == engine.ErrWouldBlock {
				c.awaitFrame()
				c.t.Conn().OnReadable(c.readF)
			} else {
				c.lost(err)
			}
			break
		}
		c.w += n
		moved += n
		c.times.heard = c.now()
		if c.parse(); c.end.dead {
			break
		}
	}
}

// roomToRead makes room behind the incomplete frame that may be in the buffer.
func (c *conn) roomToRead() {
	if c.buf != nil && c.r == c.w && (len(c.buf) < readBuffer || c.loan != nil) {
		c.leaveInput()
	}
	if c.buf == nil {
		c.buf, c.r, c.w = c.loop.Buffer(readBuffer), 0, 0
		return
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	switch {
	case len(c.buf) < inputBuffer:
		c.moveTo(c.loop.Buffer(inputBuffer))
	case len(c.buf)-c.w >= frameHeader+maxFrame || c.r == 0:
	case c.loan != nil:
		c.moveTo(c.loop.Buffer(readBuffer))
	default:
		c.w = copy(c.buf, c.buf[c.r:c.w])
		c.r = 0
	}
}

func (c *conn) moveTo(b []byte) {
	c.w = copy(b, c.buf[c.r:c.w])
	c.r = 0
	c.leaveInput()
	c.buf = b
}

// shrink keeps no more than the incomplete frame, in the smallest buffer.
func (c *conn) shrink() {
	switch {
	case c.buf == nil:
	case c.r == c.w:
		c.leaveInput()
	case len(c.buf) > smallChunk && c.w-c.r <= smallChunk:
		c.moveTo(c.loop.Buffer(smallChunk))
	case len(c.buf) > inputBuffer:
		c.moveTo(c.loop.Buffer(inputBuffer))
	}
}

// awaitFrame bounds the wait for the rest of a frame, so that no head comes in drop by drop.
// That of DATA is the affair of whoever reads the body.
func (c *conn) awaitFrame() {
	have := c.buf[c.r:c.w]
	if len(have) == 0 || c.phase != wantFrames || len(have) > 3 && frameType(have[3]) == frameData {
		c.times.frame = 0
		return
	}
	if c.times.frame == 0 {
		c.times.frame = c.times.within(c.o.HeadTimeout, c.now())
		c.arm(c.times.frame)
	}
}

// parse handles the frames that are complete.
func (c *conn) parse() {
	if c.r == c.w {
		return
	}
	if c.phase == wantPreface && !c.readPreface() {
		return
	}
	var f frame
	for !c.end.dead {
		n, ok := f.next(c.buf[c.r:c.w])
		if !ok {
			c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "a frame larger than allowed")
			return
		}
		if n == 0 {
			return
		}
		c.r += n
		c.times.frame = 0
		c.handle(&f)
	}
}

func (c *conn) readPreface() bool {
	have := c.buf[c.r:c.w]
	n := min(len(have), len(preface))
	if string(have[:n]) != preface[:n] {
		c.broken("a connection without the preface")
		return false
	}
	if n < len(preface) {
		return false
	}
	c.r += n
	c.phase = wantSettings
	return true
}

// handle takes one frame. The order of frames is checked here, the rest by those who take them.
func (c *conn) handle(f *frame) {
	switch {
	case c.phase == wantSettings && (f.kind != frameSettings || f.has(flagAck)):
		c.broken("the first frame is not SETTINGS")
		return
	case c.blockHead.stream != 0 && (f.kind != frameContinuation || f.stream != c.blockHead.stream):
		c.broken("a header block is interrupted")
		return
	}
	switch f.kind {
	case frameData:
		c.onData(f)
	case frameHeaders:
		c.onHeaders(f)
	case framePriority:
		c.onPriority(f)
	case frameReset:
		c.onReset(f)
	case frameSettings:
		c.onSettings(f)
	case framePush:
		c.broken("a push that nobody allowed") // section 8.4: we neither send nor allow any
	case framePing:
		c.onPing(f)
	case frameGoAway:
		c.onGoAway(f)
	case frameWindow:
		c.onWindow(f)
	case frameContinuation:
		c.onContinuation(f)
	default:
		c.control(1)
	}
}

// onPriority looks at what section 5.3 leaves of priorities: their form.
func (c *conn) onPriority(f *frame) {
	switch {
	case f.stream == 0:
		c.broken("PRIORITY of no stream")
	case len(f.payload) != 5:
		c.streamError(f.stream, codeFrameSize, "PRIORITY of a wrong size")
	case dependency(f.payload) == f.stream:
		c.streamError(f.stream, codeProtocol, "a stream that depends on itself")
	default:
		c.control(1)
	}
}

// broken ends the connection for a broken rule of the protocol.
func (c *conn) broken(text violation) {
	c.fatal(codeProtocol, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), text)
}

// lost ends the connection that the transport has lost, or that the peer closed.
func (c *conn) lost(err error) {
	r := c.reason(policy.ClientAborted, policy.UpstreamReset)
	if err == io.EOF && c.client {
		r = policy.UpstreamClosed
	}
	if c.end.goodbye != nil {
		err = fmt.Errorf("%w after %w", err, c.end.goodbye)
	}
	if c.live == 0 {
		err = nil // nothing is lost by it
	}
	c.die(r, err)
	c.closeTransport()
}

// Cut implements engine.Cutter: the engine has closed the connection.
func (c *conn) Cut(err error) {
	r := policy.Internal
	if err == engine.ErrDrain {
		r = policy.Draining
	}
	c.die(r, err)
	c.closeTransport()
}
