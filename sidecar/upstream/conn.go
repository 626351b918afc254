package upstream

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// codec is what both versions of HTTP offer of one exchange.
type codec interface {
	message.Stream
	BodyReady() bool
}

// Conn is what an exchange holds of a connection to an endpoint: over HTTP/1, and for a
// tunnel, all of it; over HTTP/2 one stream.
type Conn struct {
	codec
	Endpoint *Endpoint
	// PeerID is the SPIFFE ID that the endpoint has proven; empty: plain.
	PeerID string
	// Reused: the connection has carried an exchange before, so the endpoint may be
	// closing it at this very moment.
	Reused bool
	// Transport is nil for a stream.
	Transport engine.Transport

	http1 *http1.Client // nil for a stream
	raw   *engine.Conn  // nil for a stream

	stream *http2.Stream // nil for a whole connection
	mux    *mux          // the connection of stream, or what has become of this one
	users  int           // tasks that may still touch the stream
	ended  bool          // the exchange is over

	pool    *pool
	expires int64 // Nanos after which it is not used again; 0: never
	idleFor time.Duration
	onIdle  func()

	answered int64 // Nanos of the last answer's head; 0: none has come

	// For judging the endpoint again; see live.
	service    *Service
	member     *Member // as chosen
	peer       spiffeid.ID
	proof      identity.Proof
	user       engine.TaskRef // who has it; none: it is idle
	cut        bool           // by Judge; its user is about to close it
	next, prev *Conn          // of those that live, or of a mux's streams
}

// Answered notes that the head of an answer has come. From then on the endpoint may be
// done with the exchange, whenever our client has taken the rest of it.
func (c *Conn) Answered() {
	if c.stream == nil {
		c.answered = c.raw.Loop().Nanos()
	}
}

// Burdened reports whether the endpoint may have had work with the exchange: a byte of the
// request may have left, and the endpoint did not take leave of the connection before it.
func (c *Conn) Burdened() bool {
	if c.stream != nil {
		return c.stream.Burdened()
	}
	return c.http1 != nil && c.http1.Sent()
}

// Alone reports whether the exchange has the connection to itself.
func (c *Conn) Alone() bool { return c.stream == nil }

// Waiting reports that more of the answer's body may be there to be read without waiting.
func (c *Conn) Waiting() bool {
	return c.BodyReady() || c.Transport != nil && c.Transport.Pending()
}

// UsedBy notes the task that uses the connection from now on, where it is not the one that
// has made it: Judge may end it.
func (c *Conn) UsedBy(t *engine.Task) { c.user = t.Ref() }

// Raw returns the engine's connection of a tunnel.
func (c *Conn) Raw() *engine.Conn { return c.raw }

// Hold announces another task that may touch c until its Drop, even after the exchange
// has given c up.
func (c *Conn) Hold() { c.users++ }

// Drop is the end of a Hold.
func (c *Conn) Drop() {
	if c.users--; c.users == 0 && c.ended {
		c.mux.local.recycle(c)
	}
}

// ReadWithin bounds the next reads; zero: no bound.
func (c *Conn) ReadWithin(d time.Duration) {
	if c.stream != nil {
		c.stream.ReadWithin(d)
		return
	}
	c.raw.ReadWithin(d)
}

// WriteWithin bounds the next writes.
func (c *Conn) WriteWithin(d time.Duration) {
	if c.stream != nil {
		c.stream.WriteWithin(d)
		return
	}
	c.raw.WriteWithin(d)
}

// WatchAbort cancels t with engine.ErrPeerReset when the endpoint gives up; nil ends that.
func (c *Conn) WatchAbort(t *engine.Task) {
	if c.stream != nil {
		c.stream.WatchAbort(t)
		return
	}
	c.raw.WatchAbort(t)
}

// Break ends both directions at once; whoever waits in one wakes with an error.
func (c *Conn) Break() {
	if c.stream != nil {
		c.stream.Reset(policy.ClientAborted)
		return
	}
	c.Transport.Close()
}

// Abort is Break for a tunnel: the endpoint sees a reset, not an end in order, but after
// mere silence.
func (c *Conn) Abort(r policy.Reason) {
	if c.stream == nil && r != policy.TunnelIdle {
		c.raw.Abort()
		return
	}
	c.Break()
}

// Plain is the connection where its bytes are the exchange's, so that they can be
// spliced; else nil.
func (c *Conn) Plain() *engine.Conn {
	raw, _ := c.Transport.(*engine.Conn)
	return raw
}

// SpliceIn is that of http1.Client; 0 for a stream.
func (c *Conn) SpliceIn() int64 {
	if c.http1 == nil {
		return 0
	}
	return c.http1.SpliceIn()
}

// SpliceOut is that of http1.Client; 0 for a stream.
func (c *Conn) SpliceOut() int64 {
	if c.http1 == nil {
		return 0
	}
	return c.http1.SpliceOut()
}

// ReadSplice is that of http1.Client.
func (c *Conn) ReadSplice(s http1.Splicer) (n int, end bool, err error) {
	if c.http1 == nil {
		return 0, false, engine.ErrNoSplice
	}
	return c.http1.ReadSplice(s)
}

// WriteSplice is that of http1.Client.
func (c *Conn) WriteSplice(s http1.Splicer, n int, end bool) error {
	if c.http1 == nil {
		return engine.ErrNoSplice
	}
	return c.http1.WriteSplice(s, n, end)
}
