package http2

// Output: one lent buffer for each connection, which leaves in one call at the end of the turn.
// Bodies and heads wait for room in it; answers that the protocol demands do not, and are
// bounded by what is read (see outPause).

// outClass is the largest buffer of the loop's pools; what would not fit leaves first.
const outClass = 64 << 10

// reserve makes room for n bytes at the end of out and makes sure that it is sent.
func (c *conn) reserve(n int) {
	c.hook()
	if c.out == nil {
		c.out = c.loop.Buffer(n)[:0]
		return
	}
	need := len(c.out) + n
	if need <= cap(c.out) {
		return
	}
	if need > outClass {
		c.flush()
		c.out = c.loop.Buffer(n)[:0]
		return
	}
	larger := append(c.loop.Buffer(outClass)[:0], c.out...) // in one step: what is copied is small yet
	c.loop.Release(c.out)
	c.out = larger
}

// hook makes ending due.
func (c *conn) hook() {
	if !c.hooked {
		c.hooked = true
		c.loop.EndOfTurn(c.endF)
	}
}

// ending is the end of a turn in which something was done on the connection.
func (c *conn) ending() {
	c.hooked = false
	if c.more {
		c.more = false
		c.readable()
	}
	c.flush()
	if c.paused && !c.blocked {
		c.paused, c.more = false, true
		c.hook()
	}
	c.finish()
	c.side.settle()
}

// flush hands out over to the transport.
func (c *conn) flush() {
	if c.out == nil {
		return
	}
	b := c.out
	c.out = nil
	c.seq++
	var err error
	if !c.end.closed {
		err = c.t.Queue(b)
	}
	c.loop.Release(b)
	switch {
	case c.end.closed:
	case err != nil:
		c.lost(err)
	case c.t.Queued() > 0:
		if !c.blocked {
			c.blocked = true
			c.stalls()
		}
		c.t.OnDrained(c.drainF)
	default:
		c.offer()
	}
}

// drained: the transport has taken everything.
func (c *conn) drained() {
	c.blocked = false
	if c.end.closed {
		return
	}
	c.times.stall = 0
	c.hook()
	if c.paused {
		c.paused = false
		c.more = true
	}
	c.offer()
}

// makeRoom sends what is in the output if n bytes more would not fit: a frame is not cut for
// that, and nobody waits for room as long as the socket has some.
func (c *conn) makeRoom(n int) {
	if len(c.out) >= outRoom || len(c.out)+frameHeader+n > outClass {
		c.flush()
	}
}

// hasRoom reports whether a stream may add to the output.
func (c *conn) hasRoom() bool { return !c.blocked && len(c.out) < outRoom }

// offer lets the streams go on that have waited longest, one for room and one for the window, if
// there is something to be had. Each passes the offer on when it has taken its share, or cannot
// (Stream.await).
func (c *conn) offer() {
	if !c.hasRoom() {
		return
	}
	c.forRoom.wake()
	if c.sendWindow > 0 {
		c.forWindow.wake()
	}
}

// waitlist is a FIFO of streams whose writer waits for the connection.
type waitlist struct{ first, last *Stream }

func (w *waitlist) push(s *Stream) {
	s.list, s.prev, s.next = w, w.last, nil
	if w.last != nil {
		w.last.next = s
	} else {
		w.first = s
	}
	w.last = s
}

func (w *waitlist) remove(s *Stream) {
	if s.prev != nil {
		s.prev.next = s.next
	} else {
		w.first = s.next
	}
	if s.next != nil {
		s.next.prev = s.prev
	} else {
		w.last = s.prev
	}
	s.list, s.prev, s.next = nil, nil, nil
}

// wake wakes the first and takes it out.
func (w *waitlist) wake() {
	if s := w.first; s != nil {
		w.remove(s)
		s.writer.Wake()
	}
}
