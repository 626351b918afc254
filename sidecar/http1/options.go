package http1

import (
	"bytes"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// The Connection field (RFC 9110 section 7.6.1).

type options uint8

const (
	optionClose options = 1 << iota
	optionKeepAlive
	optionUpgrade
	optionNamed // names a field to be taken out
)

// parseOptions reads one Connection field's list.
func parseOptions(value []byte) (found options, f fault) {
	for len(value) > 0 {
		var option []byte
		option, value = cutElement(value)
		if len(option) == 0 {
			continue
		}
		if !message.IsToken(option) {
			return 0, refuse("a connection option that is not a token")
		}
		found |= optionOf(option)
	}
	return found, fault{}
}

func optionOf(option []byte) options {
	switch {
	case message.EqualFold(option, "close"):
		return optionClose
	case message.EqualFold(option, "keep-alive"):
		return optionKeepAlive
	case message.EqualFold(option, "upgrade"):
		return optionUpgrade
	}
	return optionNamed
}

// takesTrailers reports whether a TE field says that its sender takes trailers (RFC
// 9110 section 10.1.4).
func takesTrailers(value []byte) bool {
	for len(value) > 0 {
		var coding []byte
		if coding, value = cutElement(value); message.EqualFold(coding, "trailers") {
			return true
		}
	}
	return false
}

// cutElement cuts the first element off a comma-separated list.
func cutElement(list []byte) (element, rest []byte) {
	if comma := bytes.IndexByte(list, ','); comma >= 0 {
		element, rest = list[:comma], list[comma+1:]
	} else {
		element = list
	}
	return bytes.Trim(element, " \t"), rest
}

// dropNominated deletes the fields that Connection names. A field that decides
// framing, routing, authentication or who called is not for the sender of a
// Connection field to take out: naming one is refused, since a proxy that obeyed
// would strip what the next one's decision rests on.
func (p *parser) dropNominated() fault {
	if p.options&optionNamed == 0 {
		return fault{}
	}
	fields := p.h.Fields()
	for i := range fields {
		if fields[i].ID != message.NameConnection {
			continue
		}
		for list := p.h.Value(fields[i]); len(list) > 0; {
			var option []byte
			option, list = cutElement(list)
			if len(option) == 0 || optionOf(option) != optionNamed {
				continue
			}
			if protected(option) {
				return refuse("Connection names a field that may not be removed")
			}
			p.h.DelName(string(option))
		}
	}
	return fault{}
}

// protected reports whether a field may not be nominated: every known name that
// is meant for the recipient, and those that proxies vouch for.
func protected(name []byte) bool {
	switch message.IDOf(name) {
	case message.NameOther:
		return hasPrefixFold(name, "x-forwarded-") || hasPrefixFold(name, "x-larboard-")
	case message.NameConnection, message.NameKeepAlive, message.NameProxyConnection, message.NameTE,
		message.NameTrailer, message.NameHTTP2Settings, message.NameProxyAuthenticate,
		message.NameProxyAuthorization:
		return false
	}
	return true
}

func hasPrefixFold(b []byte, prefix string) bool {
	return len(b) >= len(prefix) && message.EqualFold(b[:len(prefix)], prefix)
}

// offeredUpgrade picks the first protocol of an Upgrade list that may be passed
// on: one that turns the connection into something this proxy does not speak, so
// neither another version of HTTP (h2c) nor TLS. The zero span: none.
func offeredUpgrade(h *message.Head, list message.Span) (message.Span, fault) {
	value := h.Bytes(list)
	at := list.Start
	for len(value) > 0 {
		element, rest := cutElement(value)
		if len(element) > 0 {
			start := at + uint32(bytes.Index(value, element))
			name, ver, slash := bytes.Cut(element, []byte("/"))
			if !message.IsToken(name) || slash && !message.IsToken(ver) {
				return message.Span{}, refuse("malformed Upgrade")
			}
			if passable(name) {
				return message.Span{Start: start, End: start + uint32(len(element))}, fault{}
			}
		}
		at += uint32(len(value) - len(rest))
		value = rest
	}
	return message.Span{}, fault{}
}

func passable(protocol []byte) bool {
	for _, no := range [...]string{"h2c", "h2", "h3", "http", "tls"} {
		if message.EqualFold(protocol, no) {
			return false
		}
	}
	return true
}

// cutVersion splits "name/version".
func cutVersion(protocol []byte) (name, version []byte) {
	name, version, _ = bytes.Cut(protocol, []byte("/"))
	return name, version
}
