package accesslog

import (
	"unicode"
	"unicode/utf8"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

const hexDigits = "0123456789abcdef"

// special is 1 for the bytes that do not stand for themselves in every way to escape.
var special = buildSpecial()

func buildSpecial() (t [256]uint8) {
	for b := range t {
		if b < ' ' || b >= 0x7f || b == '"' || b == '\\' || b == '#' || b == '{' || b == '|' || b == '}' {
			t[b] = 1
		}
	}
	return t
}

// appendEscaped appends s so that no byte of it can end the line, a quotation or a terminal's
// patience, and so that the reader of the format gets it back.
func appendEscaped[S []byte | string](dst []byte, s S, e template.Escape) []byte {
	i := 0
	for ; i+4 <= len(s); i += 4 {
		if special[s[i]]|special[s[i+1]]|special[s[i+2]]|special[s[i+3]] != 0 {
			return appendSlowly(dst, s, e)
		}
	}
	for ; i < len(s); i++ {
		if special[s[i]] != 0 {
			return appendSlowly(dst, s, e)
		}
	}
	return append(dst, s...)
}

func appendSlowly[S []byte | string](dst []byte, s S, e template.Escape) []byte {
	switch e {
	case template.EscapeCLF:
		return appendCLF(dst, s)
	case template.EscapeHAProxy:
		return appendHAProxy(dst, s, false)
	case escapeCapture:
		return appendHAProxy(dst, s, true)
	}
	return appendJSON(dst, s)
}

// escapeCapture is HAProxy's way within the braces of captured fields.
const escapeCapture template.Escape = 100

// appendJSON escapes as JSON strings do, and everything that does not print (controls, line
// separators, marks that change the direction of writing) as \u. What is not UTF-8
// becomes U+FFFD.
func appendJSON[S []byte | string](dst []byte, s S) []byte {
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

// appendCLF escapes as Apache's mod_log_config does: \" \\ \n \t and \xHH.
func appendCLF[S []byte | string](dst []byte, s S) []byte {
	for i := range len(s) {
		switch b := s[i]; {
		case b == '\n':
			dst = append(dst, '\\', 'n')
		case b == '\r':
			dst = append(dst, '\\', 'r')
		case b == '\t':
			dst = append(dst, '\\', 't')
		case b == '"' || b == '\\':
			dst = append(dst, '\\', b)
		case b < ' ' || b >= 0x7f:
			dst = append(dst, '\\', 'x', hexDigits[b>>4], hexDigits[b&15])
		default:
			dst = append(dst, b)
		}
	}
	return dst
}

const upperDigits = "0123456789ABCDEF"

// appendHAProxy escapes as section 8.6 of HAProxy's manual says: within the braces of
// captured fields, what separates them, too.
func appendHAProxy[S []byte | string](dst []byte, s S, captured bool) []byte {
	for i := range len(s) {
		b := s[i]
		if special[b] == 0 || b == '\\' || !captured && (b == '{' || b == '|' || b == '}') {
			dst = append(dst, b)
		} else {
			dst = append(dst, '#', upperDigits[b>>4], upperDigits[b&15])
		}
	}
	return dst
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

func appendClipped[S []byte | string](dst []byte, s S, limit int, e template.Escape) []byte {
	s, cut := clip(s, limit)
	dst = appendEscaped(dst, s, e)
	if cut && e == template.EscapeJSON {
		dst = append(dst, ellipsis...)
	}
	return dst
}
