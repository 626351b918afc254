package http1

import (
	"bytes"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Start lines and request targets (RFC 9112 sections 3 and 4).

const version = "HTTP/1."

// requestLine parses "method SP target SP HTTP/1.x"; start is the offset of its
// first byte in the section.
func (p *parser) requestLine(line []byte, start int) fault {
	n := message.TokenLen(line)
	tail := len(line) - len(" HTTP/1.1")
	if n == 0 || tail <= n+1 || line[n] != ' ' || line[tail] != ' ' {
		if foreign(line) {
			return fault{policy.NotHTTP, "a first line with neither a path nor a version of HTTP"}
		}
		return refuse("malformed request line")
	}
	minor, ok := parseVersion(line[tail+1:])
	if !ok {
		return refuse("a version other than HTTP/1.0 and HTTP/1.1")
	}
	p.minor = minor
	target := line[n+1 : tail]
	if !message.IsTarget(target) {
		return refuse("the target holds a control character, a space, a fragment or a byte above 0x7e")
	}
	at := uint32(start)
	p.h.Method = message.Span{Start: at, End: at + uint32(n)}
	p.h.Target = message.Span{Start: at + uint32(n) + 1, End: at + uint32(tail)}
	return p.target(line[:n], target)
}

// foreign reports whether a malformed request line is none of HTTP at all: it names no
// version, and no path behind a method as HTTP/0.9 does. Who sends such a line would take
// an answer for something of its own protocol; a client that meant HTTP/2 and got its
// preface wrong would look for frames in it.
func foreign(line []byte) bool {
	return !bytes.Contains(line, []byte("HTTP/")) && !bytes.Contains(line, []byte(" /"))
}

func parseVersion(b []byte) (minor uint8, ok bool) {
	if len(b) != len("HTTP/1.1") || string(b[:len(version)]) != version {
		return 0, false
	}
	minor = b[len(version)] - '0'
	return minor, minor <= 1
}

// target sorts the four forms of a target (RFC 9112 section 3.2).
func (p *parser) target(method, target []byte) fault {
	switch {
	case string(method) == "CONNECT":
		return p.authorityForm(target)
	case target[0] == '/':
		p.h.Path = p.h.Target
		return fault{}
	case len(target) == 1 && target[0] == '*' && string(method) == "OPTIONS":
		p.h.Path = p.h.Target
		return fault{}
	}
	return p.absoluteForm(target)
}

func (p *parser) authorityForm(target []byte) fault {
	if !p.connect {
		return fault{policy.MethodRefused, "CONNECT is not served here"}
	}
	if host, port := message.SplitAuthority(target); host == nil || port == nil {
		return refuseHost("the target of CONNECT must be host and port")
	}
	p.connects, p.absolute = true, true
	p.h.Authority = p.h.Target
	return fault{}
}

// absoluteForm takes "http://authority/path?query" apart. Where the path is
// empty, the span of "/" is borrowed from the scheme; finish adds what else is
// missing.
func (p *parser) absoluteForm(target []byte) fault {
	skip := 0
	switch {
	case len(target) > 7 && message.EqualFold(target[:7], "http://"):
		skip = 7
	case len(target) > 8 && message.EqualFold(target[:8], "https://"):
		skip = 8
	default:
		return refuse("the target is neither a path nor an http or https URI")
	}
	end := bytes.IndexAny(target[skip:], "/?")
	if end < 0 {
		end = len(target)
	} else {
		end += skip
	}
	if host, _ := message.SplitAuthority(target[skip:end]); host == nil {
		return refuseHost("the target's authority is malformed")
	}
	at := p.h.Target.Start
	p.absolute = true
	p.h.Authority = message.Span{Start: at + uint32(skip), End: at + uint32(end)}
	p.h.Path = message.Span{Start: at + uint32(end), End: p.h.Target.End}
	if end == len(target) {
		p.h.Path = message.Span{Start: at + uint32(skip) - 1, End: at + uint32(skip)}
	}
	return fault{}
}

// originForm completes the path of an absolute target once the head is loaded:
// a query without a path gets one, and OPTIONS of a whole server its asterisk
// (RFC 9112 section 3.2.4).
func (p *parser) originForm() {
	h := p.h
	if !p.absolute || p.connects {
		return
	}
	path := h.PathBytes()
	switch {
	case path[0] == '?':
		h.Path = h.Keep([]byte("/"))
		h.Path.End = h.Keep(path).End
	case h.Path.Start < h.Authority.Start && string(h.MethodBytes()) == "OPTIONS":
		h.Path = h.Keep([]byte("*"))
	}
}

// statusLine parses "HTTP/1.x SP status [SP phrase]". The space after the status
// is left out by enough servers to be forgiven: nothing is ambiguous about it.
func (p *parser) statusLine(line []byte, start int) fault {
	const digits = len("HTTP/1.1 ")
	if len(line) < digits+3 || line[digits-1] != ' ' {
		return refuse("malformed status line")
	}
	minor, ok := parseVersion(line[:digits-1])
	if !ok {
		return refuse("a version other than HTTP/1.0 and HTTP/1.1")
	}
	p.minor = minor
	status := 0
	for _, c := range line[digits : digits+3] {
		if c < '0' || c > '9' {
			return refuse("the status is not three digits")
		}
		status = status*10 + int(c-'0')
	}
	rest := line[digits+3:]
	if status < 100 || len(rest) > 0 && (rest[0] != ' ' || !message.IsValue(rest)) {
		return refuse("malformed status line")
	}
	p.h.Status = status
	if len(rest) > 1 {
		at := uint32(start + digits + 4)
		p.h.Phrase = message.Span{Start: at, End: uint32(start + len(line))}
	}
	return fault{}
}
