package http1

import (
	"bytes"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// trailerSection takes what is buffered of the section after the last chunk (RFC
// 9112 section 7.1.2). Its fields are copied out, line by line, because the read
// buffer moves on. done: the empty line is behind it.
func (c *conn) trailerSection() (done bool, f fault) {
	for {
		unread := c.buf[c.r:c.w]
		end := bytes.IndexByte(unread[c.scan:], '\n')
		whole := end >= 0
		if end += int(c.scan); !whole {
			end = len(unread)
		}
		if c.left+int64(end)+1 > int64(c.limits.Trailers) {
			return false, tooLarge("the trailer section is over the limit")
		}
		if !whole {
			c.scan = uint32(end)
			return false, fault{}
		}
		c.scan = 0
		if end == 0 || unread[end-1] != '\r' {
			return false, refuse("a line ends with a bare line feed")
		}
		c.r += uint32(end) + 1
		c.left += int64(end) + 1
		if end == 1 {
			c.rstate = readDone
			return true, fault{}
		}
		if f = c.trailerField(unread[:end-1]); f.bad() {
			return false, f
		}
	}
}

// trailerField refuses what must be known before the body: framing, routing,
// authentication and the like (RFC 9110 section 6.5.1).
func (c *conn) trailerField(line []byte) fault {
	id, name, value, f := splitField(line)
	switch {
	case f.bad():
		return f
	case !id.Trailing() || id == message.NameOther && protected(line[:name]):
		return refuse("a field that may not stand in a trailer section")
	}
	if c.trail == nil {
		c.trail = &message.Head{}
	}
	if len(c.trail.Fields()) >= c.limits.Fields {
		return tooLarge("too many trailer fields")
	}
	c.trail.AppendCopy(id, line[:name], line[value.Start:value.End])
	return fault{}
}

// Trailers implements message.Stream.
func (c *conn) Trailers() *message.Head {
	if c.rstate != readDone || c.trail == nil || len(c.trail.Fields()) == 0 {
		return nil
	}
	return c.trail
}
