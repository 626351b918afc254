package engine

// Transport is what codecs stand on: a plain *Conn or a *TLS.
type Transport interface {
	// Read parks until there is something; io.EOF at the end of the stream.
	Read([]byte) (int, error)
	// Write parks until all is written.
	Write([]byte) (int, error)
	// WriteBuffers is Write of head and then body, with as few system calls as possible.
	WriteBuffers(head, body []byte) (int, error)
	// CloseWrite ends the outgoing direction (TLS: with close_notify). It may park.
	CloseWrite() error
	// Close ends the connection. It does not park.
	Close() error
	// TryRead is Read that returns ErrWouldBlock instead of parking.
	TryRead([]byte) (int, error)
	// Queue sends or queues, and never parks; Queued is what the socket has not taken yet, and
	// OnDrained tells when it has.
	Queue([]byte) error
	Queued() int
	OnDrained(func())
	// Pending reports whether Read may find something without waiting for an edge: bytes
	// already taken from the socket, or a socket not known to be drained. A connection with
	// something pending must not go idle.
	Pending() bool
	// Conn is the connection below, for deadlines, addresses and OnReadable.
	Conn() *Conn
}

var (
	_ Transport = (*Conn)(nil)
	_ Transport = (*TLS)(nil)
)
