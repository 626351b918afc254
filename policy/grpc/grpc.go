// Package grpc holds what a proxy must know of gRPC over HTTP/2: which requests are
// calls, how their deadline, status and message are written in header fields, and what
// an HTTP status means to a client that waits for a gRPC status. It is pure, and must
// not know of heads, streams or connections.
//
// The rules are those of gRPC's PROTOCOL-HTTP2 document; where it leaves something
// open, grpc-go decides. Nothing here allocates but Append, into a slice that is too
// small.
package grpc

import (
	"math"
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// ContentType is what answers of the proxy's own carry.
const ContentType = "application/grpc"

// Is reports whether a content type makes a POST a call: application/grpc, alone or
// with the name of a message format behind "+" or parameters behind ";", in any case.
// The types of gRPC-Web (application/grpc-web) do not: that is another protocol.
func Is(contentType []byte) bool {
	if len(contentType) < len(ContentType) {
		return false
	}
	for i := range len(ContentType) {
		c := contentType[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		if c != ContentType[i] {
			return false
		}
	}
	if len(contentType) == len(ContentType) {
		return true
	}
	switch contentType[len(ContentType)] {
	case '+', ';', ' ', '\t':
		return true
	}
	return false
}

// most is the largest number that grpc-timeout may hold: 8 digits.
const most = 99_999_999

// unit is one of those that grpc-timeout is counted in.
type unit struct {
	letter byte
	is     time.Duration
}

// units, the finest first.
var units = [...]unit{
	{'n', time.Nanosecond}, {'u', time.Microsecond}, {'m', time.Millisecond},
	{'S', time.Second}, {'M', time.Minute}, {'H', time.Hour},
}

// ParseTimeout reads the value of grpc-timeout: 1 to 8 digits and a unit. What does not
// fit into a Duration (292 years) becomes the longest there is.
func ParseTimeout(value []byte) (time.Duration, bool) {
	if len(value) < 2 || len(value) > 9 {
		return 0, false
	}
	digits, letter := value[:len(value)-1], value[len(value)-1]
	n := int64(0)
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	for _, u := range units {
		if u.letter == letter {
			if n > math.MaxInt64/int64(u.is) {
				return math.MaxInt64, true
			}
			return time.Duration(n) * u.is, true
		}
	}
	return 0, false
}

// AppendTimeout appends d as ParseTimeout reads it, in the finest unit that has room
// for it, rounded down: whoever is told of a deadline is never told of a later one.
// Nothing left is 0n.
func AppendTimeout(dst []byte, d time.Duration) []byte {
	d = max(d, 0)
	for _, u := range units {
		if n := int64(d / u.is); n <= most {
			return append(strconv.AppendInt(dst, n, 10), u.letter)
		}
	}
	return append(strconv.AppendInt(dst, most, 10), 'H')
}

// ParseStatus reads the value of grpc-status. What is no number of gRPC's is UNKNOWN,
// as its clients take it.
func ParseStatus(value []byte) policy.GRPCStatus {
	if len(value) == 0 || len(value) > 3 {
		return policy.GRPCUnknown
	}
	n := 0
	for _, c := range value {
		if c < '0' || c > '9' {
			return policy.GRPCUnknown
		}
		n = n*10 + int(c-'0')
	}
	return policy.GRPCStatusOf(n)
}

// OfHTTP is what a client makes of an answer without grpc-status, by its HTTP status
// (gRPC's http-grpc-status-mapping document).
func OfHTTP(status int) policy.GRPCStatus {
	switch status {
	case 400:
		return policy.GRPCInternal
	case 401:
		return policy.GRPCUnauthenticated
	case 403:
		return policy.GRPCPermissionDenied
	case 404:
		return policy.GRPCUnimplemented
	case 429, 502, 503, 504:
		return policy.GRPCUnavailable
	}
	return policy.GRPCUnknown
}

// AppendMessage appends text as grpc-message carries it: what is not printable ASCII,
// and the percent sign, is percent-encoded.
func AppendMessage(dst []byte, text string) []byte {
	const hex = "0123456789ABCDEF"
	for i := range len(text) {
		if c := text[i]; c < ' ' || c > '~' || c == '%' {
			dst = append(dst, '%', hex[c>>4], hex[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return dst
}
