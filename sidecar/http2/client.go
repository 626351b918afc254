package http2

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Client is the client side of a connection.
type Client struct {
	conn
	owner Owner
}

// lastUsefulID is where a client stops to open streams: ids do not begin anew (RFC 9113 section
// 5.1.1), so another connection has to take over.
const lastUsefulID = 1 << 30

// Dial begins to speak on t, whose handshake is done. The preface and our SETTINGS go out with
// the first request, or at the end of the turn. Loop only.
func Dial(t engine.Transport, o *Options, owner Owner) *Client {
	x := &Client{owner: owner}
	c := &x.conn
	c.client, c.nextID, c.phase = true, 1, wantSettings
	c.init(t, o, x)
	c.greet()
	c.start()
	return x
}

// Room is how many streams may be opened now.
func (x *Client) Room() int {
	if x.ended() {
		return 0
	}
	return max(0, int(min(x.o.MaxStreams, x.peerMost))-x.open)
}

// ended reports that no stream can be opened any more.
func (x *Client) ended() bool {
	e := &x.end
	return e.dead || e.leaving || e.final || x.nextID >= lastUsefulID
}

// Open returns a new stream, of which nothing is sent before its head is. Only where Room says
// so. Loop only.
func (x *Client) Open() *Stream {
	s := x.takeStream()
	x.count(s)
	return s
}

// begin gives a stream its id: in the order in which heads are sent.
func (c *conn) begin(s *Stream) {
	s.id = c.nextID
	c.nextID += 2
	s.window = c.peerWindow // it may have been changed since Open
	c.streams.put(s)
	if c.nextID >= lastUsefulID {
		c.end.leaving = true
		c.hook()
	}
}

// Close lets no further stream begin and closes the connection when the last one has ended. Loop
// only.
func (x *Client) Close() {
	if x.end.final || x.end.dead {
		return
	}
	x.end.final = true
	x.goAway(0, codeNone, "")
}

// Abort ends the connection at once, and its streams with r. Loop only.
func (x *Client) Abort(r policy.Reason) { x.abort(r) }

// Streams is how many streams are open.
func (x *Client) Streams() int { return x.live }

// headers implements side: the head of a response, or trailers.
func (x *Client) headers(h *blockHead, block []byte) {
	c := &x.conn
	s := c.streams.get(h.stream)
	switch {
	case s == nil && c.idle(h.stream):
		c.broken("HEADERS of a stream that was never opened")
	case s == nil:
		if c.skip(block) {
			c.lateFrame()
		}
	case s.is(streamGotHead | streamOver | streamRecvEnd):
		c.trailing(s, h, block)
	default:
		c.response(s, h, block)
	}
}

// response takes the head of a response. An interim one that nobody has read yet gives way to
// what comes after it, also where that is malformed.
func (c *conn) response(s *Stream, h *blockHead, block []byte) {
	s.flags &^= streamHeld
	f := c.heads.response(block, h.end, s.asked, &s.head)
	s.in += uint64(h.size)
	switch {
	case f.kind == faultConnection:
		c.compression(f)
		return
	case f.bad():
		c.resetStream(s, codeProtocol, f.text)
		return
	}
	s.flags |= streamHeld
	s.wakeReader()
	if s.head.Status < 200 && s.head.Status != 101 {
		if s.interim++; s.interim > interimAtMost {
			s.flags &^= streamHeld
			c.resetStream(s, codeCalm, "too many interim responses")
		}
		return
	}
	s.flags |= streamGotHead
	if s.head.Framing.Kind == message.Tunnel {
		s.flags |= streamTunnels | streamTunnel
	} else {
		s.expects(&s.head.Framing)
	}
	if h.end {
		s.recvEnd()
	}
}

// abused implements side. The owner hears of it by Closed.
func (x *Client) abused(policy.Reason) {}

// idled implements side.
func (x *Client) idled() { x.Close() }

// settle implements side.
func (x *Client) settle() {
	if x.ended() && !x.end.told {
		x.end.told = true
		x.owner.Closed(x.orderly())
	}
	if x.news {
		x.news = false
		if !x.ended() && x.Room() > 0 {
			x.owner.Room()
		}
	}
}
