//go:build linux && race

package engine

import (
	"net/netip"
	"syscall"
)

// With the race detector the calls go through package syscall, which tells it of the
// buffers they touch; raw calls would hide both accesses and the order they imply.

func epollWait(fd int, events []syscall.EpollEvent, ms int, _ bool) (int, syscall.Errno) {
	n, err := syscall.EpollWait(fd, events, ms)
	if errno, ok := err.(syscall.Errno); ok {
		return 0, errno
	}
	return n, 0
}

func (sockets) Read(fd int, p []byte) (int, error) {
	n, err := syscall.Read(fd, p)
	return max(n, 0), err
}

func (sockets) Write(fd int, p []byte) (int, error) {
	n, err := syscall.Write(fd, p)
	return max(n, 0), err
}

func (s sockets) WriteBuffers(fd int, head, body []byte) (int, error) {
	n, err := s.Write(fd, head)
	if err != nil || n < len(head) || len(body) == 0 {
		return n, err
	}
	m, err := s.Write(fd, body)
	if err == syscall.EAGAIN && n > 0 {
		err = nil
	}
	return n + m, err
}

func (sockets) Accept(fd int) (int, netip.AddrPort, error) {
	n, sa, err := syscall.Accept4(fd, syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	return n, fromSockaddr(sa), nil
}
