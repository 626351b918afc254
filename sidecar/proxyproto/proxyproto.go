// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2
// (haproxy.org/download/3.2/doc/proxy-protocol.txt): the first bytes of a connection, by
// which a proxy tells the next one whose connection it is.
//
// Why it exists: who sends such a header is believed, so that it is read strictly, in full
// or not at all, and within a bound.
//
// What it must not know: connections, listeners, and from whom a header is accepted. It
// imports nothing of this project.
package proxyproto

import (
	"errors"
	"net/netip"
)

// Version of the protocol.
type Version uint8

// The versions; the zero value is none.
const (
	V1 Version = 1 + iota
	V2
)

// Header is what was said about a connection.
type Header struct {
	Version Version
	// Local: the sender speaks for itself (a health check), by version 2.
	Local bool
	// Source and Destination are the client's address and the one it called, IPv4 never
	// mapped into IPv6; not valid where the header names none: it is Local, the sender does
	// not know them, or they are Unix sockets.
	Source, Destination netip.AddrPort
}

// Most is the length of the longest header that is read, in bytes.
const Most = headV2 + payloadMost

// Parse reads the header that p begins with and returns its length. Zero without an error:
// more bytes are needed, which is never so of Most. The same bytes come to the same however
// they are cut.
func Parse(p []byte) (h Header, n int, err error) {
	switch {
	case len(p) == 0:
		return Header{}, 0, nil
	case p[0] == signature[0]:
		return parse2(p)
	case p[0] == begin[0]:
		return parse1(p)
	}
	return Header{}, 0, errNone
}

// Missing returns how many bytes at least are missing of the header of which p is the
// beginning, where Parse asks for more. Who reads no more than these takes nothing of what
// follows the header.
func Missing(p []byte) int {
	switch {
	case len(p) < shortest:
		return shortest - len(p)
	case p[0] == signature[0]:
		return missing2(p)
	}
	return missing1(p)
}

// shortest is the length of "PROXY UNKNOWN" with its end; version 2 begins with a byte more.
const shortest = 15

// Append writes the header of a connection from source to destination. Where one of them is
// not valid, it says that the addresses are not known.
func Append(b []byte, v Version, source, destination netip.AddrPort) []byte {
	source, destination = alike(source, destination)
	if v == V1 {
		return append1(b, source, destination)
	}
	return append2(b, commandProxy, source, destination)
}

// AppendLocal writes the header of a connection of our own: a health check.
func AppendLocal(b []byte, v Version) []byte {
	if v == V1 {
		return append1(b, netip.AddrPort{}, netip.AddrPort{})
	}
	return append2(b, commandLocal, netip.AddrPort{}, netip.AddrPort{})
}

// alike brings both addresses into one family, IPv4 where both are; both are the zero value
// where one is.
func alike(a, b netip.AddrPort) (netip.AddrPort, netip.AddrPort) {
	if !a.IsValid() || !b.IsValid() {
		return netip.AddrPort{}, netip.AddrPort{}
	}
	x, y := a.Addr().Unmap().WithZone(""), b.Addr().Unmap().WithZone("")
	if x.Is4() != y.Is4() {
		x, y = netip.AddrFrom16(x.As16()), netip.AddrFrom16(y.As16())
	}
	return netip.AddrPortFrom(x, a.Port()), netip.AddrPortFrom(y, b.Port())
}

func (h *Header) set(source, destination netip.AddrPort) {
	h.Source = netip.AddrPortFrom(source.Addr().Unmap(), source.Port())
	h.Destination = netip.AddrPortFrom(destination.Addr().Unmap(), destination.Port())
}

var (
	errNone      = errors.New("the connection does not begin with a PROXY protocol header")
	errLong1     = errors.New("PROXY v1: no end of the line within 107 bytes")
	errLine      = errors.New("PROXY v1: malformed line")
	errFamily1   = errors.New("PROXY v1: a protocol other than TCP4, TCP6 and UNKNOWN")
	errAddress   = errors.New("PROXY v1: an address that is none of its protocol")
	errPort      = errors.New("PROXY v1: a port that is no number from 0 to 65535")
	errVersion   = errors.New("PROXY v2: another version")
	errCommand   = errors.New("PROXY v2: a command other than LOCAL and PROXY")
	errFamily2   = errors.New("PROXY v2: an unknown address family or transport")
	errLong2     = errors.New("PROXY v2: longer than 4 KiB")
	errShort     = errors.New("PROXY v2: too short for its addresses")
	errExtension = errors.New("PROXY v2: an extension that is cut off")
	errChecksum  = errors.New("PROXY v2: the checksum is wrong")
)
