package message

import "bytes"

// SplitAuthority checks "host" or "host:port" (RFC 3986 section 3.2), for codecs, and returns
// both; host is nil where it is malformed, port nil where there is none. Refused
// beyond the grammar, because two parsers may read them differently: an empty
// host, an empty port, percent-encoding, and the comma, which is what a joined
// list of two Host fields looks like. User information has an "@" and falls out
// by itself.
func SplitAuthority(b []byte) (host, port []byte) {
	host = b
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 || !isIPv6(b[1:end]) {
			return nil, nil
		}
		host = b[:end+1]
	} else {
		if colon := bytes.IndexByte(b, ':'); colon >= 0 {
			host = b[:colon]
		}
		if !isRegName(host) {
			return nil, nil
		}
	}
	rest := b[len(host):]
	if len(rest) == 0 {
		return host, nil
	}
	if rest[0] != ':' || !isPort(rest[1:]) {
		return nil, nil
	}
	return host, rest[1:]
}

func isRegName(b []byte) bool {
	for _, c := range b {
		if !regName[c] {
			return false
		}
	}
	return len(b) != 0
}

// regName holds unreserved and sub-delims but for the comma.
var regName = buildRegName()

func buildRegName() (t [256]bool) {
	for c := range t {
		t[c] = c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
	}
	for _, c := range []byte("-._~!$&'()*+;=") {
		t[c] = true
	}
	return t
}

func isPort(b []byte) bool {
	if len(b) == 0 || len(b) > 5 {
		return false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

// isIPv6 checks the text of an IPv6 address without a zone. netip.ParseAddr is
// not used because it would allocate for each request to such a host.
func isIPv6(b []byte) bool {
	groups, elided := 0, false
	for len(b) > 0 {
		if b[0] == ':' {
			// Only "::" may begin the text or follow a group's own colon.
			if len(b) < 2 || b[1] != ':' || elided {
				return false
			}
			elided = true
			b = b[2:]
			continue
		}
		n := hexLen(b)
		if n == 0 {
			return false
		}
		if n < len(b) && b[n] == '.' {
			groups += 2
			return isIPv4(b) && (groups == 8 && !elided || groups < 8 && elided)
		}
		if n > 4 {
			return false
		}
		groups++
		b = b[n:]
		if len(b) > 0 {
			if b[0] != ':' || len(b) == 1 {
				return false
			}
			if b[1] != ':' {
				b = b[1:]
			}
		}
	}
	return groups == 8 && !elided || groups < 8 && elided
}

func hexLen(b []byte) int {
	n := 0
	for n < len(b) && isHex(b[n]) {
		n++
	}
	return n
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || lower[c] >= 'a' && lower[c] <= 'f'
}

func isIPv4(b []byte) bool {
	for part := 0; ; part++ {
		n, v := 0, 0
		for n < len(b) && n < 4 && b[n] >= '0' && b[n] <= '9' {
			v = v*10 + int(b[n]-'0')
			n++
		}
		if n == 0 || v > 255 || n > 1 && b[0] == '0' {
			return false
		}
		if part == 3 {
			return n == len(b)
		}
		if n == len(b) || b[n] != '.' {
			return false
		}
		b = b[n+1:]
	}
}
