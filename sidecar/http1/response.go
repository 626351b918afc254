package http1

import (
	"net"
	"strconv"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// WriteHead implements message.Stream. An interim head is sent at once (and
// dropped for HTTP/1.0, which knows none). Framing.Close of h says what the
// endpoint does with its own connection and is ignored; see SetClose.
//
// The body is sent chunked where its length is not known, and until the close to
// an HTTP/1.0 client. Kind Tunnel is accepted for 101, if the request asked for
// an upgrade, and for a 2xx to CONNECT; then both directions are opaque.
func (s *Server) WriteHead(h *message.Head) error {
	switch {
	case h.Status < 100 || h.Status > 999:
		return s.misused("a response without a status")
	case s.wstate != writeNothing:
		return s.misused("a second final head")
	case s.is(flagWriteBroken):
		return s.writeFailed(net.ErrClosed)
	case h.Status < 200 && h.Status != 101:
		return s.writeInterim(h)
	}
	state, bad := s.responseState(h)
	if bad != "" {
		return s.misused(bad)
	}
	s.wstate = state
	s.set(flagClose, s.closes())
	s.reserve(startRoom + len(h.PhraseBytes()) + len(h.UpgradeBytes()) + fieldsSize(h))
	b := appendStatusLine(s.pend, h)
	b = appendFields(b, h, state == writeChunked)
	b = s.appendFraming(b, h)
	s.pend = append(b, "\r\n"...)
	if state == writeTunnel {
		s.rstate = readTunnel
	}
	return nil
}

// closes reports what, besides the client's wish, makes this exchange the last:
// an announced close, a body or tunnel that ends with the connection, a request
// that was garbled, or one whose body may or may not follow since no 100 was sent.
func (s *Server) closes() bool {
	return s.is(flagSetClose|flagBroken|flagFailed) || s.wstate == writeUntilClose || s.wstate == writeTunnel ||
		s.is(flagExpect) && s.rstate != readDone
}

// Recall takes back a final head of which nothing has been sent, so that another may
// be written, and reports whether there was one. The answer that follows is the
// connection's last where that was so before.
func (s *Server) Recall() bool {
	if s.wstate == writeTunnel || len(s.pend) == 0 { // what is sent at all is sent with the head
		return false
	}
	s.releasePend()
	s.wstate, s.owed = writeNothing, 0
	return true
}

func (s *Server) writeInterim(h *message.Head) error {
	if s.is(flagOld) {
		return nil
	}
	if h.Status == 100 {
		s.flags &^= flagExpect
	}
	s.reserve(startRoom + len(h.PhraseBytes()) + fieldsSize(h))
	b := appendStatusLine(s.pend, h)
	b = appendFields(b, h, false)
	s.pend = append(b, "\r\n"...)
	return s.send(nil)
}

// responseState decides how the body of a final response is sent.
func (s *Server) responseState(h *message.Head) (state writeState, bad violation) {
	f := &h.Framing
	switch {
	case h.Status == 101:
		if !s.is(flagUpgrade) || len(h.UpgradeBytes()) == 0 || f.Kind != message.Tunnel {
			return 0, "101 without having been asked for"
		}
		return writeTunnel, ""
	case f.Kind == message.Tunnel:
		if !s.is(flagConnect) || h.Status > 299 {
			return 0, "a tunnel without having been asked for"
		}
		return writeTunnel, ""
	case s.is(flagConnect) && h.Status < 300:
		return 0, "CONNECT answered without a tunnel"
	case s.is(flagHead) || h.Status == 204 || h.Status == 304 || f.Kind == message.NoBody:
		return writeHeadOnly, ""
	case f.Kind == message.Length:
		if f.Length < 0 {
			return 0, "a negative length"
		}
		if s.owed = f.Length; f.Length == 0 {
			return writeHeadOnly, ""
		}
		return writeLength, ""
	case s.is(flagOld):
		return writeUntilClose, ""
	}
	return writeChunked, ""
}

func appendStatusLine(b []byte, h *message.Head) []byte {
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(h.Status), 10)
	b = append(b, ' ')
	if p := h.PhraseBytes(); len(p) > 0 {
		b = append(b, p...)
	} else {
		b = append(b, phrase(h.Status)...)
	}
	return append(b, "\r\n"...)
}

// appendFraming appends the framing and connection fields of a final response.
func (s *Server) appendFraming(b []byte, h *message.Head) []byte {
	f := &h.Framing
	switch s.wstate {
	case writeTunnel:
		return appendConnection(b, h, h.Status == 101, false)
	case writeLength:
		b = appendLength(b, f.Length)
	case writeChunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	case writeHeadOnly:
		b = s.appendAnnounced(b, h)
	}
	if !s.is(flagClose) && s.is(flagOld) {
		return append(b, "Connection: keep-alive\r\n"...)
	}
	return appendConnection(b, h, h.Status == 426 && f.Upgrade.End != 0, s.is(flagClose))
}

// appendAnnounced appends the length of a message that ends with its head: what a
// GET would have brought, for HEAD and 304; nothing for 204; otherwise zero.
func (s *Server) appendAnnounced(b []byte, h *message.Head) []byte {
	f := &h.Framing
	known := f.Kind == message.Length || f.Kind == message.NoBody
	switch {
	case h.Status == 204:
		return b
	case h.Status == 304:
		if !known || f.Length <= 0 {
			return b
		}
	case s.is(flagHead):
		if !known || f.Length < 0 {
			return b
		}
	default:
		return append(b, "Content-Length: 0\r\n"...)
	}
	return appendLength(b, f.Length)
}
