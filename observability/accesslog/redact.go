package accesslog

import (
	"bytes"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// redacted stands for a secret value.
const redacted = "[redacted]"

// appendTarget appends a path with its query, the values of secret parameters
// replaced. Parameters are looked for after '?', '&' and ';', the last of which also
// starts parameters of a path segment. A secret value in a query ends at '&' only,
// since many servers take ';' and '?' for part of it.
func appendTarget(dst, target []byte, limit int, e template.Escape) []byte {
	target, cut := clip(target, limit)
	inQuery := false
	for {
		i := indexOf(target, &separators)
		if i < 0 {
			break
		}
		inQuery = inQuery || target[i] == '?'
		dst = appendEscaped(dst, target[:i+1], e)
		target = target[i+1:]
		n := indexOf(target, &nameEnds)
		if n < 0 || target[n] != '=' || !template.Secret(target[:n]) {
			continue
		}
		dst = appendEscaped(dst, target[:n+1], e)
		dst = append(dst, redacted...)
		ends := "/?;"
		if inQuery {
			ends = "&"
		}
		target = target[n+1:]
		if i = bytes.IndexAny(target, ends); i < 0 {
			i = len(target)
		}
		target = target[i:]
	}
	dst = appendEscaped(dst, target, e)
	if cut && e == template.EscapeJSON {
		dst = append(dst, ellipsis...)
	}
	return dst
}

// The bytes before a parameter's name, and those after it.
var (
	separators = buildSet("?&;")
	nameEnds   = buildSet("=?&;")
)

func buildSet(text string) (t [256]bool) {
	for _, b := range []byte(text) {
		t[b] = true
	}
	return t
}

// indexOf is bytes.IndexAny for a set that is made once.
func indexOf(text []byte, set *[256]bool) int {
	for i, b := range text {
		if set[b] {
			return i
		}
	}
	return -1
}

// appendAuthority appends the authority without the user information that RFC 9110
// section 4.2.4 forbids and some clients send all the same.
func appendAuthority(dst, authority []byte, limit int, e template.Escape) []byte {
	if i := bytes.LastIndexByte(authority, '@'); i >= 0 {
		dst = append(dst, redacted...)
		authority = authority[i:]
	}
	return appendClipped(dst, authority, limit, e)
}

// appendField appends a field's value. Whatever is in it that looks like an URL loses its
// user information and the values of its secret parameters.
func appendField(dst, value []byte, limit int, e template.Escape) []byte {
	if i := bytes.Index(value, []byte("://")); i >= 0 && i < limit {
		host := value[i+3:]
		if end := bytes.IndexAny(host, "/?# "); end >= 0 {
			host = host[:end]
		}
		if bytes.IndexByte(host, '@') >= 0 {
			dst = appendEscaped(dst, value[:i+3], e)
			dst = append(dst, redacted...)
			limit -= i + 3
			value = value[i+3+bytes.LastIndexByte(host, '@'):]
		}
	}
	return appendTarget(dst, value, limit, e)
}
