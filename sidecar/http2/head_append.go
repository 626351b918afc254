package http2

import (
	"strconv"

	"github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Heads to header blocks. Everything is generated from the parsed form: names in
// lower case, framing from the head's Framing, nothing of a connection. What a Head
// holds was checked by the codec that read it, or by its edits, so that no byte is
// looked at again. BenchmarkAppendRequest shows the cost.

// Entries of the static table.
const (
	staticGet         = 2
	staticPost        = 3
	staticPath        = 4
	staticHTTP        = 6
	staticHTTPS       = 7
	staticStatus      = 8
	staticAcceptCoded = 16
)

// target is what a request says of where it goes, beside its head.
type target struct {
	https     bool
	authority string // where the request names none, as HTTP/1.0 may
}

// appendRequest appends the block of a request. ext: the peer has enabled extended
// CONNECT. A head that HTTP/2 cannot carry is refused before a byte is appended.
func appendRequest(dst []byte, e *hpack.Encoder, h *message.Head, to target, ext bool) ([]byte, violation) {
	method := h.MethodBytes()
	connect := string(method) == "CONNECT"
	upgrade := h.UpgradeBytes()
	switch {
	case h.Status != 0 || len(method) == 0:
		return dst, "a request without a method"
	case connect && len(h.AuthorityBytes()) == 0:
		return dst, "CONNECT without an authority"
	case h.Framing.Kind == message.UntilClose || h.Framing.Kind == message.Tunnel:
		return dst, "a request body that has no end"
	case len(upgrade) > 0 && !message.EqualFold(upgrade, websocket):
		return dst, "an upgrade that HTTP/2 cannot carry"
	case len(upgrade) > 0 && !ext:
		return dst, "the endpoint does not accept WebSockets over HTTP/2"
	}
	dst = e.Begin(dst)
	if len(upgrade) > 0 {
		method = []byte("CONNECT")
	}
	dst = appendMethod(dst, e, method)
	if len(upgrade) > 0 {
		dst = appendKnown(dst, e, tagProtocol, []byte(websocket))
	}
	if !connect {
		dst = appendTarget(dst, e, h, to.https)
	}
	if authority := h.AuthorityBytes(); len(authority) > 0 {
		dst = appendKnown(dst, e, tagAuthority, authority)
	} else if to.authority != "" {
		dst = appendKnown(dst, e, tagAuthority, []byte(to.authority))
	}
	dst = appendFields(dst, e, h)
	return appendRequestFraming(dst, e, h), ""
}

func appendMethod(dst []byte, e *hpack.Encoder, method []byte) []byte {
	switch string(method) {
	case "GET":
		return e.Indexed(dst, staticGet)
	case "POST":
		return e.Indexed(dst, staticPost)
	}
	return appendKnown(dst, e, tagMethod, method)
}

func appendTarget(dst []byte, e *hpack.Encoder, h *message.Head, https bool) []byte {
	if https {
		dst = e.Indexed(dst, staticHTTPS)
	} else {
		dst = e.Indexed(dst, staticHTTP)
	}
	if path := h.PathBytes(); len(path) > 1 {
		return appendKnown(dst, e, tagPath, path)
	} else if len(path) == 1 && path[0] == '*' {
		return appendKnown(dst, e, tagPath, path)
	}
	return e.Indexed(dst, staticPath)
}

func appendRequestFraming(dst []byte, e *hpack.Encoder, h *message.Head) []byte {
	f := &h.Framing
	if f.Kind == message.Length {
		dst = appendLength(dst, e, f.Length)
	}
	if f.Continue && f.HasBody() {
		dst = appendKnown(dst, e, tagField+uint8(message.NameExpect), []byte("100-continue"))
	}
	if f.Trailers {
		dst = appendKnown(dst, e, tagField+uint8(message.NameTE), []byte("trailers"))
	}
	return dst
}

func appendLength(dst []byte, e *hpack.Encoder, n int64) []byte {
	var digits [20]byte
	return appendKnown(dst, e, tagField+uint8(message.NameContentLength), strconv.AppendInt(digits[:0], n, 10))
}

// appendResponse appends the block of a response, interim ones included, to the
// request that a describes. The 101 to an extended CONNECT is the 200 that it is in
// HTTP/2; to anything else HTTP/2 has no 101.
func appendResponse(dst []byte, e *hpack.Encoder, h *message.Head, a asked) ([]byte, violation) {
	status := h.Status
	switch {
	case status == 101 && a.tunnel != nil && h.Framing.Kind == message.Tunnel:
		status = 200
	case status == 101:
		return dst, "101 without having been asked for"
	case status < 100 || status > 999:
		return dst, "a response without a status"
	case h.Framing.Kind == message.Tunnel && !(a.connect && status < 300):
		return dst, "a tunnel without having been asked for"
	case h.Framing.Kind == message.Length && h.Framing.Length < 0:
		return dst, "a negative length"
	}
	dst = appendStatus(e.Begin(dst), e, status)
	dst = appendFields(dst, e, h)
	if n := announced(h, a); n >= 0 {
		dst = appendLength(dst, e, n)
	}
	return dst, ""
}

// announced returns the Content-Length that is sent with a response; -1: none.
func announced(h *message.Head, a asked) int64 {
	f := &h.Framing
	switch {
	case h.Status < 200 || h.Status == 204 || f.Kind == message.Tunnel:
		return -1
	case h.Status == 304 && f.Length <= 0:
		return -1
	case h.Status == 304 || a.head:
		if f.Kind == message.Length || f.Kind == message.NoBody {
			return f.Length
		}
	case f.Kind == message.Length:
		return f.Length
	}
	return -1
}

func appendStatus(dst []byte, e *hpack.Encoder, status int) []byte {
	switch status {
	case 200:
		return e.Indexed(dst, staticStatus)
	case 204:
		return e.Indexed(dst, staticStatus+1)
	case 206:
		return e.Indexed(dst, staticStatus+2)
	case 304:
		return e.Indexed(dst, staticStatus+3)
	case 400:
		return e.Indexed(dst, staticStatus+4)
	case 404:
		return e.Indexed(dst, staticStatus+5)
	case 500:
		return e.Indexed(dst, staticStatus+6)
	}
	digits := [3]byte{byte('0' + status/100), byte('0' + status/10%10), byte('0' + status%10)}
	return appendKnown(dst, e, tagStatus, digits[:])
}

// appendTrailers appends the block of a trailer section; without fields that may
// stand in one, nothing: the stream then ends with a DATA frame.
func appendTrailers(dst []byte, e *hpack.Encoder, h *message.Head) []byte {
	begun := false
	for _, f := range h.Fields() {
		if f.Deleted() || !f.ID.Trailing() {
			continue
		}
		if !begun {
			begun, dst = true, e.Begin(dst)
		}
		dst = appendField(dst, e, h, f)
	}
	return dst
}

// appendFields appends what is sent on of h's fields.
func appendFields(dst []byte, e *hpack.Encoder, h *message.Head) []byte {
	upgrade := h.Framing.Upgrade.End != 0
	for _, f := range h.Fields() {
		switch {
		case f.Deleted():
			continue
		case f.ID == message.NameTrailer && h.Framing.Kind != message.Chunked:
			continue
		case upgrade && (f.ID == message.NameSecWebSocketKey || f.ID == message.NameSecWebSocketAccept):
			continue // RFC 8441 section 5
		}
		dst = appendField(dst, e, h, f)
	}
	return dst
}

func appendField(dst []byte, e *hpack.Encoder, h *message.Head, f message.Field) []byte {
	value := h.Value(f)
	if f.ID == message.NameOther {
		var room [64]byte
		how := hpack.Repeating
		if f.Flags&message.Sensitive != 0 {
			how = hpack.Never
		}
		return e.Append(dst, &hpack.Name{Text: lowered(room[:0], h.Name(f))}, value, how)
	}
	name := &sentNames[tagField+uint8(f.ID)]
	how := name.how
	switch {
	case f.Flags&message.Sensitive != 0, f.ID == message.NameCookie && len(value) < guessable:
		how = hpack.Never
	case f.ID == message.NameAcceptEncoding && string(value) == "gzip, deflate":
		return e.Indexed(dst, staticAcceptCoded)
	}
	return e.Append(dst, &name.Name, value, how)
}

// appendKnown appends a field that the codec makes.
func appendKnown(dst []byte, e *hpack.Encoder, tag uint8, value []byte) []byte {
	name := &sentNames[tag]
	return e.Append(dst, &name.Name, value, name.how)
}

// lowered returns name in lower case: name itself if it is, else appended to room.
func lowered(room, name []byte) []byte {
	for i, c := range name {
		if c >= 'A' && c <= 'Z' {
			room = append(room, name...)
			for j := i; j < len(room); j++ {
				if c := room[j]; c >= 'A' && c <= 'Z' {
					room[j] = c | 0x20
				}
			}
			return room
		}
	}
	return name
}
