package engine

import (
	"crypto/tls"
	"io"
)

// TLS is unmodified crypto/tls over a Conn, under three rules. They exist because crypto/tls
// holds its output lock across writes to the connection, and its input lock across reads,
// while a reader may need the output lock for an alert or a key update:
//
//  1. Beneath crypto/tls a write only appends to the bounded out queue and never parks; the
//     task flushes after tls.Conn.Write has returned.
//  2. Beneath crypto/tls a read never parks either, except in the handshake: it answers "would
//     block", which crypto/tls survives between and inside records, and the task parks outside
//     of all locks. In the handshake, which does not survive that, there is only one task.
//  3. One task reads. Mesh listeners issue no session tickets (the caller's tls.Config).
//
// Cost: one copy of the ciphertext into the out queue; no buffer of its own while idle
// beyond what crypto/tls keeps.
type TLS struct {
	conn      *Conn
	tls       *tls.Conn
	wire      wire
	hands     Cond // tasks that wait for the handshake of another
	err       error
	state     tlsState
	held      bool    // one holds a byte that Pending took
	dry       bool    // crypto/tls holds nothing
	slow      bool    // see SlowKey
	abandoned bool    // a goroutine may still compute the handshake
	one       [1]byte // see Pending
}

type tlsState uint8

const (
	tlsNew tlsState = iota
	tlsShaking
	tlsReady // or failed: err
)

// TLSServer makes the server side of a TLS connection; the handshake comes with Handshake, or
// the first Read or Write.
func TLSServer(c *Conn, cfg *tls.Config) *TLS {
	x := newTLS(c)
	x.tls = tls.Server(&x.wire, cfg)
	return x
}

// SlowKey says, before the handshake, that it signs with RSA: a millisecond, 20 times what
// ECDSA takes. Such a handshake leaves the loop as soon as another waits.
func (x *TLS) SlowKey() { x.slow = true }

// TLSClient makes the client side. cfg must name the server or not verify by name.
func TLSClient(c *Conn, cfg *tls.Config) *TLS {
	x := newTLS(c)
	x.tls = tls.Client(&x.wire, cfg)
	return x
}

func newTLS(c *Conn) *TLS {
	x := &TLS{conn: c}
	x.wire.conn = c
	return x
}

// Conn is the connection below.
func (x *TLS) Conn() *Conn { return x.conn }

// ConnectionState is that of crypto/tls. It does not park.
func (x *TLS) ConnectionState() tls.ConnectionState {
	if x.abandoned {
		return tls.ConnectionState{}
	}
	return x.tls.ConnectionState()
}

// Handshake runs the handshake, paced by Loop.Pace, or beside the loop where that is
// overloaded (ErrOverload: there too), and bounded by the deadlines of the Conn.
// It parks. A second call returns the first one's outcome; other tasks wait for it.
func (x *TLS) Handshake() error {
	l := x.conn.loop
	for x.state == tlsShaking {
		if err := x.hands.Wait(l.current); err != nil {
			return err
		}
	}
	if x.state == tlsReady {
		return x.err
	}
	x.state, x.err = tlsShaking, errHandshakeBroken
	defer func() { // also after a panic below: others wait
		x.state = tlsReady
		if !x.abandoned {
			x.wire.mode = wireReads
		}
		x.hands.Broadcast()
	}()
	x.err = x.shake(l)
	return x.err
}

func (x *TLS) shake(l *Loop) error {
	if t := l.current; t != nil && l.overloaded(x.slow) {
		return x.shakeBeside(t)
	}
	if err := l.Pace(); err != nil {
		return err
	}
	l.counts.shakes++
	x.wire.mode = wireParks
	err := x.tls.Handshake()
	if err != nil {
		x.conn.flushNow() // the alert that says why
		return err
	}
	return x.conn.Flush()
}

// Read parks until there is plaintext. It returns io.EOF after the peer's close_notify, and
// also when the stream ends without one at a record's end (see Truncated).
func (x *TLS) Read(p []byte) (int, error) {
	if err := x.ready(); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil
	}
	if x.held {
		return x.unhold(p), nil
	}
	c := x.conn
	if t := c.loop.current; t != nil {
		if err := t.spend(); err != nil {
			return 0, err
		}
	}
	if c.passed(c.readBy) {
		return 0, ErrTimeout
	}
	for {
		if x.dry && !c.Pending() { // crypto/tls would only come to the same, with an allocation
			if err := c.waitReadable(); err != nil {
				return 0, err
			}
		}
		n, err := x.readNow(p, wireReads)
		if n > 0 {
			return n, nil // an error stays in crypto/tls for the next call
		}
		if err != ErrWouldBlock {
			return 0, err
		}
	}
}

// readNow asks crypto/tls for plaintext without parking, and sends what it answered.
func (x *TLS) readNow(p []byte, mode wireMode) (int, error) {
	x.wire.mode = mode
	n, err := x.tls.Read(p)
	x.wire.mode = wireReads
	if x.conn.out != nil {
		x.conn.flushNow()
	}
	// Nothing is left in crypto/tls if it said so, or if it had just one record since, and
	// that one is all read.
	x.dry = err == ErrWouldBlock || x.wire.frames.complete == 1 && 0 < n && n < len(p)
	if x.dry {
		x.wire.frames.complete = 0
	}
	return n, err
}

// unhold returns the byte that Pending took, and what crypto/tls has behind it.
func (x *TLS) unhold(p []byte) int {
	x.held = false
	p[0] = x.one[0]
	n := 1
	if len(p) > 1 {
		m, _ := x.readNow(p[1:], wireDry)
		n += m
	}
	return n
}

// Pending reports whether Read would find something: a socket not known to be drained, or
// bytes that crypto/tls has buffered. Where the record headers do not tell, it finds that out
// by reading one byte with a connection that offers nothing; the byte is kept for the next
// Read.
func (x *TLS) Pending() bool {
	if x.held || x.conn.Pending() {
		return true
	}
	if x.dry || x.state != tlsReady || x.err != nil {
		return false
	}
	n, err := x.readNow(x.one[:], wireDry)
	x.held = n > 0
	return x.held || err != ErrWouldBlock
}

// Truncated reports whether the stream ended without close_notify: io.EOF then does not prove
// that the peer has sent all.
func (x *TLS) Truncated() bool { return x.conn.flags&flagEOF != 0 }

// ready makes sure that the handshake is done.
func (x *TLS) ready() error {
	if x.state == tlsReady {
		return x.err
	}
	return x.Handshake()
}

// maxPiece is how much plaintext is encrypted before it is flushed, in bytes.
const maxPiece = 32 << 10

// Write encrypts and sends p in pieces; it parks until all is written.
func (x *TLS) Write(p []byte) (int, error) {
	if err := x.ready(); err != nil {
		return 0, err
	}
	total := 0
	for len(p) > 0 {
		piece := p[:min(len(p), maxPiece)]
		n, err := x.encrypt(piece)
		total += n
		if err != nil {
			x.conn.flushNow()
			return total, err
		}
		if err := x.conn.Flush(); err != nil {
			return total, err
		}
		p = p[len(piece):]
	}
	return total, nil
}

// encrypt gives p to crypto/tls, which appends records to the out queue.
func (x *TLS) encrypt(p []byte) (int, error) {
	if n := len(p) + len(p)/32 + 64; x.wire.unbounded { // records of 1,400 bytes first, each with 22 of its own
		x.conn.extend(n)
	} else {
		x.conn.reserve(n)
	}
	x.conn.loop.belowTLS = true
	n, err := x.tls.Write(p)
	x.conn.loop.belowTLS = false
	return n, err
}

// WriteBuffers sends both in as few records as small pieces allow: one record costs more
// than the copy into one buffer.
func (x *TLS) WriteBuffers(head, body []byte) (int, error) {
	if len(head) == 0 {
		return x.Write(body)
	}
	if len(body) == 0 {
		return x.Write(head)
	}
	l := x.conn.loop
	b := l.Buffer(min(len(head)+len(body), maxPiece))
	defer l.Release(b)
	n := copy(b, head)
	m := copy(b[n:], body)
	if n < len(head) {
		if n, err := x.Write(head); err != nil {
			return n, err
		}
		m, err := x.Write(body)
		return len(head) + m, err
	}
	total, err := x.Write(b[:n+m])
	if err != nil || m == len(body) {
		return total, err
	}
	rest, err := x.Write(body[m:])
	return total + rest, err
}

// CloseWrite sends close_notify and ends the outgoing direction; reading goes on.
func (x *TLS) CloseWrite() error {
	if x.state == tlsReady && x.err == nil {
		if err := x.tls.CloseWrite(); err != nil {
			return err
		}
	}
	return x.conn.CloseWrite()
}

// Close sends close_notify if the socket takes it, and closes. It does not park.
func (x *TLS) Close() error {
	if x.conn.Closed() {
		return nil
	}
	if x.state == tlsReady && x.err == nil {
		x.tls.CloseWrite()
	}
	return x.conn.Close()
}

var _ io.ReadWriteCloser = (*TLS)(nil)
