//go:build unix

package engine

import (
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// netSockets are the socket calls in a form that every Unix has. It holds no state.
type netSockets struct{}

func (netSockets) Listen(addr netip.AddrPort) (int, netip.AddrPort, error) {
	return netSockets{}.ListenSpecial(addr, false, false)
}

// ListenSpecial implements SpecialListener.
func (netSockets) ListenSpecial(addr netip.AddrPort, free, onlyV6 bool) (int, netip.AddrPort, error) {
	fd, err := openPortable(family(addr.Addr()))
	if err != nil {
		return -1, netip.AddrPort{}, os.NewSyscallError("socket", err)
	}
	bound, err := bindPortable(fd, addr, special(addr, free, onlyV6))
	if err != nil {
		syscall.Close(fd)
		return -1, netip.AddrPort{}, err
	}
	return fd, bound, nil
}

// ProbeSpecial implements SpecialListener. A socket is not shared, so binding it tells.
func (netSockets) ProbeSpecial(netip.AddrPort, bool, bool) error { return nil }

// ListenUnix implements UnixSockets.
func (netSockets) ListenUnix(path string, ready func() error) (int, error) {
	fd, err := openPortable(syscall.AF_UNIX)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	err = os.NewSyscallError("bind", syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}))
	if err == nil {
		err = ready()
	}
	if err == nil {
		err = os.NewSyscallError("listen", syscall.Listen(fd, maxBacklog))
	}
	if err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

// ConnectUnix implements UnixSockets.
func (netSockets) ConnectUnix(path string) (int, error) {
	fd, err := openPortable(syscall.AF_UNIX)
	if err != nil {
		return -1, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func bindPortable(fd int, addr netip.AddrPort, special func(fd int) error) (netip.AddrPort, error) {
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
	}
	if addr.Addr() == netip.IPv6Unspecified() {
		if err := syscall.SetsockoptInt(fd, syscall.IPPROTO_IPV6, syscall.IPV6_V6ONLY, 0); err != nil {
			return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := special(fd); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, toSockaddr(addr)); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("bind", err)
	}
	if err := syscall.Listen(fd, maxBacklog); err != nil {
		return netip.AddrPort{}, os.NewSyscallError("listen", err)
	}
	return netSockets{}.LocalAddr(fd)
}

func family(addr netip.Addr) int {
	if addr.Is4() || addr.Is4In6() {
		return syscall.AF_INET
	}
	return syscall.AF_INET6
}

func openPortable(family int) (int, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fd, err := syscall.Socket(family, syscall.SOCK_STREAM, 0)
	if err != nil {
		return -1, err
	}
	return fd, prepare(fd)
}

// prepare gives a fresh socket what Linux does with flags; with an error it is closed.
func prepare(fd int) error {
	syscall.CloseOnExec(fd)
	if err := syscall.SetNonblock(fd, true); err != nil {
		syscall.Close(fd)
		return err
	}
	return nil
}

func (netSockets) Accept(fd int) (int, netip.AddrPort, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	conn, sa, err := syscall.Accept(fd)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	if err := prepare(conn); err != nil {
		return -1, netip.AddrPort{}, err
	}
	syscall.SetsockoptInt(conn, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	return conn, fromSockaddr(sa), nil
}

func (netSockets) Connect(addr netip.AddrPort) (int, error) {
	fd, err := openPortable(family(addr.Addr()))
	if err != nil {
		return -1, err
	}
	return connectTo(fd, addr)
}

func (netSockets) SocketError(fd int) error {
	n, err := syscall.GetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_ERROR)
	if err != nil {
		return err
	}
	if n != 0 {
		return syscall.Errno(n)
	}
	return nil
}

func (netSockets) Read(fd int, p []byte) (int, error) {
	n, err := syscall.Read(fd, p)
	return max(n, 0), err
}

// PeekBytes implements Peeker.
func (netSockets) PeekBytes(fd int, p []byte) (int, error) {
	n, _, err := syscall.Recvfrom(fd, p, syscall.MSG_PEEK)
	return max(n, 0), err
}

func (netSockets) Write(fd int, p []byte) (int, error) {
	n, err := syscall.Write(fd, p)
	return max(n, 0), err
}

func (netSockets) WriteBuffers(fd int, head, body []byte) (int, error) {
	n, err := unix.SendmsgBuffers(fd, [][]byte{head, body}, nil, nil, 0)
	return max(n, 0), err
}

func (netSockets) ShutdownWrite(fd int) error { return syscall.Shutdown(fd, syscall.SHUT_WR) }

// LocalAddr of a Unix socket is the zero address.
func (netSockets) LocalAddr(fd int) (netip.AddrPort, error) {
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockname", err)
	}
	return fromSockaddr(sa), nil
}

// level says what fd is ready for at this moment.
func level(fd int) Ready {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT | unix.POLLPRI | pollHalfClosed}}
	for {
		_, err := unix.Poll(fds, 0)
		if err == nil {
			return readyOfPoll(fds[0].Revents)
		}
		if err != unix.EINTR {
			return Failed
		}
	}
}

func readyOfPoll(e int16) Ready {
	var r Ready
	if e&unix.POLLIN != 0 {
		r |= Readable | endsUnseen
	}
	if e&unix.POLLOUT != 0 {
		r |= Writable
	}
	if e&pollHalfClosed != 0 {
		r |= HalfClosed
	}
	if e&unix.POLLHUP != 0 {
		r |= HungUp
	}
	if e&(unix.POLLERR|unix.POLLNVAL) != 0 {
		r |= Failed
	}
	if e&unix.POLLPRI != 0 {
		r |= Urgent
	}
	return r
}
