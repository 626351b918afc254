package engine

import "io"

// Reading. Cost: one recvfrom for a read that finds data, none for one that is known to find
// none; a park is a task switch. 0 allocations (TestNoAllocations).

// Read parks until there is something to read. It returns io.EOF at the end of the stream,
// ErrClosed after Close, ErrTimeout after the read deadline, the task's cancellation, or the
// error of the system call.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if t := c.loop.current; t != nil {
		if err := t.spend(); err != nil {
			return 0, err
		}
	}
	if c.passed(c.readBy) {
		return 0, ErrTimeout
	}
	for {
		n, err := c.TryRead(p)
		if err != ErrWouldBlock {
			return n, err
		}
		if err := c.waitReadable(); err != nil {
			return 0, err
		}
	}
}

// TryRead is Read that returns ErrWouldBlock instead of parking, and looks at no deadline.
// In an accept function it finds what came with the connection.
func (c *Conn) TryRead(p []byte) (int, error) {
	checkOwner(c.loop)
	for {
		if c.flags&flagClosed != 0 {
			return 0, ErrClosed
		}
		if c.flags&(flagReadable|flagUntried) == 0 {
			return 0, ErrWouldBlock
		}
		c.flags &^= flagUntried
		n, err := c.loop.poller.Read(int(c.fd), p)
		if err == nil {
			return c.took(n, len(p))
		}
		if blocked(err) {
			c.flags &^= flagReadable
		} else if !retry(err) {
			return 0, err
		}
	}
}

// took accounts for a read of n bytes into room for size. After a short read the next would
// find nothing, unless an event also said that the stream ends: then no further edge may come,
// and the end must be read; or that an urgent byte has come: a read stops before it, and the
// next passes over it.
func (c *Conn) took(n, size int) (int, error) {
	if n == 0 {
		c.flags |= flagEOF
		return 0, io.EOF
	}
	c.in += uint64(n)
	if n < size && c.flags&flagEnding == 0 {
		c.flags &^= flagReadable
	}
	if t := c.loop.current; t != nil {
		t.charge(n)
	}
	return n, nil
}

// waitReadable parks until the socket is readable. Data that came with the deadline wins.
func (c *Conn) waitReadable() error {
	t := c.loop.current
	if t == nil {
		return ErrWouldBlock
	}
	if c.reader != nil {
		panic("engine: two tasks read from one connection")
	}
	for c.flags&(flagReadable|flagClosed) == 0 {
		if c.passed(c.readBy) {
			return ErrTimeout
		}
		if err := c.watch(); err != nil {
			return err
		}
		c.reader = t
		err := t.Park("read")
		c.reader = nil
		if err != nil {
			return err
		}
	}
	if c.flags&flagClosed != 0 {
		return ErrClosed
	}
	return nil
}

// OnReadable gives the connection back to the loop: no task and no buffer is held. f runs
// once, on the loop, when bytes or the end of the stream arrive, when the connection fails,
// or when the read deadline passes (IdleExpired); at the next turn if one of these is already
// so. It must not park; it may call Loop.Go. From then on the connection is busy: edges are
// remembered until the next OnReadable. nil takes the function back.
func (c *Conn) OnReadable(f func()) {
	checkOwner(c.loop)
	c.onReadable = f
	c.flags &^= flagExpired
	if f == nil || c.flags&flagClosed != 0 {
		c.onReadable = nil
		return
	}
	if c.flags&flagReadable != 0 {
		c.queue()
	} else if c.passed(c.readBy) || c.watch() != nil {
		c.flags |= flagExpired
		c.queue()
	}
}

// IdleExpired tells the function of OnReadable that the read deadline passed and nothing
// came.
func (c *Conn) IdleExpired() bool { return c.flags&(flagExpired|flagReadable) == flagExpired }

// queue makes the function of OnReadable due.
func (c *Conn) queue() {
	if c.flags&flagQueued == 0 {
		c.flags |= flagQueued
		c.loop.idle.push(c)
	}
}
