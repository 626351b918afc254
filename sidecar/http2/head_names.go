package http2

import (
	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What a field name is, in one byte, so that it can be noted beside an entry of the
// dynamic table and need not be judged again: tagField plus its message.NameID, a
// pseudo-header, or nothing yet. Names that are refused are never noted.
const (
	tagUnknown uint8 = 0
	tagField   uint8 = 1

	tagMethod uint8 = 0xf0 + iota
	tagScheme
	tagAuthority
	tagPath
	tagStatus
	tagProtocol
)

// valueGood is noted of a value that may stand under its name.
const valueGood = 1

func isPseudo(tag uint8) bool { return tag >= tagMethod }

// fieldID of a tag that is no pseudo-header's.
func fieldID(tag uint8) message.NameID { return message.NameID(tag - tagField) }

func pseudoTag(name []byte) uint8 {
	switch string(name) {
	case ":method":
		return tagMethod
	case ":scheme":
		return tagScheme
	case ":authority":
		return tagAuthority
	case ":path":
		return tagPath
	case ":status":
		return tagStatus
	case ":protocol":
		return tagProtocol
	}
	return tagUnknown
}

// staticTags are the tags of the static table's entries.
var staticTags = buildStaticTags()

func buildStaticTags() (t [hpack.StaticCount + 1]uint8) {
	for i := 1; i <= hpack.StaticCount; i++ {
		name, _ := hpack.Static(i)
		if t[i] = pseudoTag([]byte(name)); t[i] == tagUnknown {
			t[i] = tagField + uint8(message.IDOf(name))
		}
	}
	return t
}

// judgeName returns the tag of a name that came as a literal.
func judgeName(name []byte) (tag uint8, bad violation) {
	if len(name) == 0 {
		return 0, "an empty field name"
	}
	if name[0] == ':' {
		if tag = pseudoTag(name); tag == tagUnknown {
			bad = "an unknown pseudo-header"
		}
		return tag, bad
	}
	if id := message.IDOfLower(name); id != message.NameOther {
		return tagField + uint8(id), ""
	}
	for _, c := range name {
		if !lowerToken[c] {
			return 0, "a field name holds a byte that is not of a token, or an upper-case letter"
		}
	}
	return tagField, ""
}

// lowerToken holds what may stand in a name (RFC 9113 section 8.2.1).
var lowerToken = buildLowerToken()

func buildLowerToken() (t [256]bool) {
	for c := range t {
		t[c] = message.IsTokenByte(byte(c)) && (c < 'A' || c > 'Z')
	}
	return t
}

// judgeValue checks what can be said of a value by its name alone.
func judgeValue(tag uint8, value []byte) violation {
	switch tag {
	case tagMethod:
		if !message.IsToken(value) {
			return "the method is not a token"
		}
	case tagPath:
		if len(value) == 0 {
			return "an empty :path"
		}
		if !message.IsTarget(value) {
			return ":path holds a control character, a space, a fragment or a byte above 0x7e"
		}
	case tagScheme, tagProtocol:
		if !message.IsValue(value) {
			return "a pseudo-header holds a control character"
		}
	case tagStatus:
		if !isStatus(value) {
			return ":status is not three digits"
		}
	case tagAuthority:
		if host, _ := message.SplitAuthority(value); host == nil {
			return "malformed :authority"
		}
	default:
		return judgeText(value)
	}
	return ""
}

// judgeText checks the value of a field (RFC 9113 section 8.2.1).
func judgeText(value []byte) violation {
	if n := len(value); n > 0 && (blank(value[0]) || blank(value[n-1])) {
		return "white space around a field value"
	}
	if !message.IsValue(value) {
		return "a field value holds a control character"
	}
	return ""
}

func blank(c byte) bool { return c == ' ' || c == '\t' }

func isStatus(b []byte) bool {
	if len(b) != 3 || b[0] < '1' {
		return false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}
