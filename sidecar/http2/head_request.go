package http2

import (
	"encoding/base64"
	"encoding/binary"
	"math/rand/v2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// request reads the head of a request into h, which is reset first; end: the block
// ends the stream. The head is as HTTP/1 makes it: Host is the authority, what
// belongs to a connection is gone, Cookie is one field. Where it is refused, h holds
// what had been read, for the record.
func (d *headDecoder) request(block []byte, end bool, h *message.Head) fault {
	h.Reset()
	s := section{h: h, kind: requestSection}
	if f := d.read(block, &s); f.bad() {
		return f
	}
	return s.finishRequest(end)
}

func (s *section) finishRequest(end bool) fault {
	h := s.h
	h.Framing.Minor = 1
	if !s.has(tagMethod) {
		return malformed("no :method")
	}
	length, f := s.lengthOf()
	if f.bad() {
		return f
	}
	if f = s.target(); f.bad() {
		return f
	}
	if f = s.checkHost(); f.bad() {
		return f
	}
	s.joinCookie()
	switch {
	case s.has(tagProtocol):
		return s.upgrade(length)
	case string(h.MethodBytes()) == "CONNECT":
		return s.connect(length)
	}
	if f = s.frame(length, end); f.bad() {
		return f
	}
	if h.Framing.Kind != message.Chunked {
		h.Del(message.NameTrailer)
	}
	h.Framing.Continue = s.expects > 0 && h.Framing.HasBody()
	return fault{}
}

// target checks which of the pseudo-headers are there (RFC 9113 section 8.3.1, and
// 8.5 for CONNECT), and the form of :path. The absolute form does not exist here.
func (s *section) target() fault {
	h := s.h
	method := h.MethodBytes()
	if string(method) == "CONNECT" && !s.has(tagProtocol) {
		if s.has(tagScheme) || s.has(tagPath) || !s.has(tagAuthority) {
			return malformed("CONNECT with :scheme or :path, or without :authority")
		}
		h.Target = h.Authority
		return fault{}
	}
	if s.has(tagProtocol) && string(method) != "CONNECT" {
		return malformed(":protocol without CONNECT")
	}
	if !s.has(tagScheme) || !s.has(tagPath) {
		return malformed("no :scheme or no :path")
	}
	if scheme := h.Bytes(s.scheme); !message.EqualFold(scheme, "http") && !message.EqualFold(scheme, "https") {
		return answered(policy.BadRequest, "a scheme other than http and https")
	}
	h.Target = h.Path
	path := h.PathBytes()
	if path[0] != '/' && !(string(path) == "*" && string(method) == "OPTIONS") {
		return malformed(":path is neither a path nor the asterisk of OPTIONS")
	}
	return fault{}
}

// checkHost: Host stands for :authority where that is missing, and says the same
// where it is not.
func (s *section) checkHost() fault {
	h := s.h
	switch {
	case s.hosts > 1:
		return answered(policy.BadHost, "more than one Host")
	case s.hosts == 0 && !s.has(tagAuthority):
		return answered(policy.BadHost, "neither :authority nor Host")
	case s.hosts == 0:
		return fault{}
	case s.has(tagAuthority):
		if !message.EqualFold(h.Bytes(s.host), h.AuthorityBytes()) {
			return answered(policy.BadHost, "Host differs from :authority")
		}
		return fault{}
	}
	if host, _ := message.SplitAuthority(h.Bytes(s.host)); host == nil {
		return answered(policy.BadHost, "malformed Host")
	}
	h.Authority = s.host
	return fault{}
}

// connect finishes a plain CONNECT.
func (s *section) connect(length int64) fault {
	switch _, port := message.SplitAuthority(s.h.AuthorityBytes()); {
	case port == nil:
		return malformed("the target of CONNECT must be host and port")
	case length > 0:
		return malformed("CONNECT with a body")
	case !s.rules.connect:
		return answered(policy.MethodRefused, "CONNECT is not served here")
	}
	s.h.Framing.Kind = message.NoBody
	return fault{}
}

// upgrade makes an extended CONNECT (RFC 8441) the request that opens a WebSocket in
// HTTP/1.1 (RFC 6455 section 4.1): GET, an upgrade, and a key, which HTTP/2 has not
// and an HTTP/1.1 endpoint insists on.
func (s *section) upgrade(length int64) fault {
	h := s.h
	switch {
	case !message.EqualFold(h.Bytes(s.protocol), websocket):
		return answered(policy.MethodRefused, "an extended CONNECT to a protocol other than websocket")
	case length > 0:
		return malformed("CONNECT with a body")
	}
	h.Method = h.Keep([]byte("GET"))
	h.Framing.Kind, h.Framing.Upgrade = message.NoBody, s.protocol
	h.Del(message.NameSecWebSocketKey)
	h.Del(message.NameTrailer)
	var random [16]byte
	var key [24]byte
	binary.LittleEndian.PutUint64(random[:], rand.Uint64())
	binary.LittleEndian.PutUint64(random[8:], rand.Uint64())
	base64.StdEncoding.Encode(key[:], random[:])
	h.AppendCopy(message.NameSecWebSocketKey, []byte("sec-websocket-key"), key[:])
	return fault{}
}

const websocket = "websocket"
