package trace

import (
	"bytes"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// redacted stands for a secret value.
const redacted = "[redacted]"

// appendRedacted appends a path with its query, the values of secret parameters replaced
// as the access log does it.
func appendRedacted(dst, target []byte) []byte {
	inQuery := false
	for {
		i := bytes.IndexAny(target, "?&;")
		if i < 0 {
			return append(dst, target...)
		}
		inQuery = inQuery || target[i] == '?'
		dst = append(dst, target[:i+1]...)
		target = target[i+1:]
		n := bytes.IndexAny(target, "=?&;")
		if n < 0 || target[n] != '=' || !template.Secret(target[:n]) {
			continue
		}
		dst = append(append(dst, target[:n+1]...), redacted...)
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
}
