//go:build linux && !race

package engine

import (
	"net/netip"
	"syscall"
	"unsafe"
)

// The system calls of the hot path, made raw: they never sleep, so the scheduler need not
// know of them. Measured by BenchmarkEchoRoundTrip.

// epollWait is epoll_pwait. It is raw where it does not wait, and for the first
// millisecond of a wait if held: the loop keeps its processor. Otherwise Go's monitor
// thread, which looks every 20 us for processors that sit in a system call, takes a tenth
// of a half-idle proxy's time (perf: sysmon 11 % of the CPU at 500 mTLS handshakes a
// second, 1 % this way; two sidecars in a row 7 % less).
func epollWait(fd int, events []syscall.EpollEvent, ms int, held bool) (int, syscall.Errno) {
	first := 0
	switch {
	case ms == 0 || ms == 1 && held:
		return rawWait(fd, events, ms)
	case held:
		first = 1
		if n, e := rawWait(fd, events, first); n != 0 || e != 0 {
			return n, e
		}
	}
	if ms > 0 {
		ms -= first
	}
	n, _, e := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	return int(n), e
}

func rawWait(fd int, events []syscall.EpollEvent, ms int) (int, syscall.Errno) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(ms), 0, 0)
	return int(n), e
}

func (sockets) Read(fd int, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_RECVFROM, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func (sockets) Write(fd int, p []byte) (int, error) {
	n, _, e := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(fd),
		uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func (sockets) WriteBuffers(fd int, head, body []byte) (int, error) {
	iov := [2]syscall.Iovec{{Base: unsafe.SliceData(head)}, {Base: unsafe.SliceData(body)}}
	iov[0].SetLen(len(head))
	iov[1].SetLen(len(body))
	msg := syscall.Msghdr{Iov: &iov[0], Iovlen: 2}
	n, _, e := syscall.RawSyscall(syscall.SYS_SENDMSG, uintptr(fd), uintptr(unsafe.Pointer(&msg)), syscall.MSG_NOSIGNAL)
	if e != 0 {
		return 0, e
	}
	return int(n), nil
}

func (sockets) Accept(fd int) (int, netip.AddrPort, error) {
	var raw syscall.RawSockaddrAny
	size := uint32(syscall.SizeofSockaddrAny)
	n, _, e := syscall.RawSyscall6(syscall.SYS_ACCEPT4, uintptr(fd), uintptr(unsafe.Pointer(&raw)),
		uintptr(unsafe.Pointer(&size)), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0, 0)
	if e != 0 {
		return -1, netip.AddrPort{}, e
	}
	return int(n), fromRaw(&raw), nil
}

func fromRaw(raw *syscall.RawSockaddrAny) netip.AddrPort {
	switch raw.Addr.Family {
	case syscall.AF_INET:
		in := (*syscall.RawSockaddrInet4)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), bigEndian(in.Port))
	case syscall.AF_INET6:
		in := (*syscall.RawSockaddrInet6)(unsafe.Pointer(raw))
		return netip.AddrPortFrom(withZone(netip.AddrFrom16(in.Addr).Unmap(), in.Scope_id), bigEndian(in.Port))
	}
	return netip.AddrPort{}
}

// bigEndian reads a port, which the kernel stores in network order.
func bigEndian(port uint16) uint16 {
	b := (*[2]byte)(unsafe.Pointer(&port))
	return uint16(b[0])<<8 | uint16(b[1])
}
