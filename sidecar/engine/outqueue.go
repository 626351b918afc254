package engine

// outQueue holds what was appended and not yet written. It exists only while there is
// something in it, in a pooled buffer.
type outQueue struct {
	buf []byte // in use up to len; capacity of a buffer class, or more
	off int    // written so far
	// drained is the function of OnDrained, nil if nobody waits.
	drained func()
}

// maxOut bounds the out queue in bytes. TLS.Write flushes between pieces of 32 KiB; the
// rest is room for what crypto/tls answers by itself.
const maxOut = 256 << 10

func (q *outQueue) pending() int { return len(q.buf) - q.off }

// Append copies p to the out queue and never parks: it is what libraries that hold a lock
// across their writes may call. It returns how much was taken: all, or 0 if the queue would
// exceed its bound or the connection is closed. Somebody must Flush.
func (c *Conn) Append(p []byte) int {
	if len(p) == 0 || !c.reserve(len(p)) {
		return 0
	}
	c.out.buf = append(c.out.buf, p...)
	return len(p)
}

// reserve makes room for n bytes in the out queue; false if that exceeds its bound.
func (c *Conn) reserve(n int) bool {
	if c.flags&flagClosed != 0 || n > maxOut || c.Queued()+n > maxOut {
		return false
	}
	c.extend(n)
	return true
}

// extend is reserve without a bound, on a connection that is not closed.
func (c *Conn) extend(n int) {
	q := c.out
	if q == nil {
		q = c.loop.takeQueue()
		q.buf = c.loop.Buffer(n)[:0]
		c.out = q
	} else if len(q.buf)+n > cap(q.buf) {
		c.loop.growQueue(q, n)
	}
}

// growQueue makes room for n more bytes: by moving to the front, or into a larger buffer.
func (l *Loop) growQueue(q *outQueue, n int) {
	need := q.pending() + n
	old := q.buf
	if need <= cap(old) {
		q.buf = old[:copy(old[:cap(old)], old[q.off:])]
		q.off = 0
		return
	}
	b := l.Buffer(max(need, 2*cap(old)))
	q.buf = b[:copy(b, old[q.off:])]
	q.off = 0
	l.Release(old)
}

// Flush parks until the out queue is empty. If another task is writing already, that one
// takes the queue along and Flush returns at once.
func (c *Conn) Flush() error {
	if c.out == nil || c.writer != nil {
		return c.closedErr()
	}
	if err := c.mayWrite(); err != nil {
		return err
	}
	for c.out != nil {
		err := c.flushNow()
		if err == ErrWouldBlock {
			c.flags &^= flagDrainOut
			err = c.waitWritable()
		}
		if err != nil {
			return err
		}
	}
	return c.closedErr()
}

func (c *Conn) closedErr() error {
	if c.flags&flagClosed != 0 {
		return ErrClosed
	}
	return nil
}

// flushNow writes what the socket takes, without parking. What is left goes out as soon as
// the socket has room, also if nobody waits for it.
func (c *Conn) flushNow() error {
	for c.out != nil && c.writer == nil {
		q := c.out
		if q.pending() == 0 { // reserved and not used
			c.dropOut()
			return nil
		}
		n, err := c.tryWrite(q.buf[q.off:], nil)
		if err == ErrWouldBlock {
			c.flags |= flagDrainOut
			if watchErr := c.watch(); watchErr != nil {
				return watchErr
			}
			return err
		}
		if err != nil {
			c.dropOut()
			return err
		}
		if q.off += n; q.pending() == 0 {
			c.dropOut()
		}
	}
	return nil
}

// dropOut frees the out queue.
func (c *Conn) dropOut() {
	c.flags &^= flagDrainOut
	if q := c.out; q != nil {
		c.out = nil
		c.loop.Release(q.buf)
		if q.drained != nil && c.flags&flagClosed == 0 {
			c.loop.EndOfTurn(q.drained)
		}
		c.loop.putQueue(q)
	}
}

// maxSpareQueues bounds the queue headers that a loop keeps; they are 40 bytes each.
const maxSpareQueues = 64

func (l *Loop) takeQueue() *outQueue {
	n := len(l.queues)
	if n == 0 {
		return &outQueue{}
	}
	q := l.queues[n-1]
	l.queues = l.queues[:n-1]
	return q
}

func (l *Loop) putQueue(q *outQueue) {
	*q = outQueue{}
	if len(l.queues) < maxSpareQueues {
		l.queues = append(l.queues, q)
	}
}
