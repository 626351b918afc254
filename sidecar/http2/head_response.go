package http2

import (
	"crypto/sha1"
	"encoding/base64"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// asked is what the framing of a response depends on.
type asked struct {
	head    bool // HEAD
	connect bool // CONNECT
	// tunnel: an extended CONNECT, with the Sec-WebSocket-Accept that its key would
	// have had for an answer.
	tunnel *[28]byte
}

// askedBy says what a response to the request h depends on. It allocates for a
// WebSocket only.
func askedBy(h *message.Head) (a asked) {
	switch string(h.MethodBytes()) {
	case "HEAD":
		a.head = true
	case "CONNECT":
		a.connect = true
	case "GET":
		if message.EqualFold(h.UpgradeBytes(), websocket) {
			key, _ := h.Get(message.NameSecWebSocketKey)
			a.tunnel = acceptOf(key)
		}
	}
	return a
}

// acceptOf answers a Sec-WebSocket-Key (RFC 6455 section 4.2.2).
func acceptOf(key []byte) *[28]byte {
	hash := sha1.New()
	hash.Write(key)
	hash.Write([]byte("258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	accept := new([28]byte)
	base64.StdEncoding.Encode(accept[:], hash.Sum(nil))
	return accept
}

// response reads the head of a response into h, which is reset first; end: the block
// ends the stream. A 2xx to an extended CONNECT becomes the 101 that it is in
// HTTP/1.1. A response to HEAD, a 204 and a 304 are NoBody also where the stream does
// not end with them: its end may follow in an empty frame.
func (d *headDecoder) response(block []byte, end bool, a asked, h *message.Head) fault {
	h.Reset()
	s := section{h: h, kind: responseSection}
	if f := d.read(block, &s); f.bad() {
		return f
	}
	h.Framing.Minor = 1
	if !s.has(tagStatus) {
		return malformed("no :status")
	}
	length, f := s.lengthOf()
	if f.bad() {
		return f
	}
	if f = s.frameResponse(length, end, a); f.bad() {
		return f
	}
	if h.Framing.Kind != message.Chunked {
		h.Del(message.NameTrailer)
	}
	return fault{}
}

func (s *section) frameResponse(length int64, end bool, a asked) fault {
	h := s.h
	fr, status := &h.Framing, h.Status
	switch {
	case status == 101:
		return malformed("101 does not exist in HTTP/2")
	case status < 200 && end:
		return malformed("an interim response ends the stream")
	case status < 200 || status == 204:
		if length > 0 {
			return malformed("a body announced for a status that has none")
		}
		fr.Kind, fr.Length = message.NoBody, -1
	case a.tunnel != nil && status < 300:
		h.Status = 101
		h.SetUpgrade(websocket)
		h.Del(message.NameSecWebSocketAccept)
		h.AppendCopy(message.NameSecWebSocketAccept, []byte("sec-websocket-accept"), a.tunnel[:])
		fr.Kind = message.Tunnel
	case a.connect && status < 300:
		fr.Kind = message.Tunnel
	case a.head || status == 304:
		fr.Kind, fr.Length = message.NoBody, length
	default:
		return s.frame(length, end)
	}
	return fault{}
}

// trailers reads a trailer section into h, which is reset first. What may not stand
// in one is dropped.
func (d *headDecoder) trailers(block []byte, h *message.Head) fault {
	h.Reset()
	s := section{h: h, kind: trailerSection}
	return d.read(block, &s)
}
