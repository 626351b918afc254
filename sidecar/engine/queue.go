package engine

// Queueing: output that never parks, for owners that are no task. Cost: one system call where
// the socket takes all, otherwise a copy of the rest. 0 allocations.

// Queue sends p: what the socket takes now, if nothing is queued before it, and the rest, of
// which a copy is kept, as soon as there is room. It never parks and may be called outside
// tasks. The queue is bounded by the caller, who looks at Queued before, and told that it is
// empty by OnDrained; no deadline bounds it. An error says that the connection is broken or
// closed; one that comes later shows at the next call, or at OnReadable as a reset. Not beside
// a task that writes.
func (c *Conn) Queue(p []byte) error {
	for c.out == nil && len(p) > 0 {
		n, err := c.tryWrite(p, nil)
		if err == ErrWouldBlock {
			break
		}
		if err != nil {
			return err
		}
		p = p[n:]
	}
	if len(p) == 0 {
		return c.closedErr()
	}
	if c.flags&flagClosed != 0 {
		return ErrClosed
	}
	c.extend(len(p))
	c.out.buf = append(c.out.buf, p...)
	if err := c.flushNow(); err != ErrWouldBlock {
		return err
	}
	return nil
}

// Queued is how many bytes (of ciphertext, for TLS) the socket has not taken yet.
func (c *Conn) Queued() int {
	if c.out == nil {
		return 0
	}
	return c.out.pending()
}

// OnDrained runs f once on the loop, at the end of the turn in which the out queue became
// empty, also because the connection broke; not after Close. nil takes it back. While nothing
// is queued it does nothing.
func (c *Conn) OnDrained(f func()) {
	checkOwner(c.loop)
	if c.out != nil {
		c.out.drained = f
	}
}

// TryRead is Read that returns ErrWouldBlock instead of parking, and looks at no deadline.
// Before the handshake it finds nothing. What crypto/tls answers by itself is sent or queued.
func (x *TLS) TryRead(p []byte) (int, error) {
	switch {
	case x.state != tlsReady:
		return 0, ErrWouldBlock
	case x.err != nil || len(p) == 0:
		return 0, x.err
	case x.held:
		return x.unhold(p), nil
	case x.conn.Closed():
		return 0, ErrClosed
	case x.dry && !x.conn.Pending(): // crypto/tls would only come to the same, with an allocation
		return 0, ErrWouldBlock
	}
	n, err := x.readNow(p, wireReads)
	if n > 0 {
		return n, nil // an error stays in crypto/tls for the next call
	}
	return 0, err
}

// Queue is Conn.Queue for plaintext: all of p is encrypted at once. Only after the handshake.
func (x *TLS) Queue(p []byte) error {
	if x.state != tlsReady {
		return ErrWouldBlock
	}
	if x.err != nil || len(p) == 0 {
		return x.err
	}
	if x.conn.Closed() {
		return ErrClosed
	}
	x.wire.unbounded = true
	_, err := x.encrypt(p)
	x.wire.unbounded = false
	if flushErr := x.conn.flushNow(); err == nil && flushErr != ErrWouldBlock {
		err = flushErr
	}
	return err
}

// Queued is how many bytes of ciphertext the socket has not taken yet.
func (x *TLS) Queued() int { return x.conn.Queued() }

// OnDrained is Conn.OnDrained.
func (x *TLS) OnDrained(f func()) { x.conn.OnDrained(f) }
