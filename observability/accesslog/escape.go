package accesslog

import (
	"unicode"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendEscaped appends s so that it can stand in a JSON string, in a text line and
// on a terminal: quotes and backslashes escaped, and everything that does not print
// (controls, line separators, marks that change the direction of writing) as \u
// escapes. What is not UTF-8 becomes U+FFFD.
func appendEscaped[S []byte | string](dst []byte, s S) []byte {
	start := 0
	for i := 0; i < len(s); {
		b := s[i]
		if b < utf8.RuneSelf {
			if b >= ' ' && b != '"' && b != '\\' && b != 0x7f {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			dst = appendASCIIEscape(dst, b)
			i++
			start = i
			continue
		}
		// The conversion stays on the stack: at most four bytes.
		r, n := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		if r == utf8.RuneError && n <= 1 || !unicode.IsPrint(r) {
			dst = append(dst, s[start:i]...)
			dst = appendRuneEscape(dst, r)
			start = i + n
		}
		i += n
	}
	return append(dst, s[start:]...)
}

func appendASCIIEscape(dst []byte, b byte) []byte {
	switch b {
	case '"', '\\':
		return append(dst, '\\', b)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&15])
}

// appendRuneEscape appends r as one \u escape or, above the basic plane, as two.
func appendRuneEscape(dst []byte, r rune) []byte {
	if r > 0xffff {
		r -= 0x10000
		dst = appendRuneEscape(dst, 0xd800+r>>10)
		r = 0xdc00 + r&0x3ff
	}
	return append(dst, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}

// clip cuts s to at most limit bytes and reports whether it did.
func clip[S []byte | string](s S, limit int) (S, bool) {
	if len(s) <= limit {
		return s, false
	}
	return s[:limit], true
}

// ellipsis marks a value that was cut.
const ellipsis = "…"

func appendClipped[S []byte | string](dst []byte, s S, limit int) []byte {
	s, cut := clip(s, limit)
	dst = appendEscaped(dst, s)
	if cut {
		dst = append(dst, ellipsis...)
	}
	return dst
}
