package http1

import (
	"net"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Output: a lent buffer holds what is pending, and each piece of a body leaves
// with it in one call of the transport wherever that is possible.

// reserve makes room for n more bytes in pend.
func (c *conn) reserve(n int) {
	if c.pend == nil {
		c.pend = c.b.Buffer(max(n, headBuffer))[:0]
		return
	}
	if need := len(c.pend) + n; need > cap(c.pend) {
		larger := append(c.b.Buffer(need)[:0], c.pend...)
		c.releasePend()
		c.pend = larger
	}
}

// send writes what is pending and then p. A small p is copied behind the head,
// which is cheaper than a second element for the kernel to walk.
func (c *conn) send(p []byte) error {
	if len(c.pend) == 0 && len(p) == 0 {
		return nil
	}
	if c.is(flagWriteBroken) {
		return c.writeFailed(net.ErrClosed)
	}
	if len(c.pend) > 0 && len(p) <= min(copyAtMost, cap(c.pend)-len(c.pend)) {
		c.pend, p = append(c.pend, p...), nil
	}
	n, err := c.write(p)
	c.out += uint64(n)
	if n > 0 || err == nil {
		c.flags |= flagSent
	}
	c.releasePend()
	if err != nil {
		return c.writeFailed(err)
	}
	return nil
}

func (c *conn) write(p []byte) (int, error) {
	switch {
	case len(p) == 0:
		return c.t.Write(c.pend)
	case len(c.pend) == 0:
		return c.t.Write(p)
	}
	return c.t.WriteBuffers(c.pend, p)
}

// Flush implements message.Stream: what is pending is sent, and a head whose
// message has no body is complete.
func (c *conn) Flush() error {
	err := c.send(nil)
	if err == nil && c.wstate == writeHeadOnly {
		c.wstate = writeDone
	}
	return err
}

// WriteBody implements message.Stream. Data for a message that has no body (the
// answer to HEAD) is dropped; more or less than the announced length is the
// caller's mistake and spoils the connection.
func (c *conn) WriteBody(p []byte, end bool) error {
	switch c.wstate {
	case writeDone:
		return nil
	case writeHeadOnly:
		if err := c.send(nil); err != nil || !end {
			return err
		}
	case writeLength:
		return c.writeLength(p, end)
	case writeChunked:
		return c.writeChunk(p, end)
	case writeUntilClose:
		if err := c.send(p); err != nil || !end {
			return err
		}
	case writeTunnel:
		return c.writeOpaque(p, end)
	default:
		return c.misused("a body written before its head")
	}
	c.wstate = writeDone
	return nil
}

func (c *conn) writeLength(p []byte, end bool) error {
	if int64(len(p)) > c.owed {
		return c.misused("more body than announced")
	}
	if err := c.send(p); err != nil {
		return err
	}
	if c.owed -= int64(len(p)); c.owed == 0 {
		c.wstate = writeDone
	} else if end {
		return c.misused("less body than announced")
	}
	return nil
}

// writeChunk frames p as one chunk. Up to 32 KiB it is copied between its size
// line and its end, so that a message costs one call; copying is cheaper than a
// second call for two bytes.
func (c *conn) writeChunk(p []byte, end bool) error {
	if len(p) > 0 {
		whole := len(c.pend)+len(p)+chunkFraming <= chunkAtMost
		if whole {
			c.reserve(len(p) + chunkFraming)
		} else {
			c.reserve(2 * chunkFraming)
		}
		c.pend = appendHex(c.pend, len(p))
		c.pend = append(c.pend, "\r\n"...)
		if whole {
			c.pend = append(c.pend, p...)
		} else if err := c.send(p); err != nil {
			return err
		}
		c.reserve(chunkFraming)
		c.pend = append(c.pend, "\r\n"...)
	}
	if end {
		c.reserve(chunkFraming)
		c.pend = append(c.pend, "0\r\n\r\n"...)
	}
	err := c.send(nil)
	if err == nil && end {
		c.wstate = writeDone
	}
	return err
}

func (c *conn) writeOpaque(p []byte, end bool) error {
	if err := c.send(p); err != nil || !end {
		return err
	}
	c.wstate = writeDone
	if err := c.t.CloseWrite(); err != nil {
		return c.writeFailed(err)
	}
	return nil
}

// WriteTrailers implements message.Stream: it ends the message, with t where the
// body is chunked. Fields that may not stand in a trailer section are left out.
func (c *conn) WriteTrailers(t *message.Head) error {
	if c.wstate != writeChunked || t == nil {
		return c.WriteBody(nil, true)
	}
	c.reserve(chunkFraming + fieldsSize(t))
	c.pend = append(c.pend, "0\r\n"...)
	for _, f := range t.Fields() {
		if f.ID.Trailing() {
			c.pend = appendField(c.pend, t, f)
		}
	}
	c.pend = append(c.pend, "\r\n"...)
	err := c.send(nil)
	if err == nil {
		c.wstate = writeDone
	}
	return err
}

func appendHex(b []byte, n int) []byte {
	const digits = "0123456789abcdef"
	shift := 0
	for n>>shift > 15 {
		shift += 4
	}
	for ; shift >= 0; shift -= 4 {
		b = append(b, digits[n>>shift&15])
	}
	return b
}
