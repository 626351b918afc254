package route

import (
	"bytes"
	"strings"
)

// maxHost is the longest host name looked at, in bytes: a name in DNS has at most
// 253, and no rule with a longer one can match.
const maxHost = 256

type hostKind uint8

const (
	hostExact hostKind = iota
	hostWild
	hostAny
)

// parseHost says what kind of pattern a rule's host is, and the name to compare.
func parseHost(pattern string) (hostKind, string) {
	if pattern == "" || pattern == "*" {
		return hostAny, ""
	}
	rest, wild := strings.CutPrefix(pattern, "*.")
	name := string(normalise(nil, []byte(rest)))
	if wild {
		return hostWild, name
	}
	return hostExact, name
}

// normalise appends host to dst (empty) in the form that is compared: lower case,
// without port and final dot. A name over maxHost comes out empty.
func normalise(dst, host []byte) []byte {
	host = withoutPort(host)
	if n := len(host); n > 1 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHost {
		return dst
	}
	for _, c := range host {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

// withoutPort cuts ":port" off an authority; the brackets of an IPv6 literal stay.
func withoutPort(host []byte) []byte {
	if len(host) > 0 && host[0] == '[' {
		if i := bytes.IndexByte(host, ']'); i >= 0 {
			return host[:i+1]
		}
		return host
	}
	if i := bytes.IndexByte(host, ':'); i >= 0 {
		return host[:i]
	}
	return host
}

func withoutQuery(path []byte) []byte {
	if i := bytes.IndexByte(path, '?'); i >= 0 {
		return path[:i]
	}
	return path
}
