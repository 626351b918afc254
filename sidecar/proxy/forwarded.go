package proxy

import (
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Forwarded is the step that tells the endpoint where a request came from:
// X-Forwarded-For, -Proto and -Host, and an X-Request-ID where there is none.
type Forwarded struct {
	// Trust keeps what the caller says in these fields and adds to it: callers
	// that are workloads of ours or have proven an identity. Otherwise it is
	// replaced.
	Trust bool
	Proto string // "http" or "https"
}

// Request implements Step.
func (f *Forwarded) Request(x *Exchange) error {
	h := &x.Req
	if !f.Trust {
		h.Del(message.NameXForwardedFor)
		h.Del(message.NameXForwardedProto)
		h.Del(message.NameXForwardedHost)
		h.Del(message.NameXForwardedPort)
		h.Del(message.NameXForwardedClientCert)
		h.Del(message.NameForwarded)
		h.Del(message.NameXRealIP)
	}
	if client := x.Down.client().Addr(); client.IsValid() { // that of a Unix socket has no address
		x.text = client.Unmap().WithZone("").AppendTo(x.text[:0])
		h.Append(message.NameXForwardedFor, "", x.text)
	}
	if _, ok := h.Get(message.NameXForwardedProto); !ok {
		h.AddString(message.NameXForwardedProto, "", f.Proto)
	}
	if _, ok := h.Get(message.NameXForwardedHost); !ok {
		h.Add(message.NameXForwardedHost, "", h.AuthorityBytes())
	}
	if _, ok := h.Get(message.NameXRequestID); !ok {
		h.Add(message.NameXRequestID, "", x.loop.requestID())
	}
	return nil
}

// Response implements Step.
func (f *Forwarded) Response(*Exchange) error { return nil }
