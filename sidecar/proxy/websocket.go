package proxy

import (
	"encoding/base64"
	"errors"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// A WebSocket is opened by an upgrade in HTTP/1.1 (RFC 6455 section 4), where the endpoint
// proves by its answer to a key that it means it, and by an extended CONNECT in HTTP/2 (RFC
// 8441), which has no key. Where the versions differ, the proxy stands in: the codec makes
// up a key for an endpoint and the answer for a client, and what the missing side would have
// checked is checked here.

// offers reports whether the request may open a WebSocket over the connection chosen: a
// client of HTTP/1.1 has to send a key, although HTTP/2 carries none.
func (x *Exchange) offers() error {
	if x.stream != nil || x.up.Transport != nil || !message.EqualFold(x.Req.UpgradeBytes(), "websocket") {
		return nil
	}
	if string(x.Req.MethodBytes()) == "GET" && isWebSocketKey(&x.Req) {
		return nil
	}
	return &policy.Error{Reason: policy.BadRequest, Side: policy.Downstream, Phase: policy.PhaseHead,
		Err: errors.New("a WebSocket is asked for by GET, with a Sec-WebSocket-Key of 16 bytes in base64")}
}

// isWebSocketKey reports whether h has a key as it must be (RFC 6455 section 4.2.1).
func isWebSocketKey(h *message.Head) bool {
	value, _ := h.Get(message.NameSecWebSocketKey)
	var key [18]byte
	if base64.StdEncoding.DecodedLen(len(value)) > len(key) {
		return false
	}
	n, err := base64.StdEncoding.Decode(key[:], value)
	return err == nil && n == 16
}

// accepted checks an answer that a client of HTTP/2 cannot: that to the key, which the codec
// has made up; and one of success without a switch, as from a server that knows no
// WebSockets, would there be taken for one.
func (x *Exchange) accepted() error {
	if x.stream == nil {
		return nil
	}
	want := x.stream.WebSocketAccept()
	switch status := x.Resp.Status; {
	case want == nil || status > 299:
		return nil
	case status != 101:
		return notAccepted("the endpoint did not switch to WebSocket, and answered as to any request")
	}
	if got, _ := x.Resp.Get(message.NameSecWebSocketAccept); string(got) != string(want) {
		return notAccepted("the endpoint's Sec-WebSocket-Accept does not answer the key")
	}
	return nil
}

func notAccepted(text string) error {
	return &policy.Error{Reason: policy.UpstreamProtocol, Side: policy.Upstream, Phase: policy.PhaseWait, MaybeProcessed: true,
		Err: errors.New(text)}
}
