package http1

import (
	"io"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// The sizes of buffers asked of Buffers.
const (
	headBuffer   = 8 << 10  // towards the client, and for heads to be sent
	bodyBuffer   = 32 << 10 // from upstream
	copyAtMost   = 4 << 10  // a piece up to this joins the head in one buffer
	chunkAtMost  = 32 << 10 // a chunk up to this is copied to be sent at once
	chunkFraming = 16 + 2 + 2 + 5
)

// flags of a connection and its exchange.
type flags uint16

const (
	flagClient      flags = 1 << iota // we are the client
	flagBroken                        // a head failed, something was malformed, or we were misused
	flagFailed                        // reading a body failed; it may be tried again
	flagWriteBroken                   // writing failed
	flagReset                         // given up
	flagSetClose                      // announce close with the next head
	flagClose                         // this exchange is the last
	flagOld                           // the request is HTTP/1.0 (server)
	flagHead                          // the request's method is HEAD
	flagConnect                       // the request's method is CONNECT
	flagUpgrade                       // the request asks for an upgrade
	flagExpect                        // the client waits for 100 (server)
	flagSent                          // a byte of this request may have left (client)

	// flagsOfConn outlive an exchange.
	flagsOfConn = flagClient | flagBroken | flagFailed | flagWriteBroken | flagReset | flagSetClose
)

// readState says what is being read.
type readState uint8

const (
	readNothing readState = iota // no head yet
	readLength
	readChunked
	readUntilClose
	readTunnel
	readDone
)

// writeState says what is being written.
type writeState uint8

const (
	writeNothing writeState = iota // no head yet
	writeHeadOnly
	writeLength
	writeChunked
	writeUntilClose
	writeTunnel
	writeDone
)

// conn is what both sides of a connection share: buffers, the body being read and
// the message being written. One task may read while another writes; the fields
// are grouped by which of them uses them.
type conn struct {
	// Fixed.
	t      Transport
	b      Buffers
	limits *Limits

	// The reader's. buf is nil while the connection is idle; buf[r:w] is unread.
	buf    []byte
	trail  *message.Head
	in     uint64
	left   int64 // of a Length body or of the chunk; in a trailer section its bytes so far
	r, w   uint32
	scan   uint32 // bytes after r already searched for a line end
	ext    uint16 // bytes of chunk extensions in this message
	digits uint8  // of the chunk size
	chunk  chunkState
	rstate readState

	// The writer's. pend is a lent buffer or nil; its length is what waits to be sent.
	wstate writeState
	flags  flags
	pend   []byte
	out    uint64
	owed   int64 // of a Length body
}

func (c *conn) is(f flags) bool { return c.flags&f != 0 }

// newMessage forgets the exchange before.
func (c *conn) newMessage() {
	c.flags &= flagsOfConn
	c.rstate, c.wstate = readNothing, writeNothing
	c.left, c.owed, c.scan, c.ext = 0, 0, 0, 0
	if c.trail != nil {
		c.trail.Reset()
	}
}

// fill reads once, making room first: unread bytes move to the front, and a
// buffer they fill is exchanged for the next larger one. Views given out before
// are void. It returns the transport's error as it is.
func (c *conn) fill(size int) error {
	if w, ok := c.t.(waiter); ok && c.r == c.w && (c.buf == nil || w.Quiet()) {
		c.releaseRead() // nothing is held while nothing comes
		if err := w.AwaitInput(size); err != nil {
			return err
		}
	}
	if c.buf == nil {
		c.buf = c.b.Buffer(size)
		c.r, c.w = 0, 0
	}
	if c.r == c.w {
		c.r, c.w = 0, 0
	}
	if int(c.w) == len(c.buf) {
		c.makeRoom()
	}
	n, err := c.t.Read(c.buf[c.w:])
	if n > 0 {
		c.w += uint32(n)
		c.in += uint64(n)
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

func (c *conn) makeRoom() {
	if c.r > 0 {
		c.w = uint32(copy(c.buf, c.buf[c.r:c.w]))
		c.r = 0
		return
	}
	larger := c.b.Buffer(2 * len(c.buf))
	copy(larger, c.buf[:c.w])
	c.b.Release(c.buf)
	c.buf = larger
}

// Buffered returns the number of bytes that were read and not consumed.
func (c *conn) Buffered() int { return int(c.w - c.r) }

// BytesIn counts the bytes read from the transport, heads included.
func (c *conn) BytesIn() uint64 { return c.in }

// BytesOut counts the bytes written to the transport, heads included.
func (c *conn) BytesOut() uint64 { return c.out }

// SetClose makes the next head that is written announce Connection: close, after
// which the connection is not used again (drain). Loop only; never parks.
func (c *conn) SetClose() { c.flags |= flagSetClose }

// Reset implements message.Stream: it closes the connection. Buffers stay with
// whoever uses them (a sibling task may be parked in a write of a view) until
// Release.
func (c *conn) Reset(policy.Reason) {
	if !c.is(flagReset) {
		c.flags |= flagReset | flagBroken | flagWriteBroken
		_ = c.t.Close() // nothing is left to be told about it
	}
}

// Release gives the buffers back and reports true; or reports false and keeps
// them if bytes of a next request are buffered (pipelining). Where no request can
// follow, and after Reset, it always gives them back. No task may be using the
// stream or a view of it.
func (c *conn) Release() bool {
	if c.Buffered() > 0 && !c.is(flagClient) && c.complete() {
		return false
	}
	c.releaseRead()
	c.releasePend()
	c.trail = nil
	return true
}

// complete reports that both messages are over and that nothing spoke against
// another exchange.
func (c *conn) complete() bool {
	return c.rstate == readDone && c.wstate == writeDone &&
		!c.is(flagBroken|flagWriteBroken|flagReset|flagClose)
}

func (c *conn) releaseRead() {
	if c.buf != nil {
		c.b.Release(c.buf)
		c.buf = nil
	}
	c.r, c.w = 0, 0
}

func (c *conn) releasePend() {
	if c.pend != nil {
		c.b.Release(c.pend[:cap(c.pend)])
		c.pend = nil
	}
}
