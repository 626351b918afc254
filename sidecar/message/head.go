// Package message is the one form of a request and a response that all codecs
// and steps share: Head (start line and fields), Framing (how the body is
// delimited) and Stream (one exchange on one connection). It must not know of
// sockets, of a particular HTTP version's syntax, or of routes and services.
//
// Cost: parsing writes into slices that are reused; a Head in steady state
// allocates nothing (BenchmarkHead in this package, BenchmarkRequest in http1).
package message

// Span is a half-open range of a Head's buffer. Offsets, not slices: the buffer
// may grow, and the collector has nothing to scan.
type Span struct{ Start, End uint32 }

// Field is one header field.
type Field struct {
	Name, Value Span
	ID          NameID
	Flags       Flags
}

// Flags of a Field.
type Flags uint8

const (
	// Deleted: the field is not to be seen or sent any more.
	Deleted Flags = 1 << iota
	// Sensitive: its sender forbids to index it (RFC 7541 section 7.1.3).
	Sensitive
)

// BodyKind says how a body ends.
type BodyKind uint8

// The kinds of body.
const (
	NoBody     BodyKind = iota
	Length              // exactly Framing.Length bytes
	Chunked             // ends by itself; may have trailers
	UntilClose          // response only: ends with the connection
	Tunnel              // after 101 or a 2xx to CONNECT: opaque bytes in both directions
)

// Framing is what the codec took out of the fields: how the body is delimited,
// and what the sender wants of the connection. Codecs write it anew on the other
// side; hop-by-hop fields never appear among the fields of a Head.
type Framing struct {
	Kind   BodyKind
	Length int64 // for Length; for a response to HEAD the announced length, -1: none
	// Close: the sender will not use the connection again.
	Close bool
	// Continue: the client waits for 100 (Expect: 100-continue).
	Continue bool
	// Trailers: the client takes trailers (TE: trailers), which gRPC insists on.
	Trailers bool
	// Upgrade is the protocol asked for (request), switched to (101 response) or demanded
	// (426 response); empty: none. h2c is never passed on.
	Upgrade Span
	// Minor is the HTTP/1 minor version, 0 or 1; for HTTP/2 it is 1.
	Minor uint8
}

// Head is a start line and its fields. It owns its bytes: the codec copies the
// section out of its read buffer once (a few hundred bytes), so reading the body
// never touches it. It is used by one task at a time, and is valid until Reset or
// Release; whoever keeps anything longer clones it.
//
// The zero value is an empty head ready for use.
type Head struct {
	Framing Framing

	// Request line. Target is as received; Path is its path and query in origin
	// form ("*" for OPTIONS *); Authority is Host or the authority of an absolute
	// target, which must agree.
	Method, Target, Path, Authority Span
	// Status of a response, and its reason phrase; 0 marks a request.
	Status int
	Phrase Span

	buf    []byte
	fields []Field
}
