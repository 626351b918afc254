package sim

import (
	"bytes"
	"net/netip"
	"syscall"
	"time"
)

// What travels between sockets. Each direction of a connection keeps its order; directions
// and connections overtake each other as the delays have it.

// send makes f happen at the other end.
func (s *socket) send(f func()) {
	w := s.host.world
	if l := w.linkOf(s); l.a != l.b {
		if waiting, ok := w.cut[l]; ok {
			w.cut[l] = append(waiting, held{s, f})
			return
		}
	}
	s.last = max(s.last, w.now+w.delay())
	w.agenda.add(s.last, f)
}

// pump sends what the window of the other end allows, and the FIN behind the last byte.
func (s *socket) pump() {
	if s.state != open && s.state != closed {
		return
	}
	w := s.host.world
	for len(s.out) > 0 {
		window := w.options.ReceiveBuffer - len(s.other.in) - s.flying
		if window <= 0 {
			return
		}
		n := w.segment(min(window, len(s.out)))
		data := bytes.Clone(s.out[:n])
		s.out = shift(s.out, n)
		s.flying += n
		s.send(func() { s.other.arrive(data) })
	}
	if s.shut && !s.finSent {
		s.finSent = true
		s.send(s.other.finish)
	}
}

// arrive takes a segment. The acknowledgement is back at once.
func (s *socket) arrive(data []byte) {
	from := s.other
	from.flying -= len(data)
	s.host.world.note('d', place(s.local), place(s.remote), uint64(len(data)))
	switch s.state {
	case closed: // nobody is there
		s.out = nil
		s.send(from.reset)
	case open:
		s.in = append(s.in, data...)
		s.edge()
	}
	if from.noRoom && from.state == open && from.roomy() {
		from.noRoom = false
		from.edge()
	}
}

// finish takes the FIN.
func (s *socket) finish() {
	s.host.world.note('f', place(s.local), place(s.remote))
	if s.state == open {
		s.ended = true
		s.edge()
	}
	if s.other.state == open {
		s.other.edge() // its FIN was acknowledged
	}
}

// abandon sends a RST and forgets what was not sent.
func (s *socket) abandon() {
	s.out = nil
	s.send(s.other.reset)
}

// reset takes a RST.
func (s *socket) reset() {
	s.host.world.note('x', place(s.local), place(s.remote))
	switch {
	case s.state == closed:
		s.out = nil
	case s.state == open && s.ended:
		s.fail(syscall.EPIPE)
	case s.state == open:
		s.fail(syscall.ECONNRESET)
	}
}

func (s *socket) fail(err syscall.Errno) {
	s.state, s.err, s.out = dead, err, nil
	s.edge()
}

// connect opens a socket and sends the first SYN.
func (h *Host) connect(addr netip.AddrPort, byEngine bool) (*socket, error) {
	s := &socket{state: connecting}
	if _, err := h.install(s); err != nil {
		return nil, err
	}
	from := h.addr
	if addr.Addr().IsLoopback() {
		from = addr.Addr()
	}
	s.local, s.remote = netip.AddrPortFrom(from, h.ephemeral()), addr
	s.via = h.redirected(addr, byEngine)
	h.world.note('s', place(s.local), place(addr))
	s.send(func() { s.knock(0) })
	return s, nil
}

// maxSYN is how often a SYN is sent again, first after a second, then after twice the time.
const maxSYN = 6

// knock is a SYN that arrives where s connects to.
func (s *socket) knock(again int) {
	h, w := s.host, s.host.world
	if s.state != connecting {
		return
	}
	to := s.via
	if o := w.hosts[to.Addr()]; o != nil && o != h {
		to = o.redirectedIn(to)
	}
	group := w.listening[h.key(to)]
	if !w.dark[s.remote] && len(group) == 0 {
		s.send(func() { s.refuse(syscall.ECONNREFUSED) })
		return
	}
	if !w.dark[s.remote] {
		l := group[w.random.IntN(len(group))]
		if len(l.queue) < w.options.Backlog {
			s.admit(l, to)
			return
		}
	}
	w.After(time.Second<<again, func() {
		if again == maxSYN {
			s.refuse(syscall.ETIMEDOUT)
			return
		}
		s.knock(again + 1)
	})
}

func (s *socket) refuse(err syscall.Errno) {
	if s.state == connecting {
		s.fail(err)
	}
}

// admit makes the other end of s, which has come to at, in the queue of l, and answers the SYN.
func (s *socket) admit(l *socket, at netip.AddrPort) {
	o := &socket{host: l.host, fd: -1, state: open, local: at, remote: s.local, other: s, original: s.remote}
	s.other = o
	l.queue = append(l.queue, o)
	l.edge()
	o.send(func() {
		switch s.state {
		case connecting:
			s.state = open
			s.edge()
		case closed:
			s.send(o.reset)
		}
	})
}
