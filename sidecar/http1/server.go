package http1

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Server is the server side of one HTTP/1 connection: a message.Stream that
// offers one exchange after the other. Between exchanges, after Release, it holds
// nothing but this record.
type Server struct {
	conn
}

type conn struct {
	t       Transport
	b       Buffers
	in, out uint64
}

var _ message.Stream = (*Server)(nil)

// NewServer returns a server on t. o is kept, not copied: fill it with
// Limits.WithDefaults once per listener and share it.
func NewServer(t Transport, b Buffers, o *ServerOptions) *Server { panic("unbuilt") }

// ReadHead implements message.Stream. A malformed request is a *policy.Error;
// the caller answers with WriteHead and WriteBody and then closes.
func (s *Server) ReadHead(h *message.Head) error { panic("unbuilt") }

// ReadBody implements message.Stream.
func (c *conn) ReadBody() (p []byte, end bool, err error) { panic("unbuilt") }

// Trailers implements message.Stream.
func (c *conn) Trailers() *message.Head { panic("unbuilt") }

// WriteHead implements message.Stream. Framing.Close of h is the other
// connection's business and ignored; see SetClose.
func (s *Server) WriteHead(h *message.Head) error { panic("unbuilt") }

// WriteBody implements message.Stream.
func (c *conn) WriteBody(p []byte, end bool) error { panic("unbuilt") }

// WriteTrailers implements message.Stream.
func (c *conn) WriteTrailers(t *message.Head) error { panic("unbuilt") }

// Flush implements message.Stream.
func (c *conn) Flush() error { panic("unbuilt") }

// Reset implements message.Stream: it closes the connection. Buffers stay with
// their users (a sibling task may be parked on them) until Release.
func (c *conn) Reset(r policy.Reason) { panic("unbuilt") }

// KeepAlive reports, after an exchange, whether another request may follow: both
// messages complete, and neither side wants to close.
func (s *Server) KeepAlive() bool { panic("unbuilt") }

// Idle reports that no exchange is under way and no byte is buffered, here or
// in the transport, so that the connection may wait without a task.
func (s *Server) Idle() bool { panic("unbuilt") }

// Release gives the buffers back and reports true, or false if bytes of a next
// request are buffered (pipelining), which it keeps. After Reset it always gives
// them back. No task may be using the stream.
func (c *conn) Release() bool { panic("unbuilt") }

// Buffered returns the number of bytes read and not consumed.
func (c *conn) Buffered() int { panic("unbuilt") }

// BytesIn and BytesOut count the bytes of the connection, heads included.
func (c *conn) BytesIn() uint64 { return c.in }

// BytesOut counts the bytes written.
func (c *conn) BytesOut() uint64 { return c.out }

// SetClose makes the next head say Connection: close (for drain).
func (c *conn) SetClose() { panic("unbuilt") }

// DrainBody reads and drops at most max bytes of an unread request body, so that
// the connection may be kept, and reports whether its end was reached. It parks.
func (s *Server) DrainBody(max int) bool { panic("unbuilt") }
