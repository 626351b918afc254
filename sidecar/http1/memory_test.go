package http1

import (
	"bytes"
	"io"
	"os"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// wire is a transport in memory: reads come from a script of pieces, writes are
// kept, and each call of a write method is one entry of sends.
type wire struct {
	in      [][]byte
	inErr   error // after the script; nil: io.EOF
	out     []byte
	sends   int
	outErr  error
	partial int // bytes written before outErr
	closed  bool
	fin     bool
	pending bool
	cut     bool // it ends as a TLS stream does that was cut
}

func (w *wire) Truncated() bool { return w.cut }

func (w *wire) Read(p []byte) (int, error) {
	for len(w.in) > 0 && len(w.in[0]) == 0 {
		w.in = w.in[1:]
	}
	if len(w.in) == 0 {
		if w.inErr != nil {
			return 0, w.inErr
		}
		return 0, io.EOF
	}
	n := copy(p, w.in[0])
	w.in[0] = w.in[0][n:]
	return n, nil
}

func (w *wire) Write(p []byte) (int, error) { return w.WriteBuffers(p, nil) }

func (w *wire) WriteBuffers(head, body []byte) (int, error) {
	w.sends++
	if w.outErr != nil {
		return w.partial, w.outErr
	}
	w.out = append(append(w.out, head...), body...)
	return len(head) + len(body), nil
}

func (w *wire) CloseWrite() error { w.fin = true; return nil }
func (w *wire) Close() error      { w.closed = true; return nil }
func (w *wire) Pending() bool     { return w.pending }

// lender counts lent buffers and spoils those that come back, so that whoever
// keeps one is found out.
type lender struct{ lent int }

func (l *lender) Buffer(size int) []byte {
	l.lent++
	for _, class := range []int{8 << 10, 32 << 10, 64 << 10} {
		if size <= class {
			size = class
			break
		}
	}
	return make([]byte, size)
}

func (l *lender) Release(b []byte) {
	l.lent--
	for i := range b {
		b[i] = 0xdb
	}
}

// pooled is a lender that allocates nothing once warm.
type pooled struct{ free [][]byte }

func (l *pooled) Buffer(size int) []byte {
	for i := len(l.free) - 1; i >= 0; i-- {
		if b := l.free[i]; len(b) >= size {
			l.free = append(l.free[:i], l.free[i+1:]...)
			return b
		}
	}
	return make([]byte, max(size, 8<<10))
}

func (l *pooled) Release(b []byte) { l.free = append(l.free, b) }

// pieces cuts data in ways that must not matter.
func whole(data string) [][]byte { return [][]byte{[]byte(data)} }

func bytewise(data string) (p [][]byte) {
	for i := range len(data) {
		p = append(p, []byte{data[i]})
	}
	return p
}

func split(data string, at int) [][]byte {
	return [][]byte{[]byte(data[:at]), []byte(data[at:])}
}

func newTestServer(in [][]byte) (*Server, *wire, *lender) {
	w, l := &wire{in: in}, &lender{}
	o := &ServerOptions{Limits: DefaultLimits().WithDefaults(), AllowConnect: true}
	return NewServer(w, l, o), w, l
}

func newTestClient(in [][]byte) (*Client, *wire, *lender) {
	w, l := &wire{in: in}, &lender{}
	return NewClient(w, l, &ClientOptions{Limits: DefaultLimits().WithDefaults()}), w, l
}

// head makes a request head.
func head(method, path string, kind message.BodyKind, length int64) *message.Head {
	h := &message.Head{}
	h.SetRequest(method, path, "host.example")
	h.Framing.Kind, h.Framing.Length = kind, length
	return h
}

func answer(status int, kind message.BodyKind, length int64) *message.Head {
	h := &message.Head{}
	h.SetStatus(status)
	h.Framing.Kind, h.Framing.Length = kind, length
	return h
}

func readAll(s message.Stream) (body []byte, err error) {
	for {
		p, end, err := s.ReadBody()
		body = append(body, p...)
		if end || err != nil {
			return body, err
		}
	}
}

var errTimeout = os.ErrDeadlineExceeded

func unix(s string) string { return string(bytes.ReplaceAll([]byte(s), []byte("\n"), []byte("\r\n"))) }
