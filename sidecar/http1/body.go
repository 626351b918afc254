package http1

import (
	"io"
	"net"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// ReadBody implements message.Stream. Pieces are views of the read buffer: 8 KiB
// from a client, 32 KiB from an endpoint; nothing is copied but chunks that are
// moved together. end comes with the last data wherever the end is known by then.
func (c *conn) ReadBody() (p []byte, end bool, err error) {
	if c.rstate == readDone {
		return nil, true, nil
	}
	if c.is(flagBroken) {
		return nil, false, c.readFailed(net.ErrClosed, policy.PhaseBody)
	}
	switch c.rstate {
	case readLength:
		return c.readPlain(c.left)
	case readChunked:
		return c.readChunks()
	case readUntilClose, readTunnel:
		return c.readPlain(1 << 62)
	}
	return nil, false, c.misused("a body read before its head")
}

// BodyReady reports that bytes of the message are buffered, so that ReadBody would not wait.
func (c *conn) BodyReady() bool { return c.r != c.w }

// bufferSize is what a read asks for, by who sends.
func (c *conn) bufferSize() int {
	if c.is(flagClient) {
		return bodyBuffer
	}
	return headBuffer
}

func (c *conn) readPlain(most int64) ([]byte, bool, error) {
	if c.r == c.w {
		if err := c.fill(c.bufferSize()); err != nil {
			if err == io.EOF && c.rstate == readUntilClose && c.truncated() {
				err = io.ErrUnexpectedEOF
			}
			if err == io.EOF && c.rstate != readLength {
				c.rstate = readDone
				return nil, true, nil
			}
			return nil, false, c.readFailed(err, policy.PhaseBody)
		}
	}
	n := uint32(min(most, int64(c.w-c.r)))
	p := c.buf[c.r : c.r+n : c.r+n]
	c.r += n
	if c.rstate == readLength {
		if c.left -= int64(n); c.left == 0 {
			c.rstate = readDone
		}
	}
	return p, c.rstate == readDone, nil
}

// truncated reports whether a TLS stream ended without saying so. A body that ends
// with its connection is then not known to be whole (RFC 9112 section 9.8): anybody
// on the way could have cut it.
func (c *conn) truncated() bool {
	t, ok := c.t.(interface{ Truncated() bool })
	return ok && t.Truncated()
}

func (c *conn) readChunks() ([]byte, bool, error) {
	for {
		p, end, f := c.decode()
		if f.bad() {
			return nil, false, c.violated(f, policy.PhaseBody)
		}
		if len(p) > 0 || end {
			return p, end, nil
		}
		if err := c.fill(c.bufferSize()); err != nil {
			return nil, false, c.readFailed(err, policy.PhaseBody)
		}
	}
}

// beginBody prepares for the body that a head has announced.
func (c *conn) beginBody(f *message.Framing) {
	c.left = 0
	switch f.Kind {
	case message.Length:
		if c.rstate, c.left = readLength, f.Length; f.Length == 0 {
			c.rstate = readDone
		}
	case message.Chunked:
		c.rstate, c.chunk, c.digits = readChunked, chunkSize, 0
	case message.UntilClose:
		c.rstate = readUntilClose
	case message.Tunnel:
		c.rstate = readTunnel
	default:
		c.rstate = readDone
	}
}
