package http1

import (
	"strconv"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Serialising a Head. Everything is generated from the parsed form; framing and
// connection fields come from the state of this connection alone.

// startRoom is more than a start line without target, and all the fields that
// the codec adds, can take.
const startRoom = 256

// fieldsSize returns what the fields of h take at most.
func fieldsSize(h *message.Head) int {
	n := 0
	for _, f := range h.Fields() {
		n += int(f.Name.End-f.Name.Start) + int(f.Value.End-f.Value.Start) + len(": \r\n")
	}
	return n
}

func appendField(b []byte, h *message.Head, f message.Field) []byte {
	if f.Deleted() {
		return b
	}
	b = append(b, h.Name(f)...)
	b = append(b, ": "...)
	b = append(b, h.Value(f)...)
	return append(b, "\r\n"...)
}

// appendFields appends what is sent on of h's fields.
func appendFields(b []byte, h *message.Head, trailers bool) []byte {
	for _, f := range h.Fields() {
		if f.ID == message.NameTrailer && !trailers {
			continue
		}
		b = appendField(b, h, f)
	}
	return b
}

func appendLength(b []byte, n int64) []byte {
	b = append(b, "Content-Length: "...)
	b = strconv.AppendInt(b, n, 10)
	return append(b, "\r\n"...)
}

// appendConnection appends the Connection field, and Upgrade where a protocol is
// given.
func appendConnection(b []byte, h *message.Head, upgrade, closing bool) []byte {
	switch {
	case upgrade && closing:
		b = append(b, "Connection: close, Upgrade\r\n"...)
	case upgrade:
		b = append(b, "Connection: Upgrade\r\n"...)
	case closing:
		return append(b, "Connection: close\r\n"...)
	default:
		return b
	}
	b = append(b, "Upgrade: "...)
	b = append(b, h.UpgradeBytes()...)
	return append(b, "\r\n"...)
}

// phrase gives the reason phrase for a status that came without one.
func phrase(status int) string {
	if status < 0 || status >= len(phrases) {
		return ""
	}
	return phrases[status]
}

// phrases of the statuses of RFC 9110 section 15 and a few more.
var phrases = [...]string{
	100: "Continue", 101: "Switching Protocols", 103: "Early Hints",
	200: "OK", 201: "Created", 202: "Accepted", 203: "Non-Authoritative Information",
	204: "No Content", 205: "Reset Content", 206: "Partial Content",
	300: "Multiple Choices", 301: "Moved Permanently", 302: "Found", 303: "See Other",
	304: "Not Modified", 307: "Temporary Redirect", 308: "Permanent Redirect",
	400: "Bad Request", 401: "Unauthorized", 402: "Payment Required", 403: "Forbidden",
	404: "Not Found", 405: "Method Not Allowed", 406: "Not Acceptable",
	407: "Proxy Authentication Required", 408: "Request Timeout", 409: "Conflict", 410: "Gone",
	411: "Length Required", 412: "Precondition Failed", 413: "Content Too Large",
	414: "URI Too Long", 415: "Unsupported Media Type", 416: "Range Not Satisfiable",
	417: "Expectation Failed", 421: "Misdirected Request", 422: "Unprocessable Content",
	425: "Too Early", 426: "Upgrade Required", 428: "Precondition Required",
	429: "Too Many Requests", 431: "Request Header Fields Too Large",
	500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway",
	503: "Service Unavailable", 504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}
