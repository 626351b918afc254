package message

// class is a set of properties of one byte.
type class uint8

const (
	classToken class = 1 << iota // tchar, RFC 9110 section 5.6.2
	classValue                   // may stand in a field value: HTAB, SP, VCHAR, obs-text
	classPath                    // may stand in a request target: VCHAR but "#"
)

// classes and lower are tables computed at start, one entry a byte value.
var (
	classes = buildClasses()
	lower   = buildLower()
)

func buildClasses() (t [256]class) {
	for c := 0; c < 256; c++ {
		alnum := c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if alnum {
			t[c] |= classToken
		}
		if c == '\t' || c >= 0x20 && c != 0x7f {
			t[c] |= classValue
		}
		if c > 0x20 && c < 0x7f && c != '#' {
			t[c] |= classPath
		}
	}
	for _, c := range []byte("!#$%&'*+-.^_`|~") {
		t[c] |= classToken
	}
	return t
}

func buildLower() (t [256]byte) {
	for c := 0; c < 256; c++ {
		t[c] = byte(c)
		if c >= 'A' && c <= 'Z' {
			t[c] |= 0x20
		}
	}
	return t
}

// IsToken reports whether b is a token: not empty and of token characters only
// (RFC 9110 section 5.6.2).
func IsToken[T string | []byte](b T) bool {
	for i := 0; i < len(b); i++ {
		if classes[b[i]]&classToken == 0 {
			return false
		}
	}
	return len(b) != 0
}

// IsTokenByte reports whether c may stand in a token.
func IsTokenByte(c byte) bool { return classes[c]&classToken != 0 }

// IsValueByte reports whether c may stand in a field value.
func IsValueByte(c byte) bool { return classes[c]&classValue != 0 }

// TokenLen returns the number of token characters at the start of b.
func TokenLen(b []byte) int {
	for i, c := range b {
		if classes[c]&classToken == 0 {
			return i
		}
	}
	return len(b)
}

// IsValue reports whether b may stand as a field value: no control character but
// the tab; bytes above 0x7f are opaque and allowed (RFC 9110 section 5.5).
func IsValue(b []byte) bool {
	for len(b) >= 8 {
		if !plain8(b) && !valueBytes(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return valueBytes(b)
}

func valueBytes(b []byte) bool {
	for _, c := range b {
		if classes[c]&classValue == 0 {
			return false
		}
	}
	return true
}

// plain8 reports whether the first eight bytes of b hold no byte below 0x20 and
// no 0x7f. It may say no wrongly (the caller then looks at each byte), never yes.
func plain8(b []byte) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	_ = b[7]
	x := uint64(b[0]) | uint64(b[1])<<8 | uint64(b[2])<<16 | uint64(b[3])<<24 |
		uint64(b[4])<<32 | uint64(b[5])<<40 | uint64(b[6])<<48 | uint64(b[7])<<56
	below := (x - ones*0x20) &^ x & high
	del := x ^ ones*0x7f
	return below|((del-ones)&^del&high) == 0
}

// IsTarget reports whether every byte of b may stand in a request target: no
// control character, no space, no "#" and nothing above 0x7e.
func IsTarget[T string | []byte](b T) bool {
	for i := 0; i < len(b); i++ {
		if classes[b[i]]&classPath == 0 {
			return false
		}
	}
	return true
}
