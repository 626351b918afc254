//go:build unix && !linux

package engine

import (
	"errors"
	"net/netip"
	"syscall"
)

const (
	pollHalfClosed = 0
	// endsUnseen goes with Readable where poll does not tell a half-close: no read is taken
	// for the last one then, however short.
	endsUnseen = HalfClosed
	haveEpoll  = false
)

func newPoller() (Poller, error) { return nil, Events.Supported() }

func special(addr netip.AddrPort, free, onlyV6 bool) func(fd int) error {
	return func(fd int) error {
		if free {
			return errors.ErrUnsupported
		}
		if onlyV6 && addr.Addr().Is6() {
			return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
		}
		return nil
	}
}
