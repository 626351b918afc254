package engine

var _ Splicer = (*netpoll)(nil)

// OpenPipe implements Splicer.
func (p *netpoll) OpenPipe(size int) (r, w int, err error) { return sockets{}.OpenPipe(size) }

// ClosePipe implements Splicer.
func (p *netpoll) ClosePipe(r, w int) { sockets{}.ClosePipe(r, w) }

// Splice implements Splicer.
func (p *netpoll) Splice(from, to, n int) (int, error) {
	n, err := sockets{}.Splice(from, to, n)
	if blocked(err) {
		p.awaitRoom(to) // does nothing if it is the pipe
	}
	return n, err
}

// ReadPipe implements Splicer.
func (p *netpoll) ReadPipe(r int, b []byte) (int, error) { return sockets{}.ReadPipe(r, b) }

// Peek implements Splicer.
func (p *netpoll) Peek(fd int) (int, error) { return sockets{}.Peek(fd) }
