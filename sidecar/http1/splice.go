package http1

import (
	"io"
	"net"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Bytes of a body that the codec need not see may pass below it, from the transport it reads
// to the transport that another codec writes. What is buffered here goes out first, as ever.

// Splicer moves bytes from one transport to another; engine.Splice satisfies it. An alias, so
// that other codecs can have methods of the same type without knowing this package.
type Splicer = interface {
	// Fill takes up to most bytes from the source; it parks. engine.ErrNoSplice: none was
	// taken, and they are to be read instead.
	Fill(most int64) (int, error)
	// Flush passes on what Fill took; it parks.
	Flush() error
}

// endless is the length of what has none.
const endless = 1 << 62

// SpliceIn is the number of bytes that ReadSplice may move now; 0 where the body has to be
// read with ReadBody.
func (c *conn) SpliceIn() int64 {
	switch {
	case c.r != c.w || c.is(flagBroken):
		return 0
	case c.rstate == readLength:
		return c.left
	case c.rstate == readTunnel:
		return endless
	}
	return 0
}

// SpliceOut is the number of bytes that WriteSplice may pass on; 0 where the body has to be
// written with WriteBody.
func (c *conn) SpliceOut() int64 {
	switch {
	case c.is(flagWriteBroken):
		return 0
	case c.wstate == writeLength:
		return c.owed
	case c.wstate == writeTunnel:
		return endless
	}
	return 0
}

// ReadSplice is ReadBody that leaves the n bytes in s. engine.ErrNoSplice, as it is, asks for
// ReadBody in its place.
func (c *conn) ReadSplice(s Splicer) (n int, end bool, err error) {
	most := c.SpliceIn()
	if most == 0 {
		return 0, c.rstate == readDone, nil
	}
	n, err = s.Fill(most)
	switch {
	case err == engine.ErrNoSplice:
		return 0, false, err
	case err == io.EOF && c.rstate == readTunnel:
		c.rstate = readDone
		return 0, true, nil
	case err != nil:
		return 0, false, c.readFailed(err, policy.PhaseBody)
	}
	c.in += uint64(n)
	if c.rstate == readLength {
		if c.left -= int64(n); c.left == 0 {
			c.rstate = readDone
		}
	}
	return n, c.rstate == readDone, nil
}

// WriteSplice is WriteBody of the n bytes that s holds.
func (c *conn) WriteSplice(s Splicer, n int, end bool) error {
	if int64(n) > c.SpliceOut() {
		if c.is(flagWriteBroken) {
			return c.writeFailed(net.ErrClosed)
		}
		return c.misused("more body than announced")
	}
	if len(c.pend) > 0 {
		if err := c.send(nil); err != nil {
			return err
		}
	}
	if n > 0 {
		if err := s.Flush(); err != nil {
			return c.writeFailed(err)
		}
		c.flags |= flagSent
		c.out += uint64(n)
	}
	if c.wstate == writeTunnel {
		return c.writeOpaque(nil, end)
	}
	if c.owed -= int64(n); c.owed == 0 {
		c.wstate = writeDone
	} else if end {
		return c.misused("less body than announced")
	}
	return nil
}
