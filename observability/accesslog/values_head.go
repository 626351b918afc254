package accesslog

import (
	"bytes"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

func makeAuthority(c *compiler, p *template.Part) appender {
	escape, limit := c.escape, limitOf(p, authorityLimit)
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		return appendAuthority(dst, r.Authority, limit, escape)
	}
}

func makePath(c *compiler, p *template.Part) appender {
	escape, limit := c.escape, limitOf(p, targetLimit)
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		return appendTarget(dst, r.Path, limit, escape)
	}
}

func makeBarePath(c *compiler, p *template.Part) appender {
	escape, limit := c.escape, limitOf(p, targetLimit)
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		return appendTarget(dst, barePath(r.Path), limit, escape)
	}
}

// barePath is a path without its query.
func barePath(path []byte) []byte {
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		return path[:i]
	}
	return path
}

func makeTarget(c *compiler, p *template.Part) appender {
	escape, limit := c.escape, limitOf(p, targetLimit)
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if len(r.Authority)+len(r.Path) == 0 {
			return append(dst, r.Protocol...)
		}
		dst = appendAuthority(dst, r.Authority, authorityLimit, escape)
		return appendTarget(dst, r.Path, limit, escape)
	}
}

// makeRequest makes the request line as it was, or would have been in HTTP/1.
func makeRequest(c *compiler, p *template.Part) appender {
	escape, limit := c.escape, limitOf(p, targetLimit)
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if len(r.Method) == 0 || !headRead(r) {
			return dst
		}
		dst = append(appendClipped(dst, r.Method, valueLimit, escape), ' ')
		if len(r.Path) > 0 {
			dst = appendTarget(dst, r.Path, limit, escape)
		} else {
			dst = appendAuthority(dst, r.Authority, authorityLimit, escape)
		}
		if v := versionOf(r); v != "" {
			dst = append(append(dst, ' '), v...)
		}
		return dst
	}
}

// lookup finds a field of one of the heads.
type lookup func(observability.Fields, string) ([]byte, bool)

// makeHeader makes the appenders of a head's fields.
func makeHeader(find lookup) maker {
	return func(c *compiler, p *template.Part) appender {
		name, limit, escape := p.Args[0], limitOf(p, valueLimit), c.escape
		if len(p.Args) > 1 {
			limit = number(p.Args[1])
		}
		_, redact := p.Modifier("redact")
		_, reveal := p.Modifier("reveal")
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			if r.Fields == nil {
				return dst
			}
			value, ok := find(r.Fields, name)
			switch {
			case !ok:
				return dst
			case redact:
				return append(dst, redacted...)
			case reveal:
				return appendClipped(dst, value, limit, escape)
			}
			return appendField(dst, value, limit, escape)
		}
	}
}

// makeCaptures makes the appenders of all captured fields of a head.
func makeCaptures(find lookup, of func(*Captures) []Capture) maker {
	return func(c *compiler, p *template.Part) appender {
		captures := of(&c.captures)
		if len(captures) == 0 {
			return func(dst []byte, _ *producer, _ *observability.Record) []byte { return dst }
		}
		if argument(p, "") == template.FormJSON {
			return capturesJSON(captures, find)
		}
		return capturesHAProxy(captures, find, p.Name == "resp.captures")
	}
}

// capturesHAProxy appends {a|b}, empty where a field is not there, and nothing at all where no
// request came. An answer of the proxy's own has no captures, as in HAProxy.
func capturesHAProxy(captures []Capture, find lookup, response bool) appender {
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if r.Fields == nil || !headRead(r) {
			return dst
		}
		dst = append(dst, '{')
		for i := range captures {
			if i > 0 {
				dst = append(dst, '|')
			}
			if response && !answered(r) {
				continue
			}
			value, _ := find(r.Fields, captures[i].Name)
			dst = appendField(dst, value, captures[i].Length, escapeCapture)
		}
		return append(dst, '}')
	}
}

// capturesJSON appends an object of those fields that are there; where none is, nothing.
func capturesJSON(captures []Capture, find lookup) appender {
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if r.Fields == nil {
			return dst
		}
		separator := byte('{')
		for i := range captures {
			value, ok := find(r.Fields, captures[i].Name)
			if !ok {
				continue
			}
			dst = append(append(append(dst, separator, '"'), captures[i].Name...), `":"`...)
			dst = append(appendField(dst, value, captures[i].Length, template.EscapeJSON), '"')
			separator = ','
		}
		if separator == ',' {
			dst = append(dst, '}')
		}
		return dst
	}
}
