package http1

import "github.com/larboard-proxy/larboard/sidecar/message"

// Client is the client side of one HTTP/1 connection: a message.Stream that
// carries one exchange after the other. WriteHead begins an exchange.
type Client struct {
	conn
}

var _ message.Stream = (*Client)(nil)

// NewClient returns a client on t. o is kept, not copied.
func NewClient(t Transport, b Buffers, o *ClientOptions) *Client { panic("unbuilt") }

// WriteHead implements message.Stream: a new exchange begins.
func (c *Client) WriteHead(h *message.Head) error { panic("unbuilt") }

// ReadHead implements message.Stream.
func (c *Client) ReadHead(h *message.Head) error { panic("unbuilt") }

// Reusable reports, after an exchange, whether another request may be sent: both
// messages complete, nothing wants to close, and not a byte in excess.
func (c *Client) Reusable() bool { panic("unbuilt") }
