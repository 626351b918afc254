package identity

import (
	"io"
	"net"
	"sync"
	"time"
)

// bufferedPipe is a connection in memory with unbounded buffers. net.Pipe will not
// do: a server that refuses a client's certificate writes its alert while the
// client still writes, and without buffers both wait for ever. sync.Cond lets it
// be used inside testing/synctest.
func bufferedPipe() (net.Conn, net.Conn) {
	x, y := newHalf(), newHalf()
	return &pipeEnd{in: x, out: y}, &pipeEnd{in: y, out: x}
}

type half struct {
	mu     sync.Mutex
	more   *sync.Cond
	data   []byte
	closed bool
}

func newHalf() *half {
	h := &half{}
	h.more = sync.NewCond(&h.mu)
	return h
}

type pipeEnd struct{ in, out *half }

func (p *pipeEnd) Read(b []byte) (int, error) {
	p.in.mu.Lock()
	defer p.in.mu.Unlock()
	for len(p.in.data) == 0 {
		if p.in.closed {
			return 0, io.EOF
		}
		p.in.more.Wait()
	}
	n := copy(b, p.in.data)
	p.in.data = p.in.data[n:]
	return n, nil
}

func (p *pipeEnd) Write(b []byte) (int, error) {
	p.out.mu.Lock()
	defer p.out.mu.Unlock()
	if p.out.closed {
		return 0, io.ErrClosedPipe
	}
	p.out.data = append(p.out.data, b...)
	p.out.more.Broadcast()
	return len(b), nil
}

func (p *pipeEnd) Close() error {
	for _, h := range []*half{p.in, p.out} {
		h.mu.Lock()
		h.closed = true
		h.more.Broadcast()
		h.mu.Unlock()
	}
	return nil
}

func (p *pipeEnd) LocalAddr() net.Addr              { return &net.UnixAddr{Name: "pipe"} }
func (p *pipeEnd) RemoteAddr() net.Addr             { return &net.UnixAddr{Name: "pipe"} }
func (p *pipeEnd) SetDeadline(time.Time) error      { return nil }
func (p *pipeEnd) SetReadDeadline(time.Time) error  { return nil }
func (p *pipeEnd) SetWriteDeadline(time.Time) error { return nil }
