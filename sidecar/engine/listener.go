package engine

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Listener accepts on one address with a SO_REUSEPORT socket for each loop. One shared
// socket with EPOLLEXCLUSIVE was measured at 63 to 1 connections over two loops.
type Listener struct {
	// Immutable after Listen.
	engine *Engine
	addr   netip.AddrPort
	accept func(*Loop, *Conn)

	mu     sync.Mutex // guards what follows
	bound  []int      // descriptors by loop, until Start or Close
	closed bool
}

// listenerBit marks the generation of listeners; the rest of it is the place in
// Loop.accepting.
const listenerBit = uint32(1) << 31

// acceptor is one loop's socket of a listener. Owned by the loop.
type acceptor struct {
	listener *Listener
	loop     *Loop
	fd       int
	ready    bool  // connections may wait
	paused   bool  // descriptors had run out
	told     int64 // when the log was told of a shortage, nanoseconds
	timer    *Timer
}

const (
	// acceptsPerTurn bounds what one listener accepts before everything else had its turn.
	acceptsPerTurn = 64
	// maxBacklog is the longest queue of a listener; the kernel caps it further.
	maxBacklog = 65535
	// acceptPause is how long accepting stops when descriptors have run out; half of it to
	// one and a half, so that loops and processes do not retry in step.
	acceptPause = 50 * time.Millisecond
	// tellPeriod keeps a lasting shortage from filling the log.
	tellPeriod = 10 * time.Second
	// A connection goes to another loop if that one has this many fewer connections.
	skewAbsolute, skewFraction = 16, 4
)

// Listen is Bind and Start.
func (e *Engine) Listen(network, address string, accept func(*Loop, *Conn)) (*Listener, error) {
	ln, err := e.Bind(network, address, accept)
	if err == nil {
		ln.Start()
	}
	return ln, err
}

// Bind takes address ("host:port", network "tcp"); connections wait in the kernel's queue
// until Start, so that a taken address is an error before there is anything to serve. accept
// is called on the loop that owns the connection, must not park, and starts a task or calls
// Conn.OnReadable. The caller starts or closes the listener before the engine ends. Any
// goroutine; it may resolve a host name.
func (e *Engine) Bind(network, address string, accept func(*Loop, *Conn)) (*Listener, error) {
	addr, err := resolveListen(network, address)
	if err != nil {
		return nil, fmt.Errorf("engine: listen %s: %w", address, err)
	}
	ln := &Listener{engine: e, accept: accept}
	fds, err := ln.bind(addr)
	if errors.Is(err, syscall.EAFNOSUPPORT) && addr.Addr() == netip.IPv6Unspecified() {
		fds, err = ln.bind(netip.AddrPortFrom(netip.IPv4Unspecified(), addr.Port()))
	}
	if err != nil {
		return nil, fmt.Errorf("engine: listen %s: %w", address, err)
	}
	ln.bound = fds
	return ln, nil
}

// Start accepts on every loop, at once if the engine runs; once, and not after Close. Any
// goroutine.
func (ln *Listener) Start() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	for i, fd := range ln.bound {
		l := ln.engine.loops[i]
		if !l.post(func() { l.startAccepting(ln, fd) }) {
			l.poller.CloseSocket(fd, false)
		}
	}
	ln.bound = nil
}

// bind opens a socket for each loop, all on the port that the first one gets.
func (ln *Listener) bind(addr netip.AddrPort) ([]int, error) {
	loops := ln.engine.loops
	if p, ok := loops[0].poller.(Prober); ok && addr.Port() != 0 {
		if err := p.Probe(addr); err != nil {
			return nil, err
		}
	}
	fds := make([]int, 0, len(loops))
	for _, l := range loops {
		fd, bound, err := l.poller.Listen(addr)
		if err != nil {
			for i, fd := range fds {
				loops[i].poller.CloseSocket(fd, false)
			}
			return nil, err
		}
		fds = append(fds, fd)
		addr, ln.addr = netip.AddrPortFrom(addr.Addr(), bound.Port()), bound
	}
	return fds, nil
}

// Prober is what a Poller may also offer: to say whether an address is free. SO_REUSEPORT
// would let a second process share it silently.
type Prober interface {
	// Probe returns EADDRINUSE if anybody listens on addr. Any goroutine.
	Probe(addr netip.AddrPort) error
}

func resolveListen(network, address string) (netip.AddrPort, error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
	default:
		return netip.AddrPort{}, fmt.Errorf("network %q is not supported", network)
	}
	a, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return netip.AddrPort{}, err
	}
	ap := a.AddrPort()
	if !ap.Addr().IsValid() {
		return netip.AddrPortFrom(netip.IPv6Unspecified(), ap.Port()), nil
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// Addr is the bound address, with the port that port 0 became: the same on all loops.
func (ln *Listener) Addr() netip.AddrPort { return ln.addr }

// Close stops accepting, soon after it returns; connections live on. Before Start it frees
// the address. Any goroutine, any number of times.
func (ln *Listener) Close() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return
	}
	ln.closed = true
	started := ln.bound == nil
	for i, l := range ln.engine.loops {
		if started {
			l.Post(func() { l.stopAccepting(ln) })
		} else {
			l.poller.CloseSocket(ln.bound[i], false)
		}
	}
	ln.bound = nil
}

func (l *Loop) startAccepting(ln *Listener, fd int) {
	a := &acceptor{listener: ln, loop: l, fd: fd, timer: l.NewTimer()}
	if l.draining.active {
		l.poller.CloseSocket(fd, false)
		return
	}
	place := uint32(len(l.accepting))
	if err := l.poller.Add(fd, uint64(uint32(fd))|uint64(place|listenerBit)<<32); err != nil {
		l.engine.options.Log.Error("listener cannot be watched", "address", ln.addr, "error", err)
		l.poller.CloseSocket(fd, false)
		return
	}
	l.accepting = append(l.accepting, a)
}

func (l *Loop) stopAccepting(ln *Listener) {
	for i, a := range l.accepting {
		if a != nil && a.listener == ln {
			l.accepting[i] = nil // places are never used again
			a.close()
		}
	}
}

func (l *Loop) closeAcceptors() {
	for i, a := range l.accepting {
		if a != nil {
			l.accepting[i] = nil
			a.close()
		}
	}
}

// close accepts what is already connected, since closing would reset it, and then closes.
func (a *acceptor) close() {
	a.timer.Stop()
	a.ready, a.paused = !a.loop.draining.forced, false
	for range maxBacklog / acceptsPerTurn {
		if !a.ready || a.paused {
			break
		}
		a.run()
	}
	a.timer.Stop()
	a.loop.poller.CloseSocket(a.fd, false)
}

func (l *Loop) listenerReady(gen uint32) {
	if a := l.accepting[gen&^listenerBit]; a != nil {
		a.ready = true
	}
}

// acceptPending reports whether a listener has more to accept now.
func (l *Loop) acceptPending() bool {
	for _, a := range l.accepting {
		if a != nil && a.ready && !a.paused {
			return true
		}
	}
	return false
}

func (l *Loop) acceptReady() {
	for i := 0; i < len(l.accepting); i++ {
		if a := l.accepting[i]; a != nil && a.ready && !a.paused {
			a.run()
		}
	}
}

func (a *acceptor) run() {
	l := a.loop
	l.doing(inAccept)
	for range acceptsPerTurn {
		fd, peer, err := l.poller.Accept(a.fd)
		switch err {
		case nil:
			l.counts.accepted++
			l.counts.steps++
			a.place(fd, peer)
		case syscall.EAGAIN:
			a.ready = false
			return
		case syscall.EINTR, syscall.ECONNABORTED:
		default:
			a.backOff(err)
			return
		}
	}
}

// backOff pauses accepting: the connections wait in the kernel's queue meanwhile.
func (a *acceptor) backOff(err error) {
	l := a.loop
	l.counts.backoffs++
	if now := l.Nanos(); a.told == 0 || now-a.told > int64(tellPeriod) {
		a.told = now
		l.engine.options.Log.Warn("accepting paused", "address", a.listener.addr, "loop", l.index, "error", err)
	}
	a.paused = true
	a.timer.Arm(acceptPause/2+time.Duration(l.random.Int64N(int64(acceptPause))), func() { a.paused = false })
}

// place gives a new connection to this loop, or to the one with the fewest connections if
// this one has far more.
func (a *acceptor) place(fd int, peer netip.AddrPort) {
	l := a.loop
	to := l.engine.leastLoaded(l)
	if to == l {
		l.welcome(a.listener, fd, peer)
		return
	}
	to.connGauge.Add(1) // until the other loop has counted it
	if !to.post(func() { to.welcome(a.listener, fd, peer) }) {
		l.poller.CloseSocket(fd, false) // that loop has ended
	}
}

func (e *Engine) leastLoaded(self *Loop) *Loop {
	if len(e.loops) == 1 {
		return self
	}
	mine := self.connGauge.Load()
	best, fewest := self, mine
	for _, l := range e.loops {
		if n := l.connGauge.Load(); n < fewest {
			best, fewest = l, n
		}
	}
	if mine-fewest <= skewAbsolute || mine-fewest <= mine/skewFraction {
		return self
	}
	return best
}

func (l *Loop) welcome(ln *Listener, fd int, peer netip.AddrPort) {
	if l.draining.forced {
		l.poller.CloseSocket(fd, false)
		return
	}
	c := l.adopt(fd, peer)
	c.flags |= flagUntried | flagWritable
	if !l.greet(ln, c) {
		c.Close()
	}
}

// greet is guard for an accept function: it saves a closure for each connection.
func (l *Loop) greet(ln *Listener, c *Conn) (ok bool) {
	l.time.stale = true
	defer l.recovered(inAccept)
	ln.accept(l, c)
	return true
}
