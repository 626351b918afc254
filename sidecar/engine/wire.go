package engine

import (
	"net"
	"time"
)

// wire is the net.Conn that crypto/tls sees. Its deadlines are those of the Conn, which only
// the owner sets; crypto/tls calls SetWriteDeadline by itself around close_notify, to bound
// a write that here cannot block.
type wire struct {
	conn   *Conn
	mode   wireMode
	beside *beside // of wireBeside
	frames frames
	// unbounded lifts the bound of the out queue: see TLS.Queue.
	unbounded bool
}

type wireMode uint8

const (
	wireReads  wireMode = iota // read what the socket has, never park
	wireDry                    // offer nothing: only what crypto/tls has buffered is wanted
	wireParks                  // in the handshake
	wireBeside                 // in the handshake, on a goroutine
)

func (w *wire) Read(p []byte) (int, error) {
	switch w.mode {
	case wireDry:
		return 0, ErrWouldBlock
	case wireBeside:
		n, err := w.beside.Read(p)
		w.frames.see(p[:n])
		return n, err
	case wireParks:
		if err := w.conn.Flush(); err != nil {
			return 0, err
		}
		n, err := w.conn.Read(p)
		w.frames.see(p[:n])
		return n, err
	}
	n, err := w.conn.TryRead(p)
	w.frames.see(p[:n])
	return n, err
}

// frames follows the record headers of what crypto/tls was given (RFC 8446 section 5.1), to
// know in the common case that it has nothing left, without asking it.
type frames struct {
	complete int // records that ended since crypto/tls was last known to hold none
	left     int // bytes missing of the current record's body
	have     int // bytes of the current header
	size     [2]byte
}

const recordHeader = 5

func (f *frames) see(p []byte) {
	for len(p) > 0 {
		if f.have < recordHeader {
			if f.have >= 3 {
				f.size[f.have-3] = p[0]
			}
			p = p[1:]
			if f.have++; f.have == recordHeader {
				f.left = int(f.size[0])<<8 | int(f.size[1])
				f.end()
			}
			continue
		}
		n := min(f.left, len(p))
		f.left -= n
		p = p[n:]
		f.end()
	}
}

// end counts the record if nothing of it is missing.
func (f *frames) end() {
	if f.left == 0 {
		f.complete++
		f.have = 0
	}
}

// Write appends; it never parks.
func (w *wire) Write(p []byte) (int, error) {
	if w.mode == wireBeside {
		return w.beside.Write(p)
	}
	if w.unbounded && !w.conn.Closed() {
		w.conn.extend(len(p))
		w.conn.out.buf = append(w.conn.out.buf, p...)
		return len(p), nil
	}
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
