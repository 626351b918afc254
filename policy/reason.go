// Package policy holds what the pure decisions share: the table of reasons, the
// outcome of an attempt and the error that says whose fault something was. Its
// sub-packages decide (route, balance, authz); they are told the time, do no
// I/O and start no goroutine. The package must not know of sockets, codecs,
// configuration files or metrics.
package policy

// Reason says why the proxy itself answered, refused or gave up. The zero value
// means that it did not: the exchange ran to its end. Header, metric label, log
// field and manual derive from the one table below, so a code, once published,
// stays.
type Reason uint8

// The reasons. Their texts stand in the table.
const (
	None Reason = iota

	BadRequest
	NotHTTP
	BadHost
	RequestLineTooLong
	HeadTooLarge
	RequestTimeout
	MethodRefused
	NoRoute
	BodyAborted
	ClientAborted
	ProxyHeader
	CaptureLoop
	CaptureUnknown

	HTTP2Protocol
	HTTP2Compression
	HTTP2FlowControl
	HTTP2RapidReset
	HTTP2ProvokedResets
	HTTP2ContinuationFlood
	HTTP2ControlFlood
	HTTP2EmptyFrames
	HTTP2WindowFlood
	HTTP2HeadBomb
	HTTP2StreamLimit
	HTTP2Stalled
	HTTP2PingTimeout

	TLSHandshake
	TLSPlainText
	TLSNoCertificate
	TLSBadCertificate
	TLSExpired
	TLSUnknownDomain
	TLSUnknownID
	TLSSeveralIDs
	TLSNoID
	NotAllowed
	IntentionDenied
	IntentionsUnknown
	NoIdentity
	RateLimited
	QuotaUnavailable
	ConnectionRate

	NoService
	NoEndpoints
	NoHealthyEndpoint
	BreakerOpen
	EndpointLimit
	ConnectFailed
	ConnectTimeout
	UpstreamTLS
	UpstreamTLSIdentity
	UpstreamReset
	UpstreamClosed
	UpstreamTimeout
	TryTimeout
	UpstreamProtocol
	UpstreamTruncated
	UpstreamRefused
	UpstreamResetStorm

	RequestDeadline
	TunnelIdle
	Draining
	Overloaded
	BuffersShort
	ConnectionLimit
	ListenerLimit
	Internal

	reasonCount
)

// ReasonInfo is one row of the table.
type ReasonInfo struct {
	Code        string // in headers, labels and logs; snake_case; stable
	Status      int    // HTTP status of the answer; 0: the connection is closed without one
	GRPC        int    // gRPC status code
	Termination string // HAProxy's two letters: who ended it and in which phase
	Sentence    string // what happened
	Remedy      string // what the reader can do
}

var reasons = [reasonCount]ReasonInfo{
	None: {"none", 200, 0, "--", "the exchange ran to its end", ""},

	BadRequest:         {"bad_request", 400, 3, "PR", "the request is malformed or ambiguous", "look at the client: the request breaks RFC 9112"},
	NotHTTP:            {"not_http", 0, 3, "PR", "the client does not speak HTTP", "look at the client, or use protocol: tcp where it is right"},
	BadHost:            {"bad_host", 400, 3, "PR", "the Host field is missing, repeated, malformed or at odds with the target", "send exactly one valid Host field"},
	RequestLineTooLong: {"request_line_too_long", 414, 3, "PR", "the request line is over the limit", "shorten the target or raise limits.request_line"},
	HeadTooLarge:       {"head_too_large", 431, 3, "PR", "the header section is over the limit", "send fewer or shorter fields or raise limits.head"},
	RequestTimeout:     {"request_timeout", 408, 4, "cR", "the client did not send its whole request in time", "look at the client or its network, or raise timeouts.request_head"},
	MethodRefused:      {"method_refused", 405, 12, "PR", "the method is not served here", "CONNECT must be allowed by the listener"},
	NoRoute:            {"no_route", 404, 12, "PR", "no route matches the request", "add a route, or one without match as the default"},
	BodyAborted:        {"body_aborted", 400, 1, "CD", "the client broke off or garbled its request body", "look at the client"},
	ClientAborted:      {"client_aborted", 0, 1, "CD", "the client went away before the answer was complete", "look at the client and its timeouts"},

	ProxyHeader: {"proxy_header", 0, 3, "PR", "the PROXY protocol header is missing or malformed", "the listener's proxy_protocol names the sources that must send one"},

	CaptureLoop:    {"capture_loop", 0, 12, "PR", "the connection was made to this proxy's own ports, and would have come back to it", "call the service's own address; the capture ports are for redirected connections only"},
	CaptureUnknown: {"capture_unknown", 0, 12, "PR", "no service is known at the address that the captured connection was made to", "add the address to the captures of an upstream, or set capture.outbound.unknown or capture.inbound.unknown to pass"},

	HTTP2Protocol:          {"http2_protocol", 0, 13, "PR", "the peer broke the rules of HTTP/2", "look at the peer: see RFC 9113"},
	HTTP2Compression:       {"http2_compression", 0, 13, "PR", "a header block could not be decompressed", "look at the peer: see RFC 7541"},
	HTTP2FlowControl:       {"http2_flow_control", 0, 13, "PR", "the peer sent more than its window, or opened ours too far", "look at the peer: see RFC 9113 section 5.2"},
	HTTP2RapidReset:        {"http2_rapid_reset", 0, 8, "PR", "the client reset streams faster than they can be useful", "an attack, or a client that gives up too soon"},
	HTTP2ProvokedResets:    {"http2_provoked_resets", 0, 8, "PR", "the client made the proxy reset one stream after another", "an attack, or a broken client"},
	HTTP2ContinuationFlood: {"http2_continuation_flood", 0, 8, "PR", "a header block came in too many pieces", "an attack, or a broken client"},
	HTTP2ControlFlood:      {"http2_control_flood", 0, 8, "PR", "too many SETTINGS, PING, PRIORITY or unknown frames", "an attack, or a broken client"},
	HTTP2EmptyFrames:       {"http2_empty_frames", 0, 8, "PR", "too many frames without content", "an attack, or a broken client"},
	HTTP2WindowFlood:       {"http2_window_flood", 0, 8, "PR", "too many window updates for what was sent", "an attack, or a broken client"},
	HTTP2HeadBomb:          {"http2_head_bomb", 0, 8, "PR", "header blocks far over the limits", "an attack, or a client whose fields (cookies?) have grown out of hand"},
	HTTP2StreamLimit:       {"http2_stream_limit", 0, 8, "PR", "the client opens more streams than it was allowed, again and again", "an attack, or a broken client"},
	HTTP2Stalled:           {"http2_stalled", 0, 4, "cD", "the peer takes nothing of what waits for it", "look at the peer or its network, or raise timeouts.body"},
	HTTP2PingTimeout:       {"http2_ping_timeout", 0, 4, "cD", "the peer did not answer a PING in time", "look at the peer or its network, or raise http2.ping_timeout"},

	TLSHandshake:      {"tls_handshake", 0, 16, "PR", "the TLS handshake failed", "see the log line for the alert"},
	TLSPlainText:      {"tls_plain_text", 0, 16, "PR", "the peer spoke plain text to a TLS listener", "call through the peer's own sidecar"},
	TLSNoCertificate:  {"tls_no_certificate", 0, 16, "PR", "the peer presented no certificate", "give the peer an identity"},
	TLSBadCertificate: {"tls_bad_certificate", 0, 16, "PR", "the peer's certificate does not verify against the bundle of its trust domain", "compare the bundles of both sides"},
	TLSExpired:        {"tls_expired", 0, 16, "PR", "the peer's certificate has expired or is not valid yet", "look at the peer's rotation and at both clocks"},
	TLSUnknownDomain:  {"tls_unknown_domain", 0, 16, "PR", "the peer belongs to a trust domain that is not trusted here", "federate the trust domains if the call is wanted"},
	TLSUnknownID:      {"tls_unknown_id", 0, 16, "PR", "the peer is authentic but not one of those accepted", "add its SPIFFE ID where the log line says"},
	TLSSeveralIDs:     {"tls_several_ids", 0, 16, "PR", "the peer's certificate holds more than one URI name", "issue X.509-SVIDs with exactly one SPIFFE ID"},
	TLSNoID:           {"tls_no_id", 0, 16, "PR", "the peer's certificate holds no valid SPIFFE ID", "issue X.509-SVIDs"},
	NotAllowed:        {"not_allowed", 403, 7, "PR", "the allow list does not name the caller", "add the caller's SPIFFE ID to workload.allow"},
	IntentionDenied:   {"intention_denied", 403, 7, "PR", "Consul's intentions do not allow the caller", "the log line names the intention; see /api/v1/intentions and consul intention match"},
	IntentionsUnknown: {"intentions_unknown", 503, 14, "PC", "Consul has not told yet who may call", "look at Consul and at the token's rights: /api/v1/intentions"},
	NoIdentity:        {"no_identity", 503, 14, "PC", "this proxy has no identity yet", "look at the identity source: /api/v1/identity"},

	RateLimited:      {"rate_limited", 429, 8, "PR", "the caller has used up a rate limit", "call less often, or raise the limit that the log line names"},
	QuotaUnavailable: {"quota_unavailable", 503, 14, "PR", "the rate limit service did not answer, and its limits fail closed", "look at the rate limit service, or set rate_limit_service.on_failure: allow"},
	ConnectionRate:   {"connection_rate", 0, 8, "PR", "the listener has taken more connections than its rate allows", "look at who connects, or raise the listener's connection_rate"},

	NoService:         {"no_service", 503, 14, "SC", "the route names a service that is not known", "look at /api/v1/services"},
	NoEndpoints:       {"no_endpoints", 503, 14, "SC", "the service has no endpoints", "look at the service's registration and at /api/v1/endpoints"},
	NoHealthyEndpoint: {"no_healthy_endpoint", 503, 14, "SC", "no endpoint of the service is up", "look at the health of the endpoints at /api/v1/endpoints"},
	BreakerOpen:       {"breaker_open", 503, 14, "SC", "the breaker of every endpoint that is up is open", "look at why the endpoints failed: /api/v1/endpoints; the breakers try again by themselves"},
	EndpointLimit:     {"endpoint_limit", 503, 14, "SC", "every endpoint that is up has as many connections as it may", "add endpoints, or raise the service's max_connections"},
	ConnectFailed:     {"connect_failed", 503, 14, "SC", "no connection to the endpoint could be made", "is the endpoint running, and reachable from here?"},
	ConnectTimeout:    {"connect_timeout", 504, 4, "sC", "the endpoint did not accept a connection in time", "is the endpoint overloaded, or a firewall in the way? timeouts.connect"},
	UpstreamTLS:       {"upstream_tls", 503, 14, "SC", "the TLS handshake with the endpoint failed", "see the log line for the alert; the endpoint may refuse our identity"},

	UpstreamTLSIdentity: {"upstream_tls_identity", 503, 14, "SC", "the endpoint is not who it should be", "compare the endpoint's SPIFFE ID with the expected one"},
	UpstreamReset:       {"upstream_reset", 502, 14, "SH", "the endpoint reset the connection before its answer", "look at the endpoint's log"},
	UpstreamClosed:      {"upstream_closed", 502, 14, "SH", "the endpoint closed the connection before its answer", "look at the endpoint's log and its keep-alive time"},
	UpstreamTimeout:     {"upstream_timeout", 504, 4, "sH", "the endpoint did not answer in time", "is the endpoint overloaded? timeouts.response_head"},
	TryTimeout:          {"try_timeout", 504, 4, "sH", "the endpoint did not answer within the time of one attempt", "is the endpoint overloaded? retries.per_try_timeout"},
	UpstreamProtocol:    {"upstream_protocol", 502, 13, "PH", "the endpoint's answer is malformed or ambiguous", "look at the endpoint: the answer breaks RFC 9112"},
	UpstreamTruncated:   {"upstream_truncated", 502, 14, "SD", "the endpoint broke off its answer", "look at the endpoint's log"},
	UpstreamRefused:     {"upstream_refused", 503, 14, "SH", "the endpoint refused the stream before it looked at the request", "the endpoint is draining, or at its limit of streams"},
	UpstreamResetStorm:  {"upstream_reset_storm", 503, 14, "SH", "the endpoint resets stream after stream", "look at the endpoint's log"},

	RequestDeadline: {"request_deadline", 504, 4, "sH", "the whole request took longer than allowed", "timeouts.request"},
	TunnelIdle:      {"tunnel_idle", 0, 14, "cD", "the tunnel or the gRPC call was silent for too long", "timeouts.tunnel"},
	Draining:        {"draining", 503, 14, "PR", "the proxy is shutting down", "call again; another instance answers"},
	BuffersShort:    {"buffers_short", 503, 14, "PR", "the memory for the proxy's buffers is running out", "look for clients that read slowly, or raise limits.buffers"},
	Overloaded:      {"overloaded", 503, 14, "PR", "the proxy is at one of its own limits", "look at larboard_* pools and limits"},
	ConnectionLimit: {"connection_limit", 503, 14, "PR", "the proxy has as many connections as it may", "raise limits.connections, or add proxies"},
	ListenerLimit:   {"listener_limit", 503, 14, "PR", "the listener has as many connections as it may", "raise the listener's max_connections"},
	Internal:        {"internal", 500, 13, "IH", "the proxy failed inside", "report it with the logged stack"},
}

// Info returns the row of r.
func (r Reason) Info() *ReasonInfo {
	if r >= reasonCount {
		return &reasons[Internal]
	}
	return &reasons[r]
}

// String returns the code of r.
func (r Reason) String() string { return r.Info().Code }

// ReasonCalled returns the reason with that code.
func ReasonCalled(code string) (Reason, bool) {
	for r := range reasons {
		if reasons[r].Code == code {
			return Reason(r), true
		}
	}
	return None, false
}

// Reasons lists all reasons in the order of the table.
func Reasons() []Reason {
	all := make([]Reason, reasonCount)
	for i := range all {
		all[i] = Reason(i)
	}
	return all
}
