package engine

import (
	"net"
	"time"
)

// wire is the net.Conn that crypto/tls sees. Its deadlines are those of the Conn, which only
// the owner sets; crypto/tls calls SetWriteDeadline by itself around close_notify, to bound
// a write that here cannot block.
type wire struct {
	conn *Conn
	mode wireMode
}

type wireMode uint8

const (
	wireReads wireMode = iota // read what the socket has, never park
	wireDry                   // offer nothing: only what crypto/tls has buffered is wanted
	wireParks                 // in the handshake
)

func (w *wire) Read(p []byte) (int, error) {
	switch w.mode {
	case wireDry:
		return 0, ErrWouldBlock
	case wireParks:
		if err := w.conn.Flush(); err != nil {
			return 0, err
		}
		return w.conn.Read(p)
	}
	return w.conn.TryRead(p)
}

// Write appends; it never parks.
func (w *wire) Write(p []byte) (int, error) {
	if n := w.conn.Append(p); n < len(p) {
		if w.conn.Closed() {
			return 0, ErrClosed
		}
		return 0, errQueueFull
	}
	return len(p), nil
}

// Close does nothing: TLS.Close closes the Conn when it has tried to flush.
func (w *wire) Close() error { return nil }

func (w *wire) LocalAddr() net.Addr              { return w.conn.LocalAddr() }
func (w *wire) RemoteAddr() net.Addr             { return w.conn.RemoteAddr() }
func (w *wire) SetDeadline(time.Time) error      { return nil }
func (w *wire) SetReadDeadline(time.Time) error  { return nil }
func (w *wire) SetWriteDeadline(time.Time) error { return nil }
