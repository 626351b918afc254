package http1

import (
	"bytes"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// parser reads one head section, line by line, as far as its bytes have come. It
// remembers how far it searched, so a peer that sends single bytes costs no more
// than one that sends all at once, and it decides each line by nothing but the
// bytes up to that line's end, so the verdict is the same however they arrive.
//
// It lives on the stack of ReadHead. Cost: one bytes.IndexByte per line, one
// class look-up per byte of a name, an eighth of one per byte of a value.
type parser struct {
	h       *message.Head
	limits  *Limits
	request bool
	connect bool // CONNECT is served

	started bool // the start line is done
	skipped bool // an empty line before the request line was
	line    int  // where the current line begins
	scan    int  // up to where it was searched

	fields   int
	minor    uint8
	absolute bool // the target named the authority
	connects bool // the method is CONNECT
	options  options
	// The fields that the codec takes out, and how often they came.
	host, length, coding, upgrade    message.Span
	hosts, lengths, codings, expects int
}

// next parses what has come of the section b and returns its length once its
// empty line is there, 0 before.
func (p *parser) next(b []byte) (int, fault) {
	for {
		end := bytes.IndexByte(b[p.scan:], '\n')
		whole := end >= 0
		if whole {
			end += p.scan
		} else {
			end = len(b)
		}
		if f := p.bounds(b, end); f.bad() {
			return 0, f
		}
		if !whole {
			p.scan = end
			return 0, fault{}
		}
		if end == p.line || b[end-1] != '\r' {
			return 0, refuse("a line ends with a bare line feed")
		}
		line := b[p.line : end-1]
		start := p.line
		p.line, p.scan = end+1, end+1
		if len(line) == 0 && p.started {
			return p.line, fault{}
		}
		if f := p.take(line, start); f.bad() {
			return 0, f
		}
	}
}

// bounds checks the limits for a line that ends, or has come so far as, end.
func (p *parser) bounds(b []byte, end int) fault {
	if !p.started {
		if end > p.line && !startsLine(b[p.line]) {
			return refuse("the first byte cannot begin a message")
		}
		if end-p.line-1 > p.limits.RequestLine {
			return fault{policy.RequestLineTooLong, "the start line is over the limit"}
		}
	}
	if end+1 > p.limits.Head {
		return tooLarge("the head is over the limit")
	}
	return fault{}
}

func startsLine(c byte) bool { return c == '\r' || message.IsTokenByte(c) }

// take parses one line, whose first byte is at start.
func (p *parser) take(line []byte, start int) fault {
	if p.started {
		return p.field(line, start)
	}
	if len(line) == 0 {
		// RFC 9112 section 2.2: one empty line before a request line is ignored.
		if p.skipped || !p.request {
			return refuse("an empty line instead of a start line")
		}
		p.skipped = true
		return fault{}
	}
	p.started = true
	if p.request {
		return p.requestLine(line, start)
	}
	return p.statusLine(line, start)
}

// field parses a field line (RFC 9112 section 5).
func (p *parser) field(line []byte, start int) fault {
	if p.fields++; p.fields > p.limits.Fields {
		return tooLarge("too many fields")
	}
	id, name, value, f := splitField(line)
	if f.bad() {
		return f
	}
	at := uint32(start)
	v := message.Span{Start: at + value.Start, End: at + value.End}
	if id.HopByHop() || id == message.NameHost {
		return p.own(id, v, line[value.Start:value.End])
	}
	p.h.AppendField(message.Field{
		Name:  message.Span{Start: at, End: at + name},
		Value: v,
		ID:    id,
	})
	return fault{}
}

// splitField checks a field line and returns the length of its name and where
// its value lies, without the white space around it.
func splitField(line []byte) (id message.NameID, name uint32, value message.Span, f fault) {
	n := message.TokenLen(line)
	switch {
	case n == len(line):
		return 0, 0, value, refuse("a field line without a colon")
	case line[n] != ':' && n == 0 && (line[0] == ' ' || line[0] == '\t'):
		return 0, 0, value, refuse("a folded field line")
	case line[n] != ':':
		return 0, 0, value, refuse("a field name holds a byte that is not of a token")
	case n == 0:
		return 0, 0, value, refuse("an empty field name")
	}
	start, end := n+1, len(line)
	for start < end && (line[start] == ' ' || line[start] == '\t') {
		start++
	}
	for start < end && (line[end-1] == ' ' || line[end-1] == '\t') {
		end--
	}
	if !message.IsValue(line[start:end]) {
		return 0, 0, value, refuse("a field value holds a control character")
	}
	return message.IDOf(line[:n]), uint32(n), message.Span{Start: uint32(start), End: uint32(end)}, fault{}
}

// own keeps what the fields of the codec say: framing and the connection.
func (p *parser) own(id message.NameID, at message.Span, value []byte) fault {
	switch id {
	case message.NameHost:
		p.host, p.hosts = at, p.hosts+1 // means nothing in a response
	case message.NameContentLength:
		p.length, p.lengths = at, p.lengths+1
	case message.NameTransferEncoding:
		p.coding, p.codings = at, p.codings+1
	case message.NameUpgrade:
		if p.upgrade.End == 0 {
			p.upgrade = at
		}
	case message.NameTE:
		p.h.Framing.Trailers = p.h.Framing.Trailers || p.request && takesTrailers(value)
	case message.NameExpect:
		if p.expects++; p.request && !message.EqualFold(value, "100-continue") {
			return refuse("an expectation other than 100-continue")
		}
	case message.NameConnection:
		found, f := parseOptions(value)
		p.options |= found
		if found&optionNamed != 0 {
			p.h.AppendField(message.Field{Value: at, ID: id, Flags: message.Deleted})
		}
		return f
	}
	return fault{}
}
