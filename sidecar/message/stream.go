package message

import "github.com/larboard-proxy/larboard/policy"

// Stream is one exchange on one connection: a codec's server side reads a
// request and writes a response, its client side the reverse. An HTTP/1
// connection offers one at a time, HTTP/2 many; the exchange cannot tell.
//
// All methods are called on a task of the connection's loop and may park. One
// task at a time reads (ReadHead, ReadBody) and one at a time writes (the
// others); they may be two tasks. Errors are *policy.Error with Side, Reason and
// Phase set as seen from the stream (server streams blame Downstream, client
// streams Upstream). After an error only Reset is of use.
type Stream interface {
	// ReadHead reads the next head into h (which it resets first). A client
	// stream returns interim responses (1xx other than 101) one by one, and io.EOF
	// is never returned by it; a server stream returns bare io.EOF when the
	// client closed between requests.
	ReadHead(h *Head) error
	// ReadBody returns the next piece of the body, decoded, as a view that is valid
	// until the next call; end marks the last piece (which may be empty). For
	// Tunnel it returns opaque bytes until the peer's FIN.
	ReadBody() (p []byte, end bool, err error)
	// Trailers returns the fields after a chunked body once end was seen, or nil.
	// Valid as long as the head that was read.
	Trailers() *Head
	// WriteHead takes h's start line, fields and Framing. Nothing is sent before
	// the first WriteBody or Flush (except an interim head, which is sent at once).
	// h must stay as it is until then, or until it is recalled.
	WriteHead(h *Head) error
	// WriteBody sends p in h's framing together with whatever is pending; p is not
	// kept. end marks the last piece, which completes the message.
	WriteBody(p []byte, end bool) error
	// WriteTrailers ends a chunked body with fields (dropped for other framings).
	WriteTrailers(t *Head) error
	// Flush sends what is pending: a head without a body is complete with it.
	Flush() error
	// Reset gives the stream up: HTTP/1 closes the connection.
	Reset(r policy.Reason)
}
