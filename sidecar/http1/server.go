package http1

import (
	"io"
	"net"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Server is the server side of one HTTP/1 connection: a message.Stream that
// offers one exchange after the other. Between exchanges, after Release, it holds
// nothing but this record.
type Server struct {
	conn
	options *ServerOptions
}

var _ message.Stream = (*Server)(nil)

// NewServer returns a server on t. o is kept, not copied: it is filled once per
// listener, Limits with WithDefaults, and shared.
func NewServer(t Transport, b Buffers, o *ServerOptions) *Server {
	s := &Server{}
	s.Init(t, b, o)
	return s
}

// Init is NewServer for a Server that is part of a larger record.
func (s *Server) Init(t Transport, b Buffers, o *ServerOptions) {
	*s = Server{conn: conn{t: t, b: b, limits: o.Limits.complete()}, options: o}
}

// Begin gives s its first bytes, which somebody has already read: buf[:n], in a
// buffer that was lent by the Buffers of Init and is now the Server's to give
// back. Only directly after Init.
func (s *Server) Begin(buf []byte, n int) {
	s.buf, s.r, s.w = buf, 0, uint32(n)
	s.in += uint64(n)
}

// ReadHead implements message.Stream. A bare io.EOF says that the client closed
// before a first byte. A malformed request is a *policy.Error; unless its Reason
// has no status, the caller still answers with WriteHead and WriteBody (the head
// will announce the close) and then closes. With no byte buffered, a
// RequestTimeout means that the connection was merely idle: see Buffered.
func (s *Server) ReadHead(h *message.Head) error {
	h.Reset()
	switch {
	case s.is(flagReset):
		return s.readFailed(net.ErrClosed, policy.PhaseHead)
	case s.is(flagBroken) || s.rstate != readNothing && !s.KeepAlive():
		return s.misused("a request read before the exchange before was complete")
	}
	s.newMessage()
	p := parser{h: h, limits: s.limits, request: true, connect: s.options.AllowConnect}
	n, err := s.readSection(&p)
	if err != nil {
		s.flags |= flagClose
		return err
	}
	if f := p.finishRequest(); f.bad() {
		s.flags |= flagClose
		return s.violated(f, policy.PhaseHead)
	}
	s.r += uint32(n)
	s.remember(h)
	s.beginBody(&h.Framing)
	return nil
}

// between reports whether no message is under way in either direction.
func (s *Server) between() bool {
	return (s.rstate == readNothing || s.rstate == readDone) &&
		(s.wstate == writeNothing || s.wstate == writeDone)
}

// readSection reads until p has a whole section, which it loads into the head
// but leaves in the buffer. Where it fails, the head holds the lines that were read,
// for the record.
func (c *conn) readSection(p *parser) (int, error) {
	phase := policy.PhaseHead
	if c.is(flagClient) {
		phase = policy.PhaseWait
	}
	for {
		n, f := p.next(c.buf[c.r:c.w])
		if f.bad() {
			c.load(p)
			return 0, c.violated(f, phase)
		}
		if n > 0 {
			c.load(p)
			return n, nil
		}
		if err := c.fill(c.bufferSize()); err != nil {
			c.load(p)
			if err == io.EOF && c.r == c.w && !c.is(flagClient) {
				c.flags |= flagBroken
				return 0, io.EOF
			}
			return 0, c.readFailed(err, phase)
		}
	}
}

// load gives the head the lines that p has taken, to which its spans point.
func (c *conn) load(p *parser) { p.h.Load(c.buf[c.r : c.r+uint32(p.line)]) }

// remember keeps what the answer's framing depends on.
func (s *Server) remember(h *message.Head) {
	f := &h.Framing
	method := h.MethodBytes()
	s.set(flagOld, f.Minor == 0)
	s.set(flagClose, f.Close)
	s.set(flagExpect, f.Continue)
	s.set(flagUpgrade, f.Upgrade.End != 0)
	s.set(flagHead, string(method) == "HEAD")
	s.set(flagConnect, string(method) == "CONNECT")
}

func (c *conn) set(f flags, on bool) {
	if on {
		c.flags |= f
	}
}

// KeepAlive reports, after an exchange, whether another request may follow: both
// messages are complete and neither side wants to close.
func (s *Server) KeepAlive() bool { return s.complete() }

// Idle reports that no exchange is under way and that no byte is buffered, here
// or in the transport, so that the connection may wait without a task. Before the
// first request it is idle too.
func (s *Server) Idle() bool {
	return s.between() && s.Buffered() == 0 && !s.t.Pending()
}

// Resume takes back that reading the body has failed: it was only interrupted, and goes on.
func (s *Server) Resume() { s.flags &^= flagFailed }

// DrainBody reads and drops up to most bytes of an unread request body, so that
// the connection can be kept, and reports whether the body's end was reached. It
// does nothing for a client that still waits for 100: whether that one will send
// its body cannot be known. It parks; set a read deadline before. No other task
// may be reading the body.
func (s *Server) DrainBody(most int) bool {
	if s.is(flagExpect) && s.Buffered() == 0 {
		return s.rstate == readDone
	}
	for s.rstate != readDone {
		if s.is(flagBroken) || most <= 0 || s.rstate == readTunnel || s.rstate == readNothing {
			return false
		}
		p, _, err := s.ReadBody()
		if err != nil {
			return false
		}
		most -= len(p)
	}
	return true
}
