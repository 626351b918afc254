package sim

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// poller is the engine.Poller of one loop.
type poller struct {
	host   *Host
	ready  []*socket // with an edge that was not reported, first come first
	woken  atomic.Bool
	asleep bool           // the last Wait found nothing and was to block
	until  int64          // and when it was to end; -1: never
	ghosts map[int]uint64 // tokens of closed descriptors
}

var (
	_ engine.Poller = (*poller)(nil)
	_ engine.Prober = (*poller)(nil)

	_ engine.OriginalDestinations = (*poller)(nil)
	_ engine.Peeker               = (*poller)(nil)
)

// Add implements engine.Poller.
func (p *poller) Add(fd int, token uint64) error {
	s, err := p.host.get(fd)
	if err != nil {
		return err
	}
	if s.poller != nil {
		return syscall.EEXIST
	}
	s.poller, s.token = p, token
	if s.level() != 0 {
		s.edge()
	}
	return nil
}

// Wait implements engine.Poller. It never blocks: a wait that would is noted, and the World
// moves its time when all loops are in one.
func (p *poller) Wait(events []engine.Event, timeout time.Duration) (int, error) {
	w := p.host.world
	w.deliver()
	n := p.report(events)
	p.asleep, p.until = false, -1
	if n > 0 || p.woken.Swap(false) || timeout == 0 {
		return n, nil
	}
	p.asleep = true
	if timeout > 0 {
		p.until = w.now + int64(timeout)
	}
	if w.ending {
		if next := w.next(); next > w.now {
			w.now = next
		}
	}
	return 0, nil
}

// report takes the edges: each is reported as the level that it has by now.
func (p *poller) report(events []engine.Event) int {
	n, taken := 0, 0
	for _, s := range p.ready {
		if n == len(events) {
			break
		}
		taken++
		s.queued = false
		if r := s.level(); r != 0 {
			w := p.host.world
			w.note('e', uint64(s.fd), uint64(r))
			if w.reports++; w.options.Lose > 0 && w.reports%w.options.Lose == 0 {
				continue
			}
			events[n] = engine.Event{Token: s.token, Ready: r}
			n++
		}
		if token, ok := p.ghosts[s.fd]; ok && n < len(events) {
			delete(p.ghosts, s.fd)
			events[n] = engine.Event{Token: token, Ready: everything}
			n++
		}
	}
	p.ready = p.ready[taken:]
	return n
}

const everything = engine.Readable | engine.Writable | engine.HalfClosed | engine.HungUp | engine.Failed

// forget takes s out, since its descriptor is closed.
func (p *poller) forget(s *socket) {
	if i := slices.Index(p.ready, s); i >= 0 {
		p.ready = slices.Delete(p.ready, i, i+1)
	}
	if p.host.world.options.Phantoms {
		if p.ghosts == nil {
			p.ghosts = map[int]uint64{}
		}
		p.ghosts[s.fd] = s.token
	}
}

// Wake implements engine.Poller.
func (p *poller) Wake() { p.woken.Store(true) }

// Close implements engine.Poller.
func (p *poller) Close() error { return nil }

// Probe implements engine.Prober.
func (p *poller) Probe(addr netip.AddrPort) error {
	for _, k := range p.host.keys(addr) {
		if len(p.host.world.listening[k]) > 0 {
			return syscall.EADDRINUSE
		}
	}
	return nil
}

// Listen implements engine.Sockets.
func (p *poller) Listen(addr netip.AddrPort) (int, netip.AddrPort, error) {
	return p.host.listen(addr, &socket{})
}

func (h *Host) listen(addr netip.AddrPort, s *socket) (int, netip.AddrPort, error) {
	if addr.Port() == 0 {
		addr = netip.AddrPortFrom(addr.Addr(), h.ephemeral())
	}
	s.local, s.state = addr, listening
	fd, err := h.install(s)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	for _, k := range h.keys(addr) {
		h.world.listening[k] = append(h.world.listening[k], s)
	}
	return fd, addr, nil
}

// Accept implements engine.Sockets.
func (p *poller) Accept(fd int) (int, netip.AddrPort, error) {
	l, err := p.host.get(fd)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	if len(l.queue) == 0 {
		return -1, netip.AddrPort{}, syscall.EAGAIN
	}
	s := l.queue[0]
	conn, err := p.host.install(s)
	if err != nil {
		return -1, netip.AddrPort{}, err
	}
	l.queue = l.queue[1:]
	p.host.world.note('a', uint64(fd), uint64(conn))
	return conn, s.remote, nil
}

// Connect implements engine.Sockets.
func (p *poller) Connect(addr netip.AddrPort) (int, error) {
	s, err := p.host.connect(addr, true)
	if err != nil {
		return -1, err
	}
	return s.fd, syscall.EINPROGRESS
}

// SocketError implements engine.Sockets.
func (p *poller) SocketError(fd int) error {
	s, err := p.host.get(fd)
	if err != nil {
		return err
	}
	return s.takeError()
}

// Read implements engine.Sockets.
func (p *poller) Read(fd int, b []byte) (int, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return 0, err
	}
	return s.read(b)
}

// Write implements engine.Sockets.
func (p *poller) Write(fd int, b []byte) (int, error) { return p.WriteBuffers(fd, b, nil) }

// WriteBuffers implements engine.Sockets.
func (p *poller) WriteBuffers(fd int, head, body []byte) (int, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return 0, err
	}
	return s.write(head, body)
}

// ShutdownWrite implements engine.Sockets.
func (p *poller) ShutdownWrite(fd int) error {
	s, err := p.host.get(fd)
	if err != nil {
		return err
	}
	return s.shutdown()
}

// CloseSocket implements engine.Sockets.
func (p *poller) CloseSocket(fd int, reset bool) error {
	s, err := p.host.get(fd)
	if err != nil {
		return err
	}
	s.close(reset)
	return nil
}

// LocalAddr implements engine.Sockets.
func (p *poller) LocalAddr(fd int) (netip.AddrPort, error) {
	s, err := p.host.get(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return s.local, nil
}
