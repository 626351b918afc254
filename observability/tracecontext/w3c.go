package tracecontext

import "bytes"

// The flags of a traceparent (level 2, section 3.2.2.5).
const (
	flagSampled = 1 << iota
	flagRandom
)

// parentLen is the length of version 00: 2 digits, 32, 16 and 2, and three dashes.
const parentLen = 55

// ParseTraceparent reads the value of a traceparent. false: malformed, and to be treated
// as absent, tracestate with it (W3C Trace Context section 4.3). Of a version to come
// the parts known today count (section 3.2.4).
func ParseTraceparent(v []byte) (c Context, ok bool) {
	var version, flags [1]byte
	if len(v) < parentLen || v[2] != '-' || v[35] != '-' || v[52] != '-' ||
		!fromHex(version[:], v[:2], &small) || version[0] == 0xff ||
		version[0] == 0 && len(v) != parentLen || len(v) > parentLen && v[parentLen] != '-' {
		return Context{}, false
	}
	if !fromHex(c.TraceID[:], v[3:35], &small) || !fromHex(c.SpanID[:], v[36:52], &small) ||
		!fromHex(flags[:], v[53:55], &small) || !c.Valid() {
		return Context{}, false
	}
	c.Decision = Dropped
	if flags[0]&flagSampled != 0 {
		c.Decision = Sampled
	}
	c.Random = flags[0]&flagRandom != 0
	return c, true
}

// AppendTraceparent appends c in version 00. c is valid.
func AppendTraceparent(dst []byte, c *Context) []byte {
	dst = append(dst, "00-"...)
	dst = appendHex(dst, c.TraceID[:])
	dst = append(dst, '-')
	dst = appendHex(dst, c.SpanID[:])
	var flags byte
	if c.Decision == Sampled {
		flags = flagSampled
	}
	if c.Random {
		flags |= flagRandom
	}
	return append(dst, '-', '0', '0'+flags)
}

// The bounds of a tracestate that is passed on. The standard asks for 512 bytes at least
// (section 3.3.1.5), and allows 32 members.
const (
	StateLimit   = 512
	stateMembers = 32
	longMember   = 128 // those that are longer go first
)

// StateFits reports whether v may be passed on as it is: well-formed, and within the
// bounds.
func StateFits(v []byte) bool {
	members, ok := stateMembersOf(v)
	return ok && members > 0 && members <= stateMembers && len(v) <= StateLimit
}

// AppendState appends what is passed on of a tracestate whose fields, one after the
// other, have been joined with commas into v: nothing where it is malformed; without
// its longest members, and then its last, where it is too long (section 3.3.1.5).
func AppendState(dst, v []byte) []byte {
	members, ok := stateMembersOf(v)
	if !ok || members > stateMembers {
		return dst
	}
	short := len(v) > StateLimit
	start := len(dst)
	for len(v) > 0 {
		var member []byte
		member, v = nextMember(v)
		if len(member) == 0 || short && len(member) > longMember {
			continue
		}
		comma := 0
		if len(dst) > start {
			comma = 1
		}
		if len(dst)-start+comma+len(member) > StateLimit {
			return dst
		}
		dst = append(append(dst, ","[:comma]...), member...)
	}
	return dst
}

// stateMembersOf counts the members; false: one is malformed. Empty ones are allowed and
// do not count (section 3.3.1.1).
func stateMembersOf(v []byte) (n int, ok bool) {
	for len(v) > 0 {
		var member []byte
		if member, v = nextMember(v); len(member) == 0 {
			continue
		}
		if !stateMember(member) {
			return 0, false
		}
		n++
	}
	return n, true
}

// nextMember cuts the first member, without white space around it, off a list.
func nextMember(v []byte) (member, rest []byte) {
	member, rest = v, nil
	if i := bytes.IndexByte(v, ','); i >= 0 {
		member, rest = v[:i], v[i+1:]
	}
	return bytes.Trim(member, " \t"), rest
}

// stateMember reports whether m is key=value (sections 3.3.1.3.1 and 3.3.1.3.2).
func stateMember(m []byte) bool {
	i := bytes.IndexByte(m, '=')
	if i < 1 || i > 256 || len(m)-i-1 < 1 || len(m)-i-1 > 256 {
		return false
	}
	if c := m[0]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
		return false
	}
	for _, c := range m[1:i] {
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_', c == '-', c == '*', c == '/', c == '@':
		default:
			return false
		}
	}
	for _, c := range m[i+1:] {
		if c < 0x20 || c > 0x7e || c == '=' {
			return false
		}
	}
	return true
}
