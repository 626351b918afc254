package sim

import (
	"net/netip"
	"syscall"

	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Host is one process on a machine of its own: an address and a table of descriptors.
type Host struct {
	world   *World
	addr    netip.Addr
	sockets []*socket // by descriptor
	limit   int
	port    uint16 // the last ephemeral one
	out, in Redirect
	all     bool // out rules engines, too
	engine  bool
}

// firstFD is the lowest descriptor: three are taken in every process.
const firstFD = 3

// Host returns the host of an address, made at first use.
func (w *World) Host(addr string) *Host {
	ip := netip.MustParseAddr(addr)
	h := w.hosts[ip]
	if h == nil {
		h = &Host{world: w, addr: ip, sockets: make([]*socket, firstFD), limit: 1 << 20, port: 32767}
		w.hosts[ip] = h
	}
	return h
}

// Engine makes an engine whose network and time are simulated. The World turns and closes
// it. o's Poller, Clock, Seed,
// Watchdog and HandshakeOffload are replaced.
func (h *Host) Engine(o engine.Options) (*engine.Engine, error) {
	w := h.world
	var pollers []*poller
	o.Clock = worldClock{w}
	o.Seed = w.options.Seed + 1
	o.Watchdog.Disabled = true
	o.HandshakeOffload = engine.OffloadNever // nothing happens beside the loops
	o.Poller = func(int) (engine.Poller, error) {
		p := &poller{host: h}
		pollers = append(pollers, p)
		return p, nil
	}
	e, err := engine.New(o)
	if err != nil {
		return nil, err
	}
	h.engine = true
	w.engines = append(w.engines, e)
	w.loops = append(w.loops, e.Loops()...)
	w.pollers = append(w.pollers, pollers...)
	return e, nil
}

// SetLimit makes descriptors numbered limit and above fail with EMFILE.
func (h *Host) SetLimit(limit int) { h.limit = limit }

// Open is the number of open descriptors.
func (h *Host) Open() (n int) {
	for _, s := range h.sockets {
		if s != nil {
			n++
		}
	}
	return n
}

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// install gives s the lowest free descriptor.
func (h *Host) install(s *socket) (int, error) {
	fd := firstFD
	for fd < len(h.sockets) && h.sockets[fd] != nil {
		fd++
	}
	if fd >= h.limit {
		return -1, syscall.EMFILE
	}
	if fd == len(h.sockets) {
		h.sockets = append(h.sockets, nil)
	}
	h.sockets[fd], s.fd, s.host = s, fd, h
	return fd, nil
}

func (h *Host) get(fd int) (*socket, error) {
	if fd < 0 || fd >= len(h.sockets) || h.sockets[fd] == nil {
		return nil, syscall.EBADF
	}
	return h.sockets[fd], nil
}

// ephemeral returns a port that nobody was given before (until they wrap).
func (h *Host) ephemeral() uint16 {
	if h.port == 65535 {
		h.port = 32767
	}
	h.port++
	return h.port
}

// listenKey is where somebody listens; host is nil except for loopback addresses.
type listenKey struct {
	host *Host
	addr netip.AddrPort
}

func (h *Host) key(addr netip.AddrPort) listenKey {
	if addr.Addr().IsLoopback() {
		return listenKey{h, addr}
	}
	return listenKey{nil, addr}
}

// keys are the places that a listener on addr answers at.
func (h *Host) keys(addr netip.AddrPort) []listenKey {
	if !addr.Addr().IsUnspecified() {
		return []listenKey{h.key(addr)}
	}
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	return []listenKey{
		h.key(netip.AddrPortFrom(h.addr, addr.Port())),
		h.key(netip.AddrPortFrom(loopback, addr.Port())),
	}
}

// Poller returns a bare poller of the host, for tests of the network itself.
func (h *Host) Poller() engine.Poller { return &poller{host: h} }
