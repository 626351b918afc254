package sim

import (
	"net/netip"
	"syscall"
)

// Peer is an end of a connection that a test plays by hand, without an engine: it takes what
// arrives at once (unless stalled) and sends what it is given as room comes.
type Peer struct {
	socket  *socket
	got     []byte
	pending []byte
	stalled bool
	fin     bool // CloseWrite was asked for
	done    bool // Close was asked for
	ended   bool
	err     error
	react   func(*Peer)
}

// Dial begins to connect a peer to addr; what is sent before it is connected waits.
func (h *Host) Dial(addr netip.AddrPort) *Peer {
	s, err := h.connect(addr, false)
	if err != nil {
		panic("sim: " + err.Error())
	}
	p := &Peer{socket: s}
	s.owner = p.turn
	return p
}

// Serve accepts peers on addr ("host:port") until Close of the returned Server. react is
// called for each with every change: new bytes, the end, an error, and once when it is new.
func (h *Host) Serve(addr string, react func(*Peer)) *Server {
	l := &socket{}
	_, bound, err := h.listen(netip.MustParseAddrPort(addr), l)
	if err != nil {
		panic("sim: " + err.Error())
	}
	server := &Server{socket: l, addr: bound}
	l.owner = func() {
		for _, s := range l.queue {
			if _, err := h.install(s); err != nil {
				panic("sim: " + err.Error())
			}
			p := &Peer{socket: s, react: react}
			s.owner = p.turn
			server.peers = append(server.peers, p)
			s.edge()
		}
		l.queue = nil
	}
	return server
}

// React makes react be called with every change, as that of Serve is.
func (p *Peer) React(react func(*Peer)) { p.react = react }

// Server is a scripted listener.
type Server struct {
	socket *socket
	addr   netip.AddrPort
	peers  []*Peer
}

// Addr is the bound address.
func (s *Server) Addr() netip.AddrPort { return s.addr }

// Peers are the connections accepted so far, closed ones included.
func (s *Server) Peers() []*Peer { return s.peers }

// Close stops listening; connections stay.
func (s *Server) Close() { s.socket.close(false) }

// turn moves what can be moved and tells the script.
func (p *Peer) turn() {
	if p.closed() {
		return
	}
	if !p.stalled {
		p.drain()
	}
	p.flush()
	if p.react != nil {
		p.react(p)
	}
}

func (p *Peer) closed() bool { return p.socket.state == closed }

func (p *Peer) drain() {
	var b [4096]byte
	for !p.ended && p.err == nil {
		n, err := p.socket.read(b[:])
		p.got = append(p.got, b[:n]...)
		switch {
		case err == syscall.EAGAIN:
			return
		case err != nil:
			p.err = err
		case n == 0:
			p.ended = true
		}
	}
}

func (p *Peer) flush() {
	for len(p.pending) > 0 && p.socket.state == open {
		n, err := p.socket.write(p.pending, nil)
		p.pending = shift(p.pending, n)
		if err != nil {
			break
		}
	}
	if p.done && p.socket.state == dead { // what was to be sent before is lost
		p.socket.close(false)
		return
	}
	if len(p.pending) > 0 || p.socket.state != open {
		return
	}
	if p.done {
		p.socket.close(false)
	} else if p.fin && !p.socket.shut {
		p.socket.shutdown()
	}
}

// Send queues text to be sent.
func (p *Peer) Send(text string) {
	p.pending = append(p.pending, text...)
	if !p.closed() {
		p.flush()
	}
}

// CloseWrite ends the outgoing direction behind what was sent.
func (p *Peer) CloseWrite() { p.fin = true; p.Send("") }

// Close closes behind what was sent. As with any socket it becomes a reset where received
// data was not read, or more arrives.
func (p *Peer) Close() {
	p.done = true
	p.Send("")
	if !p.closed() && p.socket.state != open {
		p.socket.close(false)
	}
}

// Reset closes with a RST.
func (p *Peer) Reset() {
	if !p.closed() {
		p.socket.close(true)
	}
}

// Stall stops reading: received bytes stay in the socket, and its window closes.
func (p *Peer) Stall() { p.stalled = true }

// Resume reads again.
func (p *Peer) Resume() {
	p.stalled = false
	p.socket.edge()
}

// Got is all that was read.
func (p *Peer) Got() string { return string(p.got) }

// Take returns what was read and forgets it.
func (p *Peer) Take() string {
	s := string(p.got)
	p.got = nil
	return s
}

// Ended reports that the other side's FIN was read.
func (p *Peer) Ended() bool { return p.ended }

// Err is the error that ended reading: a reset, or why connecting failed.
func (p *Peer) Err() error { return p.err }

// Over reports that nothing more can be read.
func (p *Peer) Over() bool { return p.ended || p.err != nil || p.closed() }

// Unsent is the number of bytes that were queued and found no room.
func (p *Peer) Unsent() int { return len(p.pending) }

// Remote is the address of the other side.
func (p *Peer) Remote() netip.AddrPort { return p.socket.remote }

// Return puts back what Take returned and was not used.
func (p *Peer) Return(text string) { p.got = append([]byte(text), p.got...) }

// LocalAddr is our end.
func (p *Peer) LocalAddr() netip.AddrPort { return p.socket.local }

// Size is len(Got()) without the copy.
func (p *Peer) Size() int { return len(p.got) }
