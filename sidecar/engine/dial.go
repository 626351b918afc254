package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"
)

// Dial connects to addr. It parks the calling task until that has succeeded, failed, or
// timeout (0: none) has passed. The error wraps ErrTimeout, the task's cancellation, or the
// syscall.Errno. On a task only.
func (l *Loop) Dial(addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	c, err := l.dial(addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("engine: dial %s: %w", addr, err)
	}
	l.counts.dialled++
	return c, nil
}

func (l *Loop) dial(addr netip.AddrPort, timeout time.Duration) (*Conn, error) {
	t := l.current
	if t == nil {
		return nil, ErrWouldBlock
	}
	if t.cancelled != nil {
		return nil, t.cancelled
	}
	if !addr.IsValid() {
		return nil, syscall.EINVAL
	}
	fd, err := l.poller.Connect(addr)
	if err != nil && err != syscall.EINPROGRESS {
		return nil, err
	}
	c := l.adopt(fd, addr)
	l.engine.dialled.note(c)
	if err := c.watch(); err != nil {
		c.Close()
		return nil, err
	}
	if err == nil {
		c.flags |= flagWritable
		return c, nil
	}
	if err := c.finishConnect(timeout); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// DialUnix is Dial to the socket at path.
func (l *Loop) DialUnix(path string, timeout time.Duration) (*Conn, error) {
	c, err := l.dialUnix(path, timeout)
	if err != nil {
		return nil, fmt.Errorf("engine: dial unix://%s: %w", path, err)
	}
	l.counts.dialled++
	return c, nil
}

// unixRetry is how long to wait for a place in the queue of a Unix listener: nothing tells
// of one.
const unixRetry = 2 * time.Millisecond

func (l *Loop) dialUnix(path string, timeout time.Duration) (*Conn, error) {
	t := l.current
	if t == nil {
		return nil, ErrWouldBlock
	}
	if t.cancelled != nil {
		return nil, t.cancelled
	}
	sockets, ok := l.poller.(UnixSockets)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	until := l.after(timeout)
	for {
		fd, err := sockets.ConnectUnix(path)
		if err == nil {
			c := l.adopt(fd, netip.AddrPort{})
			c.flags |= flagWritable | flagUnix
			if err := c.watch(); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		}
		if !blocked(err) && !retry(err) {
			return nil, err
		}
		if until != 0 && l.Nanos() >= until {
			return nil, ErrTimeout
		}
		if err := t.Sleep(unixRetry); err != nil {
			return nil, err
		}
	}
}

// finishConnect waits for the first writable edge and asks what became of the connect.
func (c *Conn) finishConnect(timeout time.Duration) error {
	c.flags |= flagDialling
	if timeout > 0 {
		c.writeBy = c.loop.Nanos() + int64(timeout)
		c.schedule(c.writeBy)
	}
	err := c.waitWritable()
	c.flags &^= flagDialling
	c.writeBy = 0
	if err != nil {
		return err
	}
	if c.flags&(flagEnding|flagReset) == 0 {
		return nil // a connect that failed is reported with more than room to write
	}
	return c.loop.poller.SocketError(int(c.fd))
}
