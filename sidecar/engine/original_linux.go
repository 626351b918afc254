package engine

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// soOriginalDst is SO_ORIGINAL_DST and IP6T_SO_ORIGINAL_DST, which are the same number on
// levels of their own (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
const soOriginalDst = 80

// OriginalDestination implements OriginalDestinations. Connection tracking knows what a redirect
// has changed; where it does not follow the connection nothing was changed, or by a rule that
// leaves the address as it is (TPROXY), so that the socket's own address is the one. IPv4 is asked
// of by its own level on a socket of IPv6 too.
func (netSockets) OriginalDestination(fd int, peer netip.Addr) (netip.AddrPort, error) {
	var to netip.AddrPort
	var err error
	if peer.Unmap().Is4() {
		to, err = originalDst4(fd)
	} else {
		to, err = originalDst6(fd)
	}
	if err == unix.ENOENT || err == unix.ENOPROTOOPT {
		return netSockets{}.LocalAddr(fd)
	}
	if err != nil {
		return netip.AddrPort{}, os.NewSyscallError("getsockopt", err)
	}
	return to, nil
}

// originalDst4 reads a sockaddr_in into the first structure of the package that is large enough.
func originalDst4(fd int) (netip.AddrPort, error) {
	m, err := syscall.GetsockoptIPv6Mreq(fd, syscall.IPPROTO_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(m.Multiaddr[4:8])), binary.BigEndian.Uint16(m.Multiaddr[2:4])), nil
}

// originalDst6 reads a sockaddr_in6.
func originalDst6(fd int) (netip.AddrPort, error) {
	m, err := unix.GetsockoptIPv6MTUInfo(fd, syscall.IPPROTO_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := *(*[2]byte)(unsafe.Pointer(&m.Addr.Port)) // in network order
	return netip.AddrPortFrom(withZone(netip.AddrFrom16(m.Addr.Addr), m.Addr.Scope_id), binary.BigEndian.Uint16(port[:])), nil
}
