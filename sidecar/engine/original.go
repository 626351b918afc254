package engine

import (
	"errors"
	"io"
	"net/netip"
)

// OriginalDestinations is what a Poller may also offer: where accepted connections were going
// before the network redirected them.
type OriginalDestinations interface {
	// OriginalDestination is asked for an accepted socket whose peer has the address peer.
	OriginalDestination(fd int, peer netip.Addr) (netip.AddrPort, error)
}

// Peeker is what a Poller may also offer.
type Peeker interface {
	// PeekBytes is Read that leaves there what it reads.
	PeekBytes(fd int, p []byte) (int, error)
}

// Peek is TryRead that leaves what it reads to be read again. It returns errors.ErrUnsupported where
// the network has no such call.
func (c *Conn) Peek(p []byte) (int, error) {
	checkOwner(c.loop)
	poller, ok := c.loop.poller.(Peeker)
	if !ok {
		return 0, errors.ErrUnsupported
	}
	for {
		if c.flags&flagClosed != 0 {
			return 0, ErrClosed
		}
		if c.flags&(flagReadable|flagUntried) == 0 {
			return 0, ErrWouldBlock
		}
		n, err := poller.PeekBytes(int(c.fd), p)
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case blocked(err):
			c.flags &^= flagReadable | flagUntried
		case !retry(err):
			return 0, err
		}
	}
}

// OriginalDestination is where an accepted connection was going before it was redirected to
// us; of one that was not redirected it is the address that it came to. It asks the kernel at
// each call. Errors: errors.ErrUnsupported on a system, or of a socket, that does not know it,
// and the kernel's.
func (c *Conn) OriginalDestination() (netip.AddrPort, error) {
	p, ok := c.loop.poller.(OriginalDestinations)
	if !ok || c.flags&flagUnix != 0 {
		return netip.AddrPort{}, errors.ErrUnsupported
	}
	if c.flags&flagClosed != 0 {
		return netip.AddrPort{}, ErrClosed
	}
	return p.OriginalDestination(int(c.fd), c.Remote().Addr())
}

// KnowsOriginalDestinations reports whether the system tells where redirected connections were
// going. Any goroutine.
func (e *Engine) KnowsOriginalDestinations() bool {
	_, ok := e.loops[0].poller.(OriginalDestinations)
	return ok
}
