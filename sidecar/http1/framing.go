package http1

import (
	"math"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Message framing (RFC 9112 section 6), decided once a section is complete and
// loaded. Refused beyond the RFC's musts: several Content-Length fields even when
// equal, and any transfer coding but a lone "chunked".

// finishRequest decides host, framing and persistence of a request.
func (p *parser) finishRequest() fault {
	h := p.h
	p.originForm()
	if f := p.checkHost(); f.bad() {
		return f
	}
	h.Framing.Minor = p.minor
	h.Framing.Close = p.options&optionClose != 0 || p.minor == 0 && p.options&optionKeepAlive == 0
	if f := p.bodyOf(&h.Framing, message.NoBody); f.bad() {
		return f
	}
	if p.connects && h.Framing.Kind != message.NoBody {
		return refuse("CONNECT with a body")
	}
	if f := p.dropNominated(); f.bad() {
		return f
	}
	if h.Framing.Kind != message.Chunked {
		h.Del(message.NameTrailer)
	}
	h.Framing.Continue = p.expects > 0 && p.minor == 1 && h.Framing.HasBody()
	return p.takeUpgrade()
}

// takeUpgrade honours Upgrade only where Connection names it, in HTTP/1.1, and on
// a request without a body: ignoring it is always allowed (RFC 9110 section 7.8).
func (p *parser) takeUpgrade() (f fault) {
	if p.upgrade.End == 0 {
		return fault{}
	}
	var offered message.Span
	if offered, f = offeredUpgrade(p.h, p.upgrade); f.bad() {
		return f
	}
	if p.options&optionUpgrade != 0 && p.minor == 1 && !p.h.Framing.HasBody() && !p.connects {
		p.h.Framing.Upgrade = offered
	}
	return fault{}
}

func (p *parser) checkHost() fault {
	h := p.h
	switch {
	case p.hosts > 1:
		return refuseHost("more than one Host")
	case p.hosts == 0 && p.minor == 1:
		return refuseHost("no Host")
	case p.hosts == 0:
		return fault{}
	}
	host := h.Bytes(p.host)
	if name, _ := message.SplitAuthority(host); name == nil {
		return refuseHost("malformed Host")
	}
	if p.absolute && !message.EqualFold(host, h.AuthorityBytes()) {
		return refuseHost("Host differs from the target's authority")
	}
	h.Authority = p.host
	return fault{}
}

// bodyOf reads Content-Length and Transfer-Encoding; without either the body is
// of the kind given.
func (p *parser) bodyOf(to *message.Framing, without message.BodyKind) fault {
	switch {
	case p.codings > 0 && p.lengths > 0:
		return refuse("Content-Length together with Transfer-Encoding")
	case p.codings > 1 || p.lengths > 1:
		return refuse("Content-Length or Transfer-Encoding more than once")
	case p.codings == 1 && p.minor == 0:
		return refuse("Transfer-Encoding in HTTP/1.0")
	case p.codings == 1:
		if !message.EqualFold(p.h.Bytes(p.coding), "chunked") {
			return refuse("a transfer coding other than chunked")
		}
		to.Kind = message.Chunked
	case p.lengths == 1:
		n, ok := parseLength(p.h.Bytes(p.length))
		if !ok {
			return refuse("malformed Content-Length")
		}
		to.Kind, to.Length = message.Length, n
	default:
		to.Kind = without
	}
	return fault{}
}

func parseLength(b []byte) (n int64, ok bool) {
	for _, c := range b {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (math.MaxInt64-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(b) > 0
}

// finishResponse decides framing and persistence of a response to a request
// that the connection's flags describe.
func (p *parser) finishResponse(asked flags) fault {
	h := p.h
	fr := &h.Framing
	fr.Minor = p.minor
	fr.Close = p.options&optionClose != 0 || p.minor == 0 && p.options&optionKeepAlive == 0
	if f := p.bodyOf(fr, message.UntilClose); f.bad() {
		return f
	}
	if f := p.dropNominated(); f.bad() {
		return f
	}
	if h.Status == 426 {
		// What is demanded is for the client to see (RFC 9110 section 15.5.22); what cannot be
		// read is as good as nothing.
		fr.Upgrade, _ = offeredUpgrade(h, p.upgrade)
	}
	f := p.bodiless(asked)
	if fr.Kind != message.Chunked {
		h.Del(message.NameTrailer)
	}
	fr.Close = fr.Close || fr.Kind == message.UntilClose || fr.Kind == message.Tunnel
	return f
}

// bodiless corrects the framing of the responses that end with their head, or
// turn the connection into a tunnel, whatever their fields say (RFC 9112 section
// 6.3, points 1 and 2).
func (p *parser) bodiless(asked flags) fault {
	h, fr := p.h, &p.h.Framing
	status := h.Status
	switch {
	case status == 101:
		return p.switched(asked)
	case status < 200 || status == 204:
		if fr.Kind == message.Chunked || fr.Kind == message.Length && fr.Length > 0 {
			return refuse("a body announced for a status that has none")
		}
		fr.Kind, fr.Length = message.NoBody, -1
	case asked&flagConnect != 0 && status < 300:
		fr.Kind, fr.Length = message.Tunnel, 0
	case asked&flagHead != 0 || status == 304:
		if fr.Kind != message.Length {
			fr.Length = -1
		}
		fr.Kind = message.NoBody
	}
	return fault{}
}

func (p *parser) switched(asked flags) fault {
	fr := &p.h.Framing
	if asked&flagUpgrade == 0 {
		return refuse("101 without having been asked for")
	}
	if fr.Kind == message.Chunked || fr.Kind == message.Length && fr.Length > 0 {
		return refuse("a body announced for a status that has none")
	}
	offered, f := offeredUpgrade(p.h, p.upgrade)
	if f.bad() {
		return f
	}
	if p.options&optionUpgrade == 0 || offered != p.upgrade || offered.End == 0 || p.minor != 1 {
		return refuse("101 without naming one protocol")
	}
	fr.Kind, fr.Length, fr.Upgrade = message.Tunnel, 0, offered
	return fault{}
}
