package engine

import (
	"net/netip"
	"syscall"
)

// ConnectUnix implements UnixSockets.
func (sockets) ConnectUnix(path string) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ListenSpecial implements SpecialListener.
func (sockets) ListenSpecial(addr netip.AddrPort, free, onlyV6 bool) (int, netip.AddrPort, error) {
	return listenSocket(addr, special(addr, free, onlyV6))
}

// ProbeSpecial implements SpecialListener.
func (sockets) ProbeSpecial(addr netip.AddrPort, free, onlyV6 bool) error {
	return probeSocket(addr, special(addr, free, onlyV6))
}

func special(addr netip.AddrPort, free, onlyV6 bool) func(fd int) error {
	return func(fd int) error {
		if free {
			level, name := syscall.IPPROTO_IP, ipFreeBind
			if addr.Addr().Is6() {
				level, name = syscall.IPPROTO_IPV6, ipv6FreeBind
			}
			if err := syscall.SetsockoptInt(fd, level, name, 1); err != nil {
				return err
			}
		}
		if onlyV6 && addr.Addr().Is6() {
			return syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 1)
		}
		return nil
	}
}

// ipFreeBind and ipv6FreeBind are IP_FREEBIND and IPV6_FREEBIND, which package syscall lacks
// on some architectures.
const (
	ipFreeBind   = 15
	ipv6FreeBind = 78
)
