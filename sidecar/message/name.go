package message

import "strings"

// NameID is the number of a field name known to the proxy; names that are not in
// the table are NameOther and are compared by their bytes.
type NameID uint8

// The known names.
const (
	NameOther NameID = iota

	NameHost
	NameContentLength
	NameTransferEncoding
	NameConnection
	NameUpgrade
	NameTE
	NameTrailer
	NameKeepAlive
	NameProxyConnection
	NameProxyAuthenticate
	NameProxyAuthorization
	NameHTTP2Settings
	NameExpect

	NameForwarded
	NameXForwardedFor
	NameXForwardedProto
	NameXForwardedHost
	NameXForwardedPort
	NameXForwardedClientCert
	NameXRealIP
	NameXRequestID
	NameVia
	// The contexts of traces, one after the other.
	NameTraceparent
	NameTracestate
	NameB3
	NameB3TraceID
	NameB3SpanID
	NameB3ParentSpanID
	NameB3Sampled
	NameB3Flags
	NameBaggage

	NameAuthorization
	NameCookie
	NameSetCookie
	NameWWWAuthenticate
	NameOrigin

	NameAccept
	NameAcceptEncoding
	NameAcceptLanguage
	NameUserAgent
	NameReferer
	NameRange
	NameIfMatch
	NameIfNoneMatch
	NameIfModifiedSince
	NameIfUnmodifiedSince
	NameIfRange
	NameMaxForwards

	NameServer
	NameDate
	NameAge
	NameAllow
	NameCacheControl
	NameContentEncoding
	NameContentLanguage
	NameContentRange
	NameContentType
	NameETag
	NameExpires
	NameLastModified
	NameLocation
	NamePragma
	NameRetryAfter
	NameVary
	NameWarning

	NameSecWebSocketAccept
	NameSecWebSocketKey
	NameSecWebSocketVersion
	NameGRPCMessage
	NameGRPCStatus
	NameGRPCTimeout

	nameCount
)

// traits of a known name.
type traits uint8

const (
	// hopByHop: belongs to one connection (RFC 9110 section 7.6.1), or is framing
	// that each codec writes anew; never among the fields that are sent on.
	hopByHop traits = 1 << iota
	// trailing: may stand in a trailer section (RFC 9110 section 6.5.1). Of the
	// known names only a few may; unknown ones may.
	trailing
)

type nameInfo struct {
	text string // as sent in HTTP/1 where the proxy adds the field
	traits
}

var names = [nameCount]nameInfo{
	NameHost:               {"Host", 0},
	NameContentLength:      {"Content-Length", hopByHop},
	NameTransferEncoding:   {"Transfer-Encoding", hopByHop},
	NameConnection:         {"Connection", hopByHop},
	NameUpgrade:            {"Upgrade", hopByHop},
	NameTE:                 {"TE", hopByHop},
	NameTrailer:            {"Trailer", 0},
	NameKeepAlive:          {"Keep-Alive", hopByHop},
	NameProxyConnection:    {"Proxy-Connection", hopByHop},
	NameProxyAuthenticate:  {"Proxy-Authenticate", hopByHop},
	NameProxyAuthorization: {"Proxy-Authorization", hopByHop},
	NameHTTP2Settings:      {"HTTP2-Settings", hopByHop},
	NameExpect:             {"Expect", hopByHop},

	NameForwarded:            {"Forwarded", 0},
	NameXForwardedFor:        {"X-Forwarded-For", 0},
	NameXForwardedProto:      {"X-Forwarded-Proto", 0},
	NameXForwardedHost:       {"X-Forwarded-Host", 0},
	NameXForwardedPort:       {"X-Forwarded-Port", 0},
	NameXForwardedClientCert: {"X-Forwarded-Client-Cert", 0},
	NameXRealIP:              {"X-Real-IP", 0},
	NameXRequestID:           {"X-Request-ID", 0},
	NameVia:                  {"Via", 0},
	NameTraceparent:          {"Traceparent", 0},
	NameTracestate:           {"Tracestate", 0},
	NameB3:                   {"B3", 0},
	NameB3TraceID:            {"X-B3-TraceId", 0},
	NameB3SpanID:             {"X-B3-SpanId", 0},
	NameB3ParentSpanID:       {"X-B3-ParentSpanId", 0},
	NameB3Sampled:            {"X-B3-Sampled", 0},
	NameB3Flags:              {"X-B3-Flags", 0},
	NameBaggage:              {"Baggage", 0},

	NameAuthorization:   {"Authorization", 0},
	NameCookie:          {"Cookie", 0},
	NameSetCookie:       {"Set-Cookie", 0},
	NameWWWAuthenticate: {"WWW-Authenticate", 0},
	NameOrigin:          {"Origin", 0},

	NameAccept:            {"Accept", 0},
	NameAcceptEncoding:    {"Accept-Encoding", 0},
	NameAcceptLanguage:    {"Accept-Language", 0},
	NameUserAgent:         {"User-Agent", 0},
	NameReferer:           {"Referer", 0},
	NameRange:             {"Range", 0},
	NameIfMatch:           {"If-Match", 0},
	NameIfNoneMatch:       {"If-None-Match", 0},
	NameIfModifiedSince:   {"If-Modified-Since", 0},
	NameIfUnmodifiedSince: {"If-Unmodified-Since", 0},
	NameIfRange:           {"If-Range", 0},
	NameMaxForwards:       {"Max-Forwards", 0},

	NameServer:          {"Server", 0},
	NameDate:            {"Date", 0},
	NameAge:             {"Age", 0},
	NameAllow:           {"Allow", 0},
	NameCacheControl:    {"Cache-Control", 0},
	NameContentEncoding: {"Content-Encoding", 0},
	NameContentLanguage: {"Content-Language", 0},
	NameContentRange:    {"Content-Range", 0},
	NameContentType:     {"Content-Type", 0},
	NameETag:            {"ETag", trailing},
	NameExpires:         {"Expires", 0},
	NameLastModified:    {"Last-Modified", 0},
	NameLocation:        {"Location", 0},
	NamePragma:          {"Pragma", 0},
	NameRetryAfter:      {"Retry-After", 0},
	NameVary:            {"Vary", 0},
	NameWarning:         {"Warning", 0},

	NameSecWebSocketAccept:  {"Sec-WebSocket-Accept", 0},
	NameSecWebSocketKey:     {"Sec-WebSocket-Key", 0},
	NameSecWebSocketVersion: {"Sec-WebSocket-Version", 0},
	NameGRPCMessage:         {"Grpc-Message", trailing},
	NameGRPCStatus:          {"Grpc-Status", trailing},
	NameGRPCTimeout:         {"Grpc-Timeout", 0},
}

// String returns the name as HTTP/1 writes it; empty for NameOther.
func (id NameID) String() string {
	if id >= nameCount {
		return ""
	}
	return names[id].text
}

// HopByHop reports whether the field belongs to one connection only, or is
// framing; codecs take such fields out of a Head and never send them from one.
func (id NameID) HopByHop() bool { return id < nameCount && names[id].traits&hopByHop != 0 }

// Trailing reports whether the field may stand in a trailer section. Unknown
// names may, framing, routing, authentication and control data may not.
func (id NameID) Trailing() bool { return id == NameOther || names[id].traits&trailing != 0 }

// slots is the hash table of the known names: open addressing, a quarter full,
// so that a look-up costs one hash and mostly one comparison.
const slots = 256 // a uint8 wraps around it

var nameTable = buildNameTable()

func buildNameTable() (t [slots]NameID) {
	for id := NameOther + 1; id < nameCount; id++ {
		i := nameHash(names[id].text)
		for t[i] != NameOther {
			i++
		}
		t[i] = id
	}
	return t
}

// nameHash mixes the length with three folded bytes; n is not empty. The factors
// were searched for: of the names above, all but one are found at once.
func nameHash[T string | []byte](n T) uint8 {
	l := len(n)
	h := uint32(n[0]|0x20)*336 + uint32(n[l-1]|0x20)*355 + uint32(n[l/2]|0x20)*175 + uint32(l)*243
	return uint8(h ^ h>>8)
}

// IDOf returns the number of the field name n, whatever its case; NameOther for
// a name that is not in the table. It allocates nothing.
func IDOf[T string | []byte](n T) NameID {
	if len(n) == 0 {
		return NameOther
	}
	for i := nameHash(n); ; i++ {
		id := nameTable[i]
		if id == NameOther || EqualFold(n, names[id].text) {
			return id
		}
	}
}

// lowerTexts are the known names in lower case.
var lowerTexts = buildLowerTexts()

func buildLowerTexts() (t [nameCount]string) {
	for id := range t {
		t[id] = strings.ToLower(names[id].text)
	}
	return t
}

// IDOfLower is IDOf for a name that must be in lower case, as in HTTP/2: others are
// NameOther. It is cheaper.
func IDOfLower(n []byte) NameID {
	if len(n) == 0 {
		return NameOther
	}
	for i := nameHash(n); ; i++ {
		id := nameTable[i]
		if id == NameOther || string(n) == lowerTexts[id] {
			return id
		}
	}
}

// Lower returns the name in lower case; empty for NameOther.
func (id NameID) Lower() string {
	if id >= nameCount {
		return ""
	}
	return lowerTexts[id]
}

// EqualFold compares ASCII text without regard to case.
func EqualFold[A, B string | []byte](a A, b B) bool {
	if len(a) != len(b) {
		return false
	}
	for i := 0; i < len(a); i++ {
		if lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}
