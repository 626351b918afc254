// Package detect tells from the first bytes of a connection what its client speaks.
//
// Why it exists: one listener serves HTTP and protocols that nobody has told us of, and
// one port serves both versions of HTTP. The verdict is a pure function of the bytes that
// have come: it never changes with the ones that follow, so that it does not depend on
// how the network has cut them, and it is there after Most bytes at the latest.
//
// What it must not know: connections, time, listeners. It imports nothing and allocates
// nothing (TestVerdictsAllocateNothing).
package detect

import "bytes"

// Verdict is what the first bytes are.
type Verdict uint8

// The verdicts.
const (
	// More: what has come may still be the beginning of several.
	More Verdict = iota
	// HTTP1 is a request line of HTTP/1.x.
	HTTP1
	// HTTP2 is the client's connection preface (RFC 9113 section 3.4).
	HTTP2
	// TLS is a record that begins a ClientHello (RFC 8446 sections 4.1.2 and 5.1).
	TLS
	// Opaque is everything else.
	Opaque
)

func (v Verdict) String() string {
	return [...]string{"more", "http1", "http2", "tls", "opaque"}[v]
}

// Preface is what a client of HTTP/2 sends first.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Most is how many bytes are looked at; of so many the verdict is never More.
const Most = 4096

// longestMethod leaves room for what is registered: the longest has 17 letters.
const longestMethod = 24

// Of tells what p is the beginning of.
//
// HTTP/1 is recognised by its whole request line, "METHOD SP target SP HTTP/1.x": many
// protocols begin with letters (SMTP, IRC, Redis, NATS, RTSP), and taking one of them for
// HTTP breaks it, while an HTTP client that is taken for opaque still reaches a service.
func Of(p []byte) Verdict {
	if len(p) == 0 {
		return More
	}
	if p[0] == recordHandshake {
		return clientHello(p)
	}
	if v := version(p); v != Opaque {
		return v
	}
	return requestLine(p[:min(len(p), Most)])
}

// HTTP tells the versions of HTTP apart where nothing else is spoken: what is not the
// preface is HTTP1, whose codec refuses what is none. More is said of a part of the
// preface only.
func HTTP(p []byte) Verdict {
	if v := version(p); v != Opaque {
		return v
	}
	return HTTP1
}

// version is HTTP2, More for a part of the preface, or Opaque.
func version(p []byte) Verdict {
	switch {
	case len(p) < len(Preface):
		if string(p) == Preface[:len(p)] {
			return More
		}
	case string(p[:len(Preface)]) == Preface:
		return HTTP2
	}
	return Opaque
}

const (
	recordHandshake = 22
	hello           = 1
	// A record has 16 KiB of payload at most, and a ClientHello that fits a record has more
	// than its fixed fields' 41 bytes. It may be spread over several records, each with a
	// byte at least; nobody sends one with less than its own header.
	recordMost  = 1 << 14
	recordLeast = 4
)

// clientHello looks at the record's header and the type of its message.
func clientHello(p []byte) Verdict {
	if len(p) > 1 && p[1] != 3 || len(p) > 2 && p[2] > 4 {
		return Opaque
	}
	if len(p) < 6 {
		return More
	}
	if n := int(p[3])<<8 | int(p[4]); n < recordLeast || n > recordMost || p[5] != hello {
		return Opaque
	}
	return TLS
}

// requestLine judges a line of HTTP/1 as far as it has come.
func requestLine(p []byte) Verdict {
	n := 0
	for n < len(p) && methodByte(p[n]) {
		n++
	}
	switch {
	case n > longestMethod:
		return Opaque
	case n == len(p):
		return More
	case n < 3 || p[n] != ' ':
		return Opaque
	}
	return target(p[n+1:], n+1)
}

// target judges "target SP HTTP/1.x", at the offset at of the line.
func target(p []byte, at int) Verdict {
	n := 0
	for n < len(p) && '!' <= p[n] && p[n] <= '~' {
		n++
	}
	switch {
	case n == len(p):
		return undecided(p, at)
	case n == 0 || p[n] != ' ':
		return Opaque
	}
	const protocol = "HTTP/1."
	rest := p[n+1:]
	if len(rest) <= len(protocol) {
		if !bytes.HasPrefix([]byte(protocol), rest) {
			return Opaque
		}
		return undecided(p, at)
	}
	if string(rest[:len(protocol)]) != protocol || rest[len(protocol)] < '0' || rest[len(protocol)] > '9' {
		return Opaque
	}
	return HTTP1
}

// undecided is the verdict on a line whose end has not come: of one that is longer than
// what is looked at, its beginning decides.
func undecided(p []byte, at int) Verdict {
	switch {
	case at+len(p) < Most:
		return More
	case p[0] == '/', bytes.HasPrefix(p, []byte("http://")), bytes.HasPrefix(p, []byte("https://")):
		return HTTP1
	}
	return Opaque
}

// methodByte: methods are registered in upper case, some with a hyphen.
func methodByte(b byte) bool { return 'A' <= b && b <= 'Z' || b == '-' }
