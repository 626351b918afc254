package engine

import (
	"net/netip"
	"os"
	"syscall"
)

// sockets are the socket calls on Linux, where they differ from every Unix's. It holds no
// state. Read, Write and WriteBuffers are in the syscall files: their form depends on the race
// detector.
type sockets struct{ netSockets }

func (sockets) Listen(addr netip.AddrPort) (int, netip.AddrPort, error) {
	return listenSocket(addr, nil)
}

// listenSocket opens a listening socket; special, if not nil, sets its further options.
func listenSocket(addr netip.AddrPort, special func(fd int) error) (int, netip.AddrPort, error) {
	fd, err := openSocket(addr.Addr())
	if err != nil {
		return -1, netip.AddrPort{}, os.NewSyscallError("socket", err)
	}
	bound, err := bindListener(fd, addr, special)
	if err != nil {
		syscall.Close(fd)
		return -1, netip.AddrPort{}, err
	}
	return fd, bound, nil
}

// Probe binds addr without SO_REUSEPORT, which fails if anybody listens there.
func (sockets) Probe(addr netip.AddrPort) error { return probeSocket(addr, nil) }

func probeSocket(addr netip.AddrPort, special func(fd int) error) error {
	fd, err := openSocket(addr.Addr())
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	defer syscall.Close(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return os.NewSyscallError("setsockopt", err)
	}
	if special != nil {
		if err := special(fd); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return os.NewSyscallError("bind", syscall.Bind(fd, toSockaddr(addr)))
}

func bindListener(fd int, addr netip.AddrPort, special func(fd int) error) (netip.AddrPort, error) {
	options := []struct{ level, name, value int }{
		{syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1},
		{syscall.SOL_SOCKET, soReusePort, 1},
		{syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1}, // inherited by what is accepted
	}
	for _, o := range options {
		if err := syscall.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
		}
	}
	if addr.Addr() == netip.IPv6Unspecified() {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0); err != nil {
			return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
		}
	}
	if special != nil {
		if err := special(fd); err != nil {
			return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := syscall.Bind(fd, toSockaddr(addr)); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(fd, maxBacklog); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("listen", err)
	}
	return sockets{}.LocalAddr(fd)
}

// soReusePort is SO_REUSEPORT, which package syscall lacks on some architectures.
const soReusePort = 15

func openSocket(addr netip.Addr) (int, error) {
	family := syscall.AF_INET6
	if addr.Is4() || addr.Is4In6() {
		family = syscall.AF_INET
	}
	return syscall.Socket(family, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
}

func (sockets) Connect(addr netip.AddrPort) (int, error) {
	fd, err := openSocket(addr.Addr())
	if err != nil {
		return -1, err
	}
	return connectTo(fd, addr)
}

func (sockets) CloseSocket(fd int, reset bool) error {
	if reset {
		linger := syscall.Linger{Onoff: 1}
		syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &linger)
	}
	return syscall.Close(fd)
}
