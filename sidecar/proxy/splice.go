package proxy

import (
	"errors"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Where both connections are plain text, what is large goes from one to the other inside the
// kernel (engine.Splice).

// spliceFrom is how many bytes of a body are left, or of a tunnel's direction have moved,
// where that begins to pay.
const spliceFrom = 256 << 10

// errCopy says that what is left of a body has to be copied.
var errCopy = errors.New("not to be spliced")

// newSplice returns nil where one of the connections is not plain.
func newSplice(dst, src end) *engine.Splice {
	to, from := dst.Plain(), src.Plain()
	if to == nil || from == nil {
		return nil
	}
	return &engine.Splice{Src: from, Dst: to}
}

// spliceAnswer streams the rest of an answer's body where it is large and plain; errCopy: it
// is not, or no longer can be.
func (x *Exchange) spliceAnswer() error {
	if left := x.up.SpliceIn(); left < spliceFrom || x.server.SpliceOut() != left {
		return errCopy
	}
	s := newSplice(x.server, x.up)
	if s == nil {
		return errCopy
	}
	defer s.End()
	for {
		x.setUpstreamDeadline(x.endpointSilence())
		n, end, err := x.up.ReadSplice(s)
		if err == engine.ErrNoSplice {
			return errCopy
		}
		if err != nil {
			return x.bodyError(err)
		}
		x.server.WriteWithin(x.clientSilence())
		if err := x.server.WriteSplice(s, n, end); err != nil || end {
			return err
		}
	}
}

// spliceRequest is spliceAnswer for the pump; nil: it has come to its end.
func (x *Exchange) spliceRequest(up *upstream.Conn) error {
	if left := x.server.SpliceIn(); left < spliceFrom || up.SpliceOut() != left {
		return errCopy
	}
	s := newSplice(up, x.server)
	if s == nil {
		return errCopy
	}
	defer s.End()
	for {
		x.server.ReadWithin(x.clientSilence())
		n, end, err := x.server.ReadSplice(s)
		if err == engine.ErrNoSplice {
			return errCopy
		}
		if err != nil {
			x.clientFailed(up, err)
			return nil
		}
		x.body.read = end
		up.WriteWithin(x.within(x.endpointSilence()))
		if up.WriteSplice(s, n, end) != nil || end {
			return nil
		}
	}
}

// carrier moves one direction of a tunnel: copied at first, spliced once much has moved.
type carrier struct {
	dst, src end
	piece    []byte
	splice   *engine.Splice // nil: copied
	never    bool
}

// spliced is what a side offers for splicing; see http1.
type spliced interface {
	SpliceIn() int64
	SpliceOut() int64
	ReadSplice(http1.Splicer) (n int, end bool, err error)
	WriteSplice(s http1.Splicer, n int, end bool) error
}

// read takes the next piece, after moved bytes.
func (c *carrier) read(moved int64) (n int, end bool, err error) {
	if c.splice == nil && moved >= spliceFrom && !c.never && c.src.SpliceIn() > 0 && c.dst.SpliceOut() > 0 {
		c.splice = newSplice(c.dst, c.src)
		c.never = c.splice == nil
	}
	if c.splice != nil {
		n, end, err = c.src.ReadSplice(c.splice)
		if err != engine.ErrNoSplice {
			return n, end, err
		}
		c.stop()
	}
	c.piece, end, err = c.src.ReadBody()
	return len(c.piece), end, err
}

// write passes the piece on.
func (c *carrier) write(n int, end bool) error {
	if c.splice != nil {
		return c.dst.WriteSplice(c.splice, n, end)
	}
	return c.dst.WriteBody(c.piece, end)
}

// stop ends splicing for good.
func (c *carrier) stop() {
	if c.splice != nil {
		c.splice.End()
		c.splice = nil
	}
	c.never = true
}
