// Package http1 is the HTTP/1 codec (RFC 9110, RFC 9112): it turns the bytes of
// one connection into message.Stream exchanges, on the side of a server and on
// the side of a client. It is strict: what is ambiguous is refused, never
// repaired and passed on, and what is sent is generated from the parsed form.
// The package must not know of routes, services, pools or the engine's loops: it
// stands on the two small interfaces below.
//
// Cost: a request and its answer allocate nothing (TestPlainPathAllocatesNothing,
// BenchmarkParseRequest, BenchmarkExchange). An idle connection holds no buffer,
// only its Server or Client record.
package http1

// Transport is what the codec needs of a connection; engine.Conn and engine.TLS
// satisfy it. The methods park the calling task.
type Transport interface {
	Read([]byte) (int, error)
	// Write and WriteBuffers return when all is written, or an error.
	Write([]byte) (int, error)
	WriteBuffers(head, body []byte) (int, error)
	CloseWrite() error
	Close() error
	// Pending reports that bytes are or may be readable without waiting.
	Pending() bool
}

// waiter is what a Transport may also offer; engine.Conn and engine.TLS do.
type waiter interface {
	// Quiet reports that a read would wait.
	Quiet() bool
	// AwaitInput parks until a read may find something and a buffer of size bytes may be
	// taken. Errors are those of Read.
	AwaitInput(size int) error
}

// Buffers lends buffers of at least size bytes; engine.Loop satisfies it.
type Buffers interface {
	Buffer(size int) []byte
	Release([]byte)
}

// Limits bound what a peer may send before it is refused. All are bytes but
// Fields. A zero limit stands for the default.
type Limits struct {
	Head        int // start line and fields together
	Fields      int // number of field lines; also of trailer lines
	RequestLine int // request line without its line end
	Trailers    int // trailer section
}

// DefaultLimits returns the limits of an unconfigured listener or service.
func DefaultLimits() Limits {
	return Limits{Head: 64 << 10, Fields: 100, RequestLine: 8 << 10, Trailers: 8 << 10}
}

// WithDefaults replaces zero limits by the defaults, and keeps the request line
// within the head. Without it every connection keeps a copy of its own.
func (l Limits) WithDefaults() Limits {
	d := DefaultLimits()
	if l.Head <= 0 {
		l.Head = d.Head
	}
	if l.Fields <= 0 {
		l.Fields = d.Fields
	}
	if l.RequestLine <= 0 {
		l.RequestLine = d.RequestLine
	}
	if l.Trailers <= 0 {
		l.Trailers = d.Trailers
	}
	// The request line, with an empty line before it and its own end, must be
	// within the head, so that one limit never hides the other.
	l.Head = max(l.Head, 64)
	l.RequestLine = min(l.RequestLine, l.Head-4)
	return l
}

// complete returns l itself where its defaults were filled in, so that all
// connections share it.
func (l *Limits) complete() *Limits {
	if *l == l.WithDefaults() {
		return l
	}
	d := l.WithDefaults()
	return &d
}

// ServerOptions are shared by all connections of a listener and never change.
type ServerOptions struct {
	Limits Limits
	// AllowConnect lets CONNECT through; without it the request is refused with
	// MethodRefused.
	AllowConnect bool
}

// ClientOptions are shared by all connections of a service and never change.
type ClientOptions struct {
	Limits Limits
	// Authority is sent as Host where the request names none, as HTTP/1.0 may.
	// Empty: the field is sent empty, which strict recipients refuse.
	Authority string
}
