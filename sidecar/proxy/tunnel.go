package proxy

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
)

// tunnel carries bytes both ways until both ends have closed theirs (half-close
// is passed on), one fails, or nothing has moved for the idle time. One task
// serves each direction.
type tunnel struct {
	down, up end // HTTP streams after their switch of protocols, or bare connections
	idle     time.Duration
	loop     *loopState
	moved    int64 // Nanos of the last byte, either way
	in, out  int64 // bytes from and to the client
	running  bool
	half     bool   // one direction has ended in order
	released func() // when the sibling has ended, last of all; may be nil
	ended    engine.Cond
	err      error // the first failure
}

// run serves the tunnel on t until it is over.
func (n *tunnel) run(t *engine.Task) error {
	n.moved = n.loop.loop.Nanos()
	n.running = true
	sibling := n.loop.loop.Go("tunnel-up", func(*engine.Task) {
		normal := false
		defer func() {
			if !normal {
				n.fail(&policy.Error{Reason: policy.Internal, Phase: policy.PhaseBody, Err: errors.New("panic in the other direction")})
			}
			n.running = false
			n.ended.Broadcast()
			if n.released != nil {
				n.released()
			}
		}()
		if err := n.copy(n.up, n.down, &n.in, policy.Downstream); err != nil {
			n.fail(err)
		} else {
			n.down.WatchAbort(t) // nobody reads there any more, who would see a reset
		}
		normal = true
	})
	if err := n.copy(n.down, n.up, &n.out, policy.Upstream); err != nil {
		n.fail(err)
	} else if n.running {
		n.up.WatchAbort(sibling)
	}
	for n.running {
		if err := n.ended.Wait(t); err != nil {
			n.fail(tunnelError(policy.Downstream, err))
			sibling.Cancel(err)
			break
		}
	}
	n.down.WatchAbort(nil)
	return n.err
}

// fail notes the first failure and breaks both ends, which ends the other direction.
func (n *tunnel) fail(err error) {
	if err == nil {
		return
	}
	if n.err == nil {
		n.err = err
	}
	r := policy.ReasonOf(n.err)
	n.down.Abort(r)
	n.up.Abort(r)
}

// copy moves bytes from src to dst until src's FIN.
func (n *tunnel) copy(dst, src end, count *int64, reader policy.Side) error {
	c := carrier{dst: dst, src: src}
	defer c.stop()
	for {
		src.ReadWithin(n.idle)
		m, end, err := c.read(*count)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if n.idle > 0 && time.Duration(n.loop.loop.Nanos()-n.moved) < n.idle {
				continue // the other direction is alive
			}
			return &policy.Error{Reason: policy.TunnelIdle, Side: reader, Phase: policy.PhaseBody, Err: err}
		}
		if errors.Is(err, engine.ErrPeerReset) { // by dst, which has ended and is watched
			return tunnelError(other(reader), engine.ErrPeerReset)
		}
		if err != nil {
			return tunnelError(reader, err)
		}
		if end && m == 0 && n.half && dst.Plain() != nil {
			return nil // its close, which comes now, says the same
		}
		*count += int64(m)
		n.moved = n.loop.loop.Nanos()
		dst.WriteWithin(n.idle)
		if err := c.write(m, end); errors.Is(err, engine.ErrPeerReset) {
			return tunnelError(other(reader), engine.ErrPeerReset)
		} else if err != nil {
			return tunnelError(other(reader), err)
		}
		if end {
			n.half = true
			return nil
		}
	}
}

func other(s policy.Side) policy.Side {
	if s == policy.Upstream {
		return policy.Downstream
	}
	return policy.Upstream
}

func tunnelError(side policy.Side, err error) error {
	var e *policy.Error
	if errors.As(err, &e) {
		return err
	}
	reason := policy.ClientAborted
	switch {
	case errors.Is(err, engine.ErrDrain):
		reason, side = policy.Draining, policy.Internally
	case side == policy.Upstream:
		reason = policy.UpstreamReset
	}
	return &policy.Error{Reason: reason, Side: side, Phase: policy.PhaseBody, Err: err}
}

// tunnel switches an exchange over after a 101, or a 2xx to CONNECT.
func (x *Exchange) tunnel() error {
	if err := x.server.WriteHead(&x.Resp); err != nil {
		return err
	}
	x.sent = true
	x.server.WriteWithin(x.conf.Timeouts.Body)
	if err := x.server.Flush(); err != nil {
		return err
	}
	x.server.WatchAbort(nil)
	up := x.up
	n := tunnel{down: x.server, up: up, idle: x.settings.Timeouts.Tunnel, loop: x.loop, released: func() {
		up.Drop()
		x.siblingEnded()
	}}
	up.Hold() // a sibling that could not be waited for outlives the exchange
	x.siblings++
	return n.run(x.task)
}

// bare is a connection without a codec as a tunnel's end.
type bare struct {
	raw       *engine.Conn
	transport engine.Transport
	loop      *engine.Loop
	buf       []byte // nil while it waits
	ready     int    // bytes in buf that have been read for the next ReadBody
}

// fill reads behind what is ready, without waiting for bytes; it parks only for room for
// a buffer of size bytes.
func (b *bare) fill(size int) (int, error) {
	if b.buf == nil {
		if q, ok := b.transport.(quieter); ok {
			if err := q.AwaitInput(size); err != nil {
				return 0, err
			}
		}
		b.buf = b.loop.Buffer(size)
	}
	n, err := b.transport.TryRead(b.buf[b.ready:])
	b.ready += n
	return n, err
}

// ReadBody implements end.
func (b *bare) ReadBody() ([]byte, bool, error) {
	if n := b.ready; n > 0 {
		b.ready = 0
		return b.buf[:n], false, nil
	}
	if err := b.lend(); err != nil {
		return nil, false, err
	}
	n, err := b.transport.Read(b.buf)
	if n > 0 {
		return b.buf[:n], false, nil
	}
	if err == io.EOF {
		return nil, true, nil
	}
	return nil, false, err
}

// WriteBody implements end.
func (b *bare) WriteBody(p []byte, end bool) error {
	if len(p) > 0 {
		if _, err := b.transport.Write(p); err != nil {
			return err
		}
	}
	if end {
		return b.transport.CloseWrite()
	}
	return nil
}

// SpliceIn implements end.
func (b *bare) SpliceIn() int64 { return 1 << 62 }

// SpliceOut implements end.
func (b *bare) SpliceOut() int64 { return 1 << 62 }

// ReadSplice implements end.
func (b *bare) ReadSplice(s http1.Splicer) (int, bool, error) {
	b.release()
	n, err := s.Fill(b.SpliceIn())
	if err == io.EOF {
		return 0, true, nil
	}
	return n, false, err
}

// WriteSplice implements end.
func (b *bare) WriteSplice(s http1.Splicer, _ int, end bool) error {
	if err := s.Flush(); err != nil || !end {
		return err
	}
	return b.transport.CloseWrite()
}

// ReadWithin implements end.
func (b *bare) ReadWithin(d time.Duration) { b.raw.ReadWithin(d) }

// WriteWithin implements end.
func (b *bare) WriteWithin(d time.Duration) { b.raw.WriteWithin(d) }

// WatchAbort implements end.
func (b *bare) WatchAbort(t *engine.Task) { b.raw.WatchAbort(t) }

// Abort implements end.
func (b *bare) Abort(r policy.Reason) { abort(b.transport, r) }

// Plain implements end.
func (b *bare) Plain() *engine.Conn { return plain(b.transport) }
