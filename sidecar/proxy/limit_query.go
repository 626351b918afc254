package proxy

import "bytes"

// onlyQuery is the value of a key that stands in the query of a path once, decoded: a client could
// otherwise write one value in many ways. scratch is where it is decoded; it is returned, grown.
func onlyQuery(path []byte, key string, scratch []byte) (value, grown []byte) {
	_, query, found := bytes.Cut(path, []byte{'?'})
	n := 0
	for found {
		var pair []byte
		pair, query, found = bytes.Cut(query, []byte{'&'})
		name, coded, _ := bytes.Cut(pair, []byte{'='})
		// Behind what has been decoded already, so that value stays.
		at := len(value)
		scratch = appendUnescaped(scratch[:at], name)
		if string(scratch[at:]) != key {
			continue
		}
		if n++; n > 1 {
			return nil, scratch
		}
		scratch = appendUnescaped(scratch[:0], coded)
		value = scratch
	}
	if n == 0 {
		return nil, scratch
	}
	return scratch[:len(value)], scratch
}

// appendUnescaped appends a part of a query in the clear: %XX and + as forms write them. What
// is no escape stays as it is.
func appendUnescaped(dst, s []byte) []byte {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '+':
			dst = append(dst, ' ')
		case c == '%' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			dst = append(dst, unhex(s[i+1])<<4|unhex(s[i+2]))
			i += 2
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}
