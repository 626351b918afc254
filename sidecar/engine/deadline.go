package engine

import "time"

// Deadlines are stored lazily: setting one that lies later than what the wheel already knows
// is a store and a compare, no list work and no system call. When the wheel's time comes up,
// the connection looks at its deadlines and links itself again if they lie ahead.

// SetReadDeadline bounds reads and OnReadable: from t on they end with ErrTimeout
// (IdleExpired). The zero time means never. It always returns nil.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.readBy = c.loop.time.at(t)
	c.schedule(c.readBy)
	return nil
}

// SetWriteDeadline is SetReadDeadline for writes and flushes.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.writeBy = c.loop.time.at(t)
	c.schedule(c.writeBy)
	return nil
}

// SetDeadline sets both.
func (c *Conn) SetDeadline(t time.Time) error {
	c.SetReadDeadline(t)
	return c.SetWriteDeadline(t)
}

// passed reports whether a deadline has come.
func (c *Conn) passed(deadline int64) bool {
	return deadline != 0 && deadline <= c.loop.time.nanos
}

func (c *Conn) schedule(deadline int64) {
	if deadline == 0 || c.flags&flagClosed != 0 {
		return
	}
	if c.linked() && c.tick() <= deadlineTick(deadline) {
		return
	}
	c.loop.wheel.schedule(&c.node, deadline, 0)
}

// expire is called when the wheel's time for the connection has come.
func (c *Conn) expire() {
	if c.passed(c.readBy) {
		if c.reader != nil {
			c.reader.Wake()
		} else if c.onReadable != nil {
			c.flags |= flagExpired
			c.queue()
		}
	} else {
		c.schedule(c.readBy)
	}
	if c.passed(c.writeBy) {
		if c.writer != nil {
			c.writer.Wake()
		}
	} else {
		c.schedule(c.writeBy)
	}
}

// ReadWithin is SetReadDeadline for d from now, without the way over wall time; zero or
// less means never.
func (c *Conn) ReadWithin(d time.Duration) {
	c.readBy = c.loop.after(d)
	c.schedule(c.readBy)
}

// WriteWithin is ReadWithin for writes and flushes.
func (c *Conn) WriteWithin(d time.Duration) {
	c.writeBy = c.loop.after(d)
	c.schedule(c.writeBy)
}

func (l *Loop) after(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	return l.Nanos() + int64(d)
}
