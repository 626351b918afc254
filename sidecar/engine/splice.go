package engine

import (
	"errors"
	"io"
	"syscall"
)

// Splicing: bytes go from one socket to another through a pipe, inside the kernel. Cost: two
// splice calls for as much as the pipe holds, and no copy; worth its pipe for what is large.
// A pipe belongs to a transfer only while there are bytes in it, so a tunnel that waits holds
// none.

// Splicer is what a Poller may also offer. Errors are as in Sockets; EINVAL says that these
// descriptors cannot be spliced.
type Splicer interface {
	// OpenPipe returns a non-blocking pipe of about size bytes.
	OpenPipe(size int) (r, w int, err error)
	ClosePipe(r, w int)
	// Splice moves up to n bytes; 0 and nil at the end of the stream. Before an urgent byte it
	// stops for good: as at the end, or for want of bytes.
	Splice(from, to, n int) (int, error)
	// ReadPipe is Read of a pipe's end.
	ReadPipe(r int, p []byte) (int, error)
	// Peek is Read of a socket's next byte that leaves it there; of an urgent one, the next.
	Peek(fd int) (n int, err error)
}

// ErrNoSplice says that the transfer has to be copied; nothing has been moved.
var ErrNoSplice = errors.New("engine: cannot splice here")

const (
	// pipeSize is what is asked for each pipe, in bytes: the most that one turn moves.
	pipeSize = 256 << 10
	// defaultPipes bounds the pipes of a loop; more transfers are copied.
	defaultPipes = 1024
	// spliceShare is how many bytes moved count as one byte copied in a task's budget.
	spliceShare = 4
)

// Splice moves bytes from Src to Dst, two plain connections of one loop: Fill takes what has
// come, Flush passes it on. The zero value with both connections is ready; End comes last.
// One task uses it, as the reader of Src and the writer of Dst.
type Splice struct {
	Src, Dst *Conn
	pipe     pipe
	held     int // bytes in the pipe
	refused  bool
}

// pipe is a pair of descriptors; the zero value is none.
type pipe struct{ r, w int }

func (p pipe) none() bool { return p.w == 0 }

// Fill parks until bytes have come, and takes up to most of them; the ones before must have
// been flushed. Errors are those of Src.Read, io.EOF at its end, or ErrNoSplice.
func (s *Splice) Fill(most int64) (int, error) {
	c := s.Src
	l := c.loop
	if s.held > 0 {
		panic("engine: splice filled before it was flushed")
	}
	if t := l.current; t != nil {
		if err := t.spend(); err != nil {
			return 0, err
		}
	}
	if c.passed(c.readBy) {
		return 0, ErrTimeout
	}
	for {
		n, err := s.tryFill(int(min(most, pipeSize)))
		if err != ErrWouldBlock {
			return n, err
		}
		if err := c.waitReadable(); err != nil {
			return 0, err
		}
	}
}

// tryFill is Fill without parking.
func (s *Splice) tryFill(most int) (int, error) {
	c := s.Src
	l := c.loop
	checkOwner(l)
	if s.refused {
		return 0, ErrNoSplice
	}
	for {
		if c.flags&flagClosed != 0 {
			return 0, ErrClosed
		}
		if c.flags&(flagReadable|flagUntried) == 0 {
			s.giveBack()
			return 0, ErrWouldBlock
		}
		if s.pipe.none() && !l.takePipe(&s.pipe) {
			return 0, ErrNoSplice
		}
		c.flags &^= flagUntried
		n, err := l.pipes.splicer.Splice(int(c.fd), s.pipe.w, most)
		switch {
		case err == nil && n > 0:
			return s.took(n), nil
		case err == nil, blocked(err) && c.flags&flagEnding != 0:
			if err := s.stopped(); err != ErrWouldBlock {
				s.giveBack()
				return 0, err
			}
		case blocked(err): // the pipe is empty: it is the socket that has nothing
			c.flags &^= flagReadable
		case err == syscall.EINVAL:
			s.refused = true
			s.giveBack()
			return 0, ErrNoSplice
		case !retry(err):
			s.giveBack()
			return 0, err
		}
	}
}

// stopped says why a splice took nothing: io.EOF; ErrNoSplice: it is before an urgent byte,
// which a read passes over; ErrWouldBlock.
func (s *Splice) stopped() error {
	c := s.Src
	for {
		n, err := c.loop.pipes.splicer.Peek(int(c.fd))
		switch {
		case err == nil && n == 0:
			c.flags |= flagEOF
			return io.EOF
		case err == nil:
			s.refused = true
			return ErrNoSplice
		case blocked(err):
			c.flags &^= flagReadable
			return ErrWouldBlock
		case !retry(err):
			return err
		}
	}
}

// took accounts for n bytes in the pipe. How many it takes depends on how they came, so less
// than was asked for says nothing of what is left (compare Conn.took).
func (s *Splice) took(n int) int {
	c := s.Src
	s.held = n
	c.in += uint64(n)
	c.loop.counts.spliced += uint64(n)
	if t := c.loop.current; t != nil {
		t.charge(n / spliceShare)
	}
	return n
}

// Held is the number of bytes that Fill took and Flush has not passed on.
func (s *Splice) Held() int { return s.held }

// Flush parks until what Fill took has been written. Errors are those of Dst.Write.
func (s *Splice) Flush() error {
	c := s.Dst
	if c.out != nil {
		if err := c.Flush(); err != nil {
			return err
		}
	}
	for s.held > 0 {
		if err := c.mayWrite(); err != nil {
			return err
		}
		err := s.tryFlush()
		if err == ErrWouldBlock {
			err = c.waitWritable()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// tryFlush writes once, without parking.
func (s *Splice) tryFlush() error {
	c := s.Dst
	for {
		if c.flags&flagClosed != 0 {
			return ErrClosed
		}
		if c.flags&flagWritable == 0 {
			return ErrWouldBlock
		}
		n, err := c.loop.pipes.splicer.Splice(s.pipe.r, int(c.fd), s.held)
		switch {
		case err == nil && n > 0:
			s.held -= n
			c.outB += uint64(n)
			if t := c.loop.current; t != nil {
				t.charge(n / spliceShare)
			}
			return nil
		case err == nil:
			return io.ErrUnexpectedEOF // less in the pipe than was put there
		case blocked(err):
			c.flags &^= flagWritable
		case err == syscall.EINVAL:
			return s.copyOut()
		case !retry(err):
			return err
		}
	}
}

// copyOut writes what the pipe holds by copying, where the destination refuses splicing. It
// parks.
func (s *Splice) copyOut() error {
	s.refused = true
	l := s.Dst.loop
	b := l.Buffer(bufferClasses[0])
	defer l.Release(b)
	for s.held > 0 {
		n, err := l.pipes.splicer.ReadPipe(s.pipe.r, b[:min(len(b), s.held)])
		if retry(err) {
			continue
		}
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		s.held -= n
		if _, err := s.Dst.Write(b[:n]); err != nil {
			return err
		}
	}
	return nil
}

// End gives the pipe back, or closes it if bytes are left in it. Any number of times. It
// looks whether the source is drained, which no splice tells and a connection that is to be
// kept must know (Conn.Pending).
func (s *Splice) End() {
	s.giveBack()
	c := s.Src
	if c.flags&(flagReadable|flagEnding|flagClosed) != flagReadable || c.loop.pipes.splicer == nil {
		return
	}
	if _, err := c.loop.pipes.splicer.Peek(int(c.fd)); blocked(err) {
		c.flags &^= flagReadable
	}
}

func (s *Splice) giveBack() {
	if s.pipe.none() {
		return
	}
	s.Src.loop.putPipe(s.pipe, s.held == 0)
	s.pipe, s.held = pipe{}, 0
}

// pipes is a loop's pool of empty pipes, last in, first out.
type pipes struct {
	splicer Splicer // nil: this network cannot splice
	free    []pipe
	open    int // free ones included
	decay   decay
}

// takePipe reports whether there was one to take.
func (l *Loop) takePipe(to *pipe) bool {
	p := &l.pipes
	if n := len(p.free); n > 0 {
		*to = p.free[n-1]
		p.free = p.free[:n-1]
	} else {
		if p.splicer == nil || p.open >= l.engine.options.Pipes {
			return false
		}
		r, w, err := p.splicer.OpenPipe(pipeSize)
		if err != nil { // no descriptors, or no such call
			return false
		}
		*to = pipe{r, w}
		p.open++
	}
	p.decay.use(p.open - len(p.free))
	return true
}

// putPipe takes a pipe back; empty says that it may be used again.
func (l *Loop) putPipe(x pipe, empty bool) {
	p := &l.pipes
	if !empty || l.draining.done {
		p.drop(x)
		return
	}
	p.free = append(p.free, x)
	l.armUpkeep()
}

func (p *pipes) drop(x pipe) {
	p.splicer.ClosePipe(x.r, x.w)
	p.open--
}

// trim closes the free pipes that the recent peak does not ask for: each is two descriptors.
func (p *pipes) trim() {
	for range p.decay.step(p.open-len(p.free), len(p.free)) {
		p.pop()
	}
}

func (p *pipes) pop() {
	last := len(p.free) - 1
	p.drop(p.free[last])
	p.free = p.free[:last]
}

func (p *pipes) closeFree() {
	for len(p.free) > 0 {
		p.pop()
	}
}
