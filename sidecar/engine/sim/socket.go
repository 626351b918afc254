package sim

import (
	"net/netip"
	"slices"
	"syscall"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// socket is one end of a connection, or a listening socket. It outlives its descriptor
// while the other end may still send to it.
type socket struct {
	host   *Host
	fd     int
	poller *poller
	owner  func() // of a scripted peer: told of every edge
	token  uint64
	queued bool // in poller.ready
	state  state

	local, remote netip.AddrPort
	via           netip.AddrPort // where a redirect has it connect to; not valid: remote
	original      netip.AddrPort // of an accepted one: where it was going
	queue         []*socket      // of a listening socket
	other         *socket        // the other end
	pipe          *pipe          // of a pipe's end

	in      []byte // arrived and not read
	ended   bool   // the peer's FIN has arrived
	out     []byte // written and not sent
	flying  int    // bytes sent that have not arrived
	shut    bool   // our direction was ended
	finSent bool
	noRoom  bool          // somebody is to be told of room
	err     syscall.Errno // pending
	last    int64         // when the last segment arrives at the other end
}

type state uint8

const (
	connecting state = iota
	listening
	open
	dead   // reset, or never connected
	closed // here
	piped  // no socket, but the end of a pipe
)

// level is what is ready now: the rules of the kernel's tcp_poll.
func (s *socket) level() engine.Ready {
	switch s.state {
	case connecting, closed, piped:
		return 0
	case listening:
		if len(s.queue) > 0 {
			return engine.Readable
		}
		return 0
	case dead:
		r := engine.Readable | engine.Writable | engine.HalfClosed | engine.HungUp
		if s.err != 0 {
			r |= engine.Failed
		}
		return r
	}
	var r engine.Ready
	if s.ended {
		r |= engine.Readable | engine.HalfClosed
		if s.shut {
			r |= engine.HungUp
		}
	}
	if len(s.in) > 0 {
		r |= engine.Readable
	}
	if s.shut || s.roomy() {
		r |= engine.Writable
	} else {
		s.noRoom = true
	}
	return r
}

// edge makes the socket come up in the next Wait.
func (s *socket) edge() {
	if s.owner != nil {
		if !s.queued {
			s.queued = true
			s.host.world.After(0, func() {
				s.queued = false
				if s.owner != nil { // not closed meanwhile
					s.owner()
				}
			})
		}
		return
	}
	if s.poller != nil && !s.queued {
		s.queued = true
		s.poller.ready = append(s.poller.ready, s)
	}
}

func (s *socket) free() int { return s.host.world.options.SendBuffer - len(s.out) - s.flying }

// roomy reports whether enough of the send buffer is free to be worth telling.
func (s *socket) roomy() bool { return 3*s.free() >= s.host.world.options.SendBuffer }

func (s *socket) takeError() error {
	if s.err == 0 {
		return nil
	}
	err := s.err
	s.err = 0
	return err
}

// read is recv: data first, then the end of the stream, then an error.
func (s *socket) read(p []byte) (int, error) {
	if n := copy(p, s.in); n > 0 {
		s.in = shift(s.in, n)
		s.other.pump() // the window has opened
		return n, nil
	}
	return s.peek()
}

// peek is read of one byte that leaves it there.
func (s *socket) peek() (int, error) {
	if len(s.in) > 0 {
		return 1, nil
	}
	if s.ended {
		return 0, nil
	}
	if err := s.takeError(); err != nil {
		return 0, err
	}
	if s.state == dead {
		return 0, nil
	}
	return 0, syscall.EAGAIN
}

// shift takes n bytes off the front and keeps the memory.
func shift(b []byte, n int) []byte { return b[:copy(b, b[n:])] }

// write is send of p and then q.
func (s *socket) write(p, q []byte) (int, error) {
	if err := s.takeError(); err != nil {
		return 0, err
	}
	if s.state == dead || s.shut {
		return 0, syscall.EPIPE
	}
	n := min(len(p)+len(q), s.free())
	if s.state == connecting {
		n = 0
	}
	if n < len(p)+len(q) {
		s.noRoom = true
	}
	if n <= 0 {
		return 0, syscall.EAGAIN
	}
	s.out = append(s.out, p[:min(n, len(p))]...)
	s.out = append(s.out, q[:max(n-len(p), 0)]...)
	s.pump()
	return n, nil
}

func (s *socket) shutdown() error {
	if s.state != open {
		return syscall.ENOTCONN
	}
	s.shut = true
	s.pump()
	s.edge()
	return nil
}

// close frees the descriptor. Unread data, or reset, makes it a RST; otherwise what was
// written goes out, and then the FIN.
func (s *socket) close(reset bool) {
	w := s.host.world
	w.note('c', uint64(s.fd), flag(reset))
	s.host.sockets[s.fd] = nil
	if s.poller != nil {
		s.poller.forget(s)
		s.poller = nil
	}
	was := s.state
	s.state, s.owner = closed, nil
	switch was {
	case listening:
		for _, k := range s.host.keys(s.local) {
			w.listening[k] = slices.DeleteFunc(w.listening[k], func(o *socket) bool { return o == s })
		}
		for _, q := range s.queue {
			q.state = closed
			q.abandon()
		}
		s.queue = nil
	case open:
		if reset || len(s.in) > 0 {
			s.abandon()
			return
		}
		s.shut = true
		s.pump()
	}
}
