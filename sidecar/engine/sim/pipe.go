package sim

import (
	"syscall"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// pipe is what both descriptors of a pipe lead to.
type pipe struct {
	data []byte
	room int
}

var _ engine.Splicer = (*poller)(nil)

// OpenPipe implements engine.Splicer.
func (p *poller) OpenPipe(size int) (r, w int, err error) {
	shared := &pipe{room: size}
	if r, err = p.host.install(&socket{state: piped, pipe: shared}); err != nil {
		return 0, 0, err
	}
	if w, err = p.host.install(&socket{state: piped, pipe: shared}); err != nil {
		p.CloseSocket(r, false)
		return 0, 0, err
	}
	return r, w, nil
}

// ClosePipe implements engine.Splicer.
func (p *poller) ClosePipe(r, w int) {
	p.CloseSocket(r, false)
	p.CloseSocket(w, false)
}

// Splice implements engine.Splicer. How much a pipe takes at once depends, in the kernel, on
// how the bytes lie in its pages: here it is as random as segments are.
func (p *poller) Splice(from, to, n int) (int, error) {
	src, err := p.host.get(from)
	if err != nil {
		return 0, err
	}
	dst, err := p.host.get(to)
	if err != nil {
		return 0, err
	}
	if src.pipe != nil {
		return src.pipe.drain(dst, n)
	}
	if dst.pipe == nil {
		return 0, syscall.EINVAL
	}
	return dst.pipe.fill(src, n)
}

func (x *pipe) fill(src *socket, n int) (int, error) {
	n = min(n, x.room-len(x.data))
	if n <= 0 {
		return 0, syscall.EAGAIN
	}
	b := make([]byte, src.host.world.segment(n))
	n, err := src.read(b)
	x.data = append(x.data, b[:n]...)
	return n, err
}

func (x *pipe) drain(dst *socket, n int) (int, error) {
	if len(x.data) == 0 {
		return 0, syscall.EAGAIN
	}
	n, err := dst.write(x.data[:min(n, len(x.data))], nil)
	x.data = shift(x.data, n)
	return n, err
}

// ReadPipe implements engine.Splicer.
func (p *poller) ReadPipe(r int, b []byte) (int, error) {
	s, err := p.host.get(r)
	if err != nil {
		return 0, err
	}
	n := copy(b, s.pipe.data)
	if n == 0 {
		return 0, syscall.EAGAIN
	}
	s.pipe.data = shift(s.pipe.data, n)
	return n, nil
}

// Peek implements engine.Splicer.
func (p *poller) Peek(fd int) (int, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return 0, err
	}
	return s.peek()
}
