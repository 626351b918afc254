package http2

import (
	"encoding/binary"

	"github.com/larboard-proxy/larboard/policy"
)

// Header blocks: HEADERS and the CONTINUATION frames behind it (RFC 9113 sections 4.3 and 6.10).
// A block in one frame, which is all that well-meaning peers send, is decoded where it lies.

// blockHead is what the HEADERS frame of a block said.
type blockHead struct {
	stream uint32 // 0: no block is under way
	frames int    // CONTINUATION frames so far
	size   int    // bytes on the wire so far
	end    bool   // END_STREAM
	itself bool   // the stream depends on itself
}

func (c *conn) onHeaders(f *frame) {
	if f.stream == 0 {
		c.broken("HEADERS of no stream")
		return
	}
	if !f.unpad() {
		c.broken("padding longer than its frame")
		return
	}
	h := blockHead{stream: f.stream, size: frameHeader + f.length, end: f.has(flagEndStream)}
	if f.has(flagPriority) {
		if len(f.payload) < 5 {
			c.fatal(codeFrameSize, c.reason(policy.HTTP2Protocol, policy.UpstreamProtocol), "HEADERS too short for its priority")
			return
		}
		h.itself = dependency(f.payload) == f.stream
		f.payload = f.payload[5:]
	}
	if f.has(flagEndHeaders) {
		c.exchanged()
		c.whole = h // a field, since what the side is given would be allocated
		c.side.headers(&c.whole, f.payload)
		return
	}
	c.blockHead = h
	c.times.block = c.times.within(c.o.HeadTimeout, c.now())
	c.arm(c.times.block)
	c.addToBlock(f.payload)
}

// dependency is the stream that a priority names (section 5.3.1 of RFC 7540).
func dependency(p []byte) uint32 { return binary.BigEndian.Uint32(p) &^ (1 << 31) }

func (c *conn) onContinuation(f *frame) {
	h := &c.blockHead
	if h.stream == 0 {
		c.broken("CONTINUATION without HEADERS")
		return
	}
	if h.frames++; h.frames > blockFrames {
		c.spent(c.reason(policy.HTTP2ContinuationFlood, policy.UpstreamProtocol), "a header block in too many frames")
		return
	}
	h.size += frameHeader + f.length
	if len(f.payload) == 0 && !f.has(flagEndHeaders) {
		if c.emptyFrame(); c.end.dead {
			return
		}
	}
	if c.addToBlock(f.payload); c.end.dead || !f.has(flagEndHeaders) {
		return
	}
	c.whole = *h
	block := c.block
	*h, c.block = blockHead{}, nil
	c.times.block = 0
	c.exchanged()
	c.side.headers(&c.whole, block)
	c.loop.Release(block)
}

// addToBlock keeps a piece of the block under way, in a lent buffer.
func (c *conn) addToBlock(p []byte) {
	need := len(c.block) + len(p)
	if need > c.o.Head+blockSlack {
		c.spent(c.reason(policy.HTTP2ContinuationFlood, policy.UpstreamProtocol), "a header block larger than its head may be")
		return
	}
	if c.block == nil {
		c.block = c.loop.Buffer(max(need, 1))[:0]
	} else if need > cap(c.block) {
		larger := append(c.loop.Buffer(max(need, 2*cap(c.block)))[:0], c.block...)
		c.loop.Release(c.block)
		c.block = larger
	}
	c.block = append(c.block, p...)
}

// skip decodes a block that nobody wants, since the table must stay the peer's; false if the
// connection is over by it.
func (c *conn) skip(block []byte) bool {
	if f := c.heads.skip(block); f.bad() {
		c.compression(f)
		return false
	}
	return true
}

func (c *conn) compression(f fault) {
	c.fatal(codeCompression, c.reason(policy.HTTP2Compression, policy.UpstreamProtocol), f.text)
}
