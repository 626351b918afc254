package engine

// Writing. Cost: one sendto, or sendmsg for two buffers; a socket that has no room costs one
// failed attempt and a park. 0 allocations.

// Write parks until all of p is written. Errors are those of Read, with the write deadline.
func (c *Conn) Write(p []byte) (int, error) { return c.WriteBuffers(p, nil) }

// WriteBuffers writes head and then body, with one system call where possible.
func (c *Conn) WriteBuffers(head, body []byte) (int, error) {
	if c.out != nil {
		if err := c.Flush(); err != nil {
			return 0, err
		}
	}
	total := 0
	for len(head)+len(body) > 0 {
		if err := c.mayWrite(); err != nil {
			return total, err
		}
		n, err := c.tryWrite(head, body)
		total += n
		if err == ErrWouldBlock {
			err = c.waitWritable()
		}
		if err != nil {
			return total, err
		}
		if n < len(head) {
			head = head[n:]
		} else {
			head, body = nil, body[n-len(head):]
		}
	}
	return total, nil
}

// mayWrite spends the budget and looks at the deadline before a write.
func (c *Conn) mayWrite() error {
	if t := c.loop.current; t != nil {
		if err := t.spend(); err != nil {
			return err
		}
	}
	if c.passed(c.writeBy) {
		return ErrTimeout
	}
	return nil
}

func (c *Conn) tryWrite(head, body []byte) (n int, err error) {
	checkOwner(c.loop)
	for {
		if c.flags&flagClosed != 0 {
			return 0, ErrClosed
		}
		if c.flags&flagWritable == 0 {
			return 0, ErrWouldBlock
		}
		switch {
		case len(body) == 0:
			n, err = c.loop.poller.Write(int(c.fd), head)
		case len(head) == 0:
			n, err = c.loop.poller.Write(int(c.fd), body)
		default:
			n, err = c.loop.poller.WriteBuffers(int(c.fd), head, body)
		}
		if err == nil {
			c.outB += uint64(n)
			if t := c.loop.current; t != nil {
				t.charge(n)
			}
			return n, nil
		}
		if blocked(err) {
			c.flags &^= flagWritable
		} else if !retry(err) {
			return 0, err
		}
	}
}

func (c *Conn) waitWritable() error {
	t := c.loop.current
	if t == nil {
		return ErrWouldBlock
	}
	if c.writer != nil {
		panic("engine: two tasks write to one connection")
	}
	for c.flags&(flagWritable|flagClosed) == 0 {
		if c.passed(c.writeBy) {
			return ErrTimeout
		}
		if err := c.watch(); err != nil {
			return err
		}
		c.writer = t
		err := t.Park("write")
		c.writer = nil
		if err != nil {
			return err
		}
	}
	if c.flags&flagClosed != 0 {
		return ErrClosed
	}
	return nil
}

// CloseWrite flushes and then ends the outgoing direction; reading goes on.
func (c *Conn) CloseWrite() error {
	if err := c.Flush(); err != nil {
		return err
	}
	if c.flags&flagClosed != 0 {
		return ErrClosed
	}
	if c.flags&flagShut != 0 {
		return nil
	}
	c.flags |= flagShut
	return c.loop.poller.ShutdownWrite(int(c.fd))
}
