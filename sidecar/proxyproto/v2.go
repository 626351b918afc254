package proxyproto

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Version 2 is binary (section 2.2): a signature, version and command, family and
// transport, the length of what follows; then the addresses and the extensions.

const (
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	headV2    = 16

	commandLocal = 0x20
	commandProxy = 0x21

	unspecified = 0x00
	tcp4        = 0x11
	udp4        = 0x12 // of a client that came by QUIC, for one
	tcp6        = 0x21
	udp6        = 0x22
	unixStream  = 0x31
	unixPackets = 0x32

	// payloadMost bounds addresses and extensions. A client's certificate is among the
	// latter with some senders.
	payloadMost = 4096

	extensionHead     = 3
	extensionChecksum = 0x03
)

func parse2(p []byte) (h Header, n int, err error) {
	if k := min(len(p), len(signature)); string(p[:k]) != signature[:k] {
		return h, 0, errNone
	}
	if len(p) < headV2 {
		return h, 0, nil
	}
	switch {
	case p[12]>>4 != 2:
		return h, 0, errVersion
	case p[12] != commandLocal && p[12] != commandProxy:
		return h, 0, errCommand
	}
	size := int(binary.BigEndian.Uint16(p[14:]))
	if size > payloadMost {
		return h, 0, errLong2
	}
	n = headV2 + size
	h.Version, h.Local = V2, p[12] == commandLocal
	if !h.Local {
		need, known := addressSize(p[13])
		switch {
		case !known:
			return Header{}, 0, errFamily2
		case size < need:
			return Header{}, 0, errShort
		}
	}
	if len(p) < n {
		return Header{}, 0, nil
	}
	if h.Local || p[13] == unspecified {
		return h, n, nil // the rest is to be skipped, whatever it is
	}
	if err := h.block(p[13], p[:n]); err != nil {
		return Header{}, 0, err
	}
	return h, n, nil
}

func missing2(p []byte) int {
	if len(p) < headV2 {
		return headV2 - len(p)
	}
	return headV2 + int(binary.BigEndian.Uint16(p[14:])) - len(p)
}

func addressSize(family byte) (n int, known bool) {
	switch family {
	case unspecified:
		return 0, true
	case tcp4, udp4:
		return 12, true
	case tcp6, udp6:
		return 36, true
	case unixStream, unixPackets:
		return 216, true
	}
	return 0, false
}

// block reads the addresses of the header all, and checks its extensions.
func (h *Header) block(family byte, all []byte) error {
	a := all[headV2:]
	switch family {
	case tcp4, udp4:
		h.set(netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), binary.BigEndian.Uint16(a[8:])),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:])), binary.BigEndian.Uint16(a[10:])))
	case tcp6, udp6:
		h.set(netip.AddrPortFrom(netip.AddrFrom16([16]byte(a)), binary.BigEndian.Uint16(a[32:])),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(a[16:])), binary.BigEndian.Uint16(a[34:])))
	}
	n, _ := addressSize(family)
	return extensions(all, headV2+n)
}

// extensions checks those of the header all, which begin at the offset at. Only the
// checksum means something here; there is one at most.
func extensions(all []byte, at int) error {
	summed := false
	for at < len(all) {
		if len(all)-at < extensionHead {
			return errExtension
		}
		kind, size := all[at], int(binary.BigEndian.Uint16(all[at+1:]))
		at += extensionHead
		if len(all)-at < size {
			return errExtension
		}
		if kind == extensionChecksum {
			if summed || size != 4 || binary.BigEndian.Uint32(all[at:]) != checksum(all, at) {
				return errChecksum
			}
			summed = true
		}
		at += size
	}
	return nil
}

// checksum is CRC32c over all with the four bytes at the offset at as zeros.
func checksum(all []byte, at int) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	sum := ^crc32.Update(0, table, all[:at])
	for range 4 {
		sum = table[byte(sum)] ^ sum>>8
	}
	return crc32.Update(^sum, table, all[at+4:])
}

func append2(b []byte, command byte, source, destination netip.AddrPort) []byte {
	b = append(b, signature...)
	if !source.IsValid() {
		return append(b, command, unspecified, 0, 0)
	}
	if source.Addr().Is4() {
		s, d := source.Addr().As4(), destination.Addr().As4()
		b = append(b, command, tcp4, 0, 12)
		b = append(append(b, s[:]...), d[:]...)
	} else {
		s, d := source.Addr().As16(), destination.Addr().As16()
		b = append(b, command, tcp6, 0, 36)
		b = append(append(b, s[:]...), d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, source.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}
