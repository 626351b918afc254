package http1

import (
	"net"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Client is the client side of one HTTP/1 connection: a message.Stream that
// carries one exchange after the other. WriteHead begins an exchange.
type Client struct {
	conn
	options *ClientOptions
	interim uint8  // responses of this exchange
	asked   string // the protocol of Upgrade
}

var _ message.Stream = (*Client)(nil)

// interimAtMost bounds the interim responses to one request.
const interimAtMost = 32

// NewClient returns a client on t. o is kept, not copied: it is filled once per
// service, Limits with WithDefaults, and shared.
func NewClient(t Transport, b Buffers, o *ClientOptions) *Client {
	c := &Client{}
	c.Init(t, b, o)
	return c
}

// Init is NewClient for a Client that is part of a larger record.
func (c *Client) Init(t Transport, b Buffers, o *ClientOptions) {
	*c = Client{conn: conn{t: t, b: b, limits: o.Limits.complete(), flags: flagClient}, options: o}
}

// WriteHead implements message.Stream: a new exchange begins. The request is
// HTTP/1.1 whatever the client's version was. Framing.Continue is passed on as
// Expect, Framing.Upgrade as Upgrade; a caller that wants neither clears them.
func (c *Client) WriteHead(h *message.Head) error {
	fresh := c.rstate == readNothing && c.wstate == writeNothing
	switch {
	case c.is(flagBroken | flagWriteBroken):
		return c.writeFailed(net.ErrClosed)
	case !fresh && !c.Reusable():
		return c.misused("a request on a connection that is not reusable")
	}
	state, bad := requestState(h)
	if bad != "" {
		return c.misused(bad)
	}
	c.newMessage()
	c.begin(h, state)
	c.reserve(startRoom + fieldsSize(h) + len(h.MethodBytes()) + len(h.PathBytes()) +
		2*len(h.AuthorityBytes()) + len(c.options.Authority) + len(h.UpgradeBytes()))
	b := c.appendRequestLine(c.pend, h)
	b = appendFields(b, h, state == writeChunked)
	b = c.appendFraming(b, h)
	c.pend = append(b, "\r\n"...)
	return nil
}

func requestState(h *message.Head) (state writeState, bad violation) {
	connect := string(h.MethodBytes()) == "CONNECT"
	switch {
	case h.Status != 0 || !message.IsToken(h.MethodBytes()):
		return 0, "a request without a method"
	case connect && len(h.AuthorityBytes()) == 0:
		return 0, "CONNECT without an authority"
	}
	switch f := &h.Framing; f.Kind {
	case message.NoBody:
		return writeHeadOnly, ""
	case message.Length:
		if f.Length < 0 || connect && f.Length > 0 {
			return 0, "an impossible length"
		}
		if f.Length == 0 {
			return writeHeadOnly, ""
		}
		return writeLength, ""
	case message.Chunked:
		if !connect {
			return writeChunked, ""
		}
	}
	return 0, "a request body that has no end"
}

// begin keeps what the response's framing depends on.
func (c *Client) begin(h *message.Head, state writeState) {
	c.wstate, c.owed = state, h.Framing.Length
	c.interim, c.asked = 0, ""
	method := h.MethodBytes()
	c.set(flagHead, string(method) == "HEAD")
	c.set(flagConnect, string(method) == "CONNECT")
	c.set(flagClose, c.is(flagSetClose))
	if up := h.UpgradeBytes(); len(up) > 0 && state == writeHeadOnly && !c.is(flagConnect) && message.IsValue(up) {
		if name, _ := cutVersion(up); passable(name) {
			c.asked = string(up)
			c.flags |= flagUpgrade
		}
	}
}

func (c *Client) appendRequestLine(b []byte, h *message.Head) []byte {
	b = append(b, h.MethodBytes()...)
	b = append(b, ' ')
	switch path := h.PathBytes(); {
	case c.is(flagConnect):
		b = append(b, h.AuthorityBytes()...)
	case len(path) == 0:
		b = append(b, '/')
	default:
		b = append(b, path...)
	}
	b = append(b, " HTTP/1.1\r\nHost: "...)
	if authority := h.AuthorityBytes(); len(authority) > 0 {
		b = append(b, authority...)
	} else {
		b = append(b, c.options.Authority...)
	}
	return append(b, "\r\n"...)
}

func (c *Client) appendFraming(b []byte, h *message.Head) []byte {
	f := &h.Framing
	switch {
	case f.Kind == message.Length:
		b = appendLength(b, f.Length)
	case f.Kind == message.Chunked:
		b = append(b, "Transfer-Encoding: chunked\r\n"...)
	}
	if f.Continue && f.HasBody() {
		b = append(b, "Expect: 100-continue\r\n"...)
	}
	if f.Trailers && !c.is(flagUpgrade|flagClose) {
		return append(b, "TE: trailers\r\nConnection: TE\r\n"...)
	}
	return appendConnection(b, h, c.is(flagUpgrade), c.is(flagClose))
}

// ReadHead implements message.Stream: interim responses come one by one, then
// the final one. An error before a first byte of the response is UpstreamClosed,
// UpstreamReset or UpstreamTimeout; MaybeProcessed says whether a byte of the
// request may have left, and the caller knows whether the connection was reused.
func (c *Client) ReadHead(h *message.Head) error {
	h.Reset()
	if c.is(flagBroken) {
		return c.readFailed(net.ErrClosed, policy.PhaseWait)
	}
	if c.rstate != readNothing || c.wstate == writeNothing {
		return c.misused("a response read without a request")
	}
	p := parser{h: h, limits: c.limits}
	n, err := c.readSection(&p)
	if err != nil {
		return err
	}
	if f := p.finishResponse(c.flags); f.bad() {
		return c.violated(f, policy.PhaseWait)
	}
	c.r += uint32(n)
	if h.Status < 200 && h.Status != 101 {
		if c.interim++; c.interim > interimAtMost {
			return c.violated(refuse("too many interim responses"), policy.PhaseWait)
		}
		return nil
	}
	if h.Status == 101 && !message.EqualFold(h.UpgradeBytes(), c.asked) {
		return c.violated(refuse("101 to a protocol that was not asked for"), policy.PhaseWait)
	}
	c.set(flagClose, h.Framing.Close)
	if c.beginBody(&h.Framing); c.rstate == readTunnel {
		c.wstate = writeTunnel
	}
	return nil
}

// Sent reports whether a byte of the request may have left.
func (c *Client) Sent() bool { return c.is(flagSent) }

// Reusable reports, after an exchange, whether another request may be sent: both
// messages complete, nothing wants to close, and not a byte in excess. A new
// connection is not reusable yet.
func (c *Client) Reusable() bool {
	return c.complete() && c.Buffered() == 0 && !c.t.Pending()
}
