package trace

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"go.opentelemetry.io/otel/attribute"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// add adds an attribute that has a value.
func (b *builder) add(key attribute.Key, value string) {
	if value != "" {
		b.all = append(b.all, key.String(valid(value)))
	}
}

// valid is text, which clients choose, as UTF-8: the collectors' protocol takes nothing else, and
// one text that is none would cost all spans that are sent with it.
func valid(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

func (b *builder) number(key attribute.Key, value int) {
	if value != 0 {
		b.all = append(b.all, key.Int(value))
	}
}

// server has the attributes of the exchange's own span. Valid until the next call.
func (b *builder) server(r *observability.Record) []attribute.KeyValue {
	b.all = b.all[:0]
	switch {
	case isTunnel(r):
		b.all = append(b.all, semconv.NetworkTransportTCP)
		b.add("larboard.detected", r.Detected)
		b.number("larboard.bytes_in", int(r.BytesIn))
		b.number("larboard.bytes_out", int(r.BytesOut))
	case isCall(r):
		b.call(r.Path, r.GRPC)
		b.host(r.Authority)
	default:
		b.request(r)
		b.number(semconv.HTTPResponseStatusCodeKey, r.Status)
		b.add(semconv.URLSchemeKey, scheme(r.TLS))
		b.host(r.Authority)
		path, query := b.target(r.Path)
		b.add(semconv.URLPathKey, path)
		b.add(semconv.URLQueryKey, query)
	}
	b.add(semconv.NetworkProtocolVersionKey, r.Version)
	b.add(semconv.UserAgentOriginalKey, string(r.UserAgent))
	if a := r.Client; a.IsValid() {
		b.add(semconv.ClientAddressKey, a.Addr().WithZone("").Unmap().String())
		b.number(semconv.ClientPortKey, int(a.Port()))
	}
	if failed(r) {
		b.add(semconv.ErrorTypeKey, errorType(r.Reason, r.Status, r.GRPC))
	}
	b.ours(r)
	b.reason(r.Reason, r.Side)
	b.add("larboard.endpoint", r.Endpoint)
	b.add("larboard.endpoint_id", r.EndpointID)
	b.add("larboard.peer_id", r.PeerID)
	b.add("larboard.request_id", string(r.RequestID))
	b.number("larboard.attempts", r.Attempts)
	return b.all
}

// client has the attributes of the i-th attempt's span. Valid until the next call.
func (b *builder) client(r *observability.Record, i int) []attribute.KeyValue {
	b.all = b.all[:0]
	t := &r.Tries[i]
	if isCall(r) {
		b.call(r.Path, t.GRPC)
	} else {
		b.request(r)
		b.number(semconv.HTTPResponseStatusCodeKey, t.Status)
		path, query := b.target(r.Path)
		b.add(semconv.URLFullKey, fullURL(t.EndpointID != "", string(withoutUser(r.Authority)), path, query))
	}
	b.number(semconv.HTTPRequestResendCountKey, i)
	b.host(r.Authority)
	b.peer(t.Endpoint)
	if t.Reason != policy.None && t.Side != policy.Downstream || t.Status >= 400 || t.GRPC > policy.GRPCOK {
		b.add(semconv.ErrorTypeKey, errorType(t.Reason, t.Status, t.GRPC))
	}
	b.ours(r)
	b.reason(t.Reason, t.Side)
	if t.Reason != policy.None {
		b.add("larboard.phase", t.Phase.String())
	}
	b.add("larboard.endpoint", t.Endpoint)
	b.add("larboard.endpoint_id", t.EndpointID)
	b.number("larboard.try", i+1)
	if t.Reused {
		b.all = append(b.all, attribute.Bool("larboard.connection_reused", true))
	}
	return b.all
}

// ours are the attributes that both kinds have.
func (b *builder) ours(r *observability.Record) {
	direction := "outbound"
	if r.Inbound {
		direction = "inbound"
	}
	b.add("larboard.direction", direction)
	b.add("larboard.listener", r.Listener)
	b.add("larboard.route", r.Route)
	b.add("larboard.service", r.Service)
}

func (b *builder) reason(r policy.Reason, side policy.Side) {
	if r != policy.None {
		b.add("larboard.reason", r.String())
		b.add("larboard.side", side.String())
	}
}

func (b *builder) request(r *observability.Record) {
	if known(r.Method) {
		b.add(semconv.HTTPRequestMethodKey, string(r.Method))
		return
	}
	b.all = append(b.all, semconv.HTTPRequestMethodOther)
	b.add(semconv.HTTPRequestMethodOriginalKey, string(r.Method))
}

func (b *builder) call(path []byte, status policy.GRPCStatus) {
	b.all = append(b.all, semconv.RPCSystemNameGRPC)
	b.add(semconv.RPCMethodKey, rpcMethod(path))
	b.add(semconv.RPCResponseStatusCodeKey, status.String())
}

// host adds host and port that the client has named.
func (b *builder) host(authority []byte) {
	authority = withoutUser(authority)
	host := authority
	if i := bytes.LastIndexByte(authority, ':'); i >= 0 && bytes.IndexByte(authority[i:], ']') < 0 {
		host = authority[:i]
		if port, err := strconv.Atoi(string(authority[i+1:])); err == nil {
			b.number(semconv.ServerPortKey, port)
		}
	}
	b.add(semconv.ServerAddressKey, string(bytes.Trim(host, "[]")))
}

// withoutUser cuts off user information, which may be a password.
func withoutUser(authority []byte) []byte { return authority[bytes.LastIndexByte(authority, '@')+1:] }

// peer adds the endpoint's address and port.
func (b *builder) peer(endpoint string) {
	if a, err := netip.ParseAddrPort(endpoint); err == nil {
		b.add(semconv.NetworkPeerAddressKey, a.Addr().String())
		b.number(semconv.NetworkPeerPortKey, int(a.Port()))
	}
}

// target splits a path from its query, without the secrets of either.
func (b *builder) target(target []byte) (path, query string) {
	b.text = appendRedacted(b.text[:0], target)
	before, after, _ := bytes.Cut(b.text, []byte{'?'})
	return string(before), string(after)
}

func fullURL(encrypted bool, authority, path, query string) string {
	url := scheme(encrypted) + "://" + authority + path
	if query != "" {
		url += "?" + query
	}
	return url
}

func scheme(encrypted bool) string {
	if encrypted {
		return "https"
	}
	return "http"
}
