package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
)

// Version 1 is a line of text (section 2.1).

const (
	begin = "PROXY "
	// lineMost is the longest line that there can be, its end included.
	lineMost = 107
)

func parse1(p []byte) (h Header, n int, err error) {
	if k := min(len(p), len(begin)); string(p[:k]) != begin[:k] {
		return h, 0, errNone
	}
	line := p[:min(len(p), lineMost)]
	end := bytes.IndexByte(line, '\n')
	switch {
	case end < 0 && len(line) == lineMost:
		return h, 0, errLong1
	case end < 0:
		return h, 0, nil
	case line[end-1] != '\r':
		return h, 0, errLine
	}
	h.Version = V1
	if err := h.line(line[len(begin) : end-1]); err != nil {
		return Header{}, 0, err
	}
	return h, end + 1, nil
}

// line reads "TCP4 SOURCE DESTINATION PORT PORT", or UNKNOWN and whatever follows it.
func (h *Header) line(p []byte) error {
	family, rest, _ := bytes.Cut(p, []byte(" "))
	switch string(family) {
	case "UNKNOWN":
		return nil
	case "TCP4", "TCP6":
	default:
		return errFamily1
	}
	var part [4][]byte
	for i := range part {
		var more bool
		part[i], rest, more = bytes.Cut(rest, []byte(" "))
		if more != (i < len(part)-1) {
			return errLine
		}
	}
	source, err := address(part[0], family[3] == '4')
	if err != nil {
		return err
	}
	destination, err := address(part[1], family[3] == '4')
	if err != nil {
		return err
	}
	from, ok := port(part[2])
	to, good := port(part[3])
	if !ok || !good {
		return errPort
	}
	h.set(netip.AddrPortFrom(source, from), netip.AddrPortFrom(destination, to))
	return nil
}

// missing1 counts the words that have not come, each as short as can be.
func missing1(p []byte) int {
	end := 2
	if p[len(p)-1] == '\r' {
		end = 1
	}
	words := bytes.Count(p[len(begin):], []byte(" "))
	if p[len(begin)] != 'T' || words > 4 {
		return end
	}
	least := len("::")
	if p[len(begin)+3] == '4' {
		least = len("0.0.0.0")
	}
	n := end
	for i := words + 1; i <= 4; i++ { // of source, destination, port, port
		n++
		if i <= 2 {
			n += least
		} else {
			n++
		}
	}
	if p[len(p)-1] == ' ' && words > 0 {
		if words <= 2 {
			n += least
		} else {
			n++
		}
	}
	return n
}

func address(p []byte, four bool) (netip.Addr, error) {
	a, err := netip.ParseAddr(string(p))
	if err != nil || a.Zone() != "" || a.Is4() != four {
		return a, errAddress
	}
	return a, nil
}

// port reads a number without a sign and without zeros before it.
func port(p []byte) (uint16, bool) {
	if len(p) == 0 || len(p) > 5 || p[0] == '0' && len(p) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 65535
}

func append1(b []byte, source, destination netip.AddrPort) []byte {
	if !source.IsValid() {
		return append(b, begin+"UNKNOWN\r\n"...)
	}
	b = append(b, begin+"TCP"...)
	if source.Addr().Is4() {
		b = append(b, '4', ' ')
	} else {
		b = append(b, '6', ' ')
	}
	b = source.Addr().AppendTo(b)
	b = append(b, ' ')
	b = destination.Addr().AppendTo(b)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(source.Port()), 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, uint64(destination.Port()), 10)
	return append(b, '\r', '\n')
}
