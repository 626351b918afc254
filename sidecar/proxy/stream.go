package proxy

import (
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// end is what both sides of an exchange, and both ends of a tunnel, offer besides their
// bytes. Its deadlines are those of the stream, which is all there is of an HTTP/1
// connection and one of many on an HTTP/2 connection.
type end interface {
	spliced
	// ReadBody returns the next piece; end is the peer's FIN. WriteBody with end sends
	// ours.
	ReadBody() (p []byte, end bool, err error)
	WriteBody(p []byte, end bool) error
	// ReadWithin and WriteWithin bound the next reads and writes; zero: no bound.
	ReadWithin(time.Duration)
	WriteWithin(time.Duration)
	// WatchAbort cancels t with engine.ErrPeerReset when the peer gives up; nil ends that.
	WatchAbort(t *engine.Task)
	// Abort ends both directions at once for a reason, and whoever waits in one wakes with an
	// error. The peer sees a reset, not an end in order, but after mere silence.
	Abort(policy.Reason)
	// Plain is the connection where its bytes are the stream's, so that they can be
	// spliced; else nil.
	Plain() *engine.Conn
}

// served is the client's side of an exchange: one after another on an HTTP/1
// connection, many at a time on an HTTP/2 connection.
type served interface {
	message.Stream
	end
	// BodyReady reports that ReadBody would not wait.
	BodyReady() bool
	// BytesIn and BytesOut count what the exchange has taken from and given to the
	// connection.
	BytesIn() uint64
	BytesOut() uint64
	// Recall takes back a final head of which nothing has been sent.
	Recall() bool
	// Resume takes back that reading the body has failed: it was only interrupted, and goes
	// on.
	Resume()
	// SetClose announces, with the answer, that an HTTP/1 connection ends. A connection
	// of many streams ends by itself.
	SetClose()
}

// http1Stream is an HTTP/1 connection as the client's side of one exchange after the
// other. It is part of the Exchange.
type http1Stream struct {
	http1.Server
	down    *Downstream
	in, out uint64 // of the connection, when the exchange began
}

func (s *http1Stream) init(d *Downstream) {
	s.down = d
	s.in, s.out = 0, 0
	s.Server.Init(d.transport(), d.loop.loop, &d.listener.conf.Load().HTTP)
}

// ReadHead begins an exchange.
func (s *http1Stream) ReadHead(h *message.Head) error {
	s.in, s.out = s.Server.BytesIn()-uint64(s.Buffered()), s.Server.BytesOut()
	return s.Server.ReadHead(h)
}

func (s *http1Stream) BytesIn() uint64             { return s.Server.BytesIn() - s.in }
func (s *http1Stream) BytesOut() uint64            { return s.Server.BytesOut() - s.out }
func (s *http1Stream) ReadWithin(d time.Duration)  { s.down.raw.ReadWithin(d) }
func (s *http1Stream) WriteWithin(d time.Duration) { s.down.raw.WriteWithin(d) }
func (s *http1Stream) WatchAbort(t *engine.Task)   { s.down.raw.WatchAbort(t) }
func (s *http1Stream) Abort(r policy.Reason)       { abort(s.down.transport(), r) }
func (s *http1Stream) Plain() *engine.Conn         { return plain(s.down.transport()) }

// abort closes t. A FIN would tell the peer that what it has is all there is.
func abort(t engine.Transport, r policy.Reason) {
	if r == policy.TunnelIdle {
		t.Close()
		return
	}
	t.Conn().Abort()
}

// plain is t where it is not encrypted; else nil.
func plain(t engine.Transport) *engine.Conn {
	c, _ := t.(*engine.Conn)
	return c
}
