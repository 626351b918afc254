package engine

import (
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// Listener accepts on one address: a TCP one with a SO_REUSEPORT socket for each loop (one
// shared socket with EPOLLEXCLUSIVE was measured at 63 to 1 connections over two loops), a
// Unix one, or where SO_REUSEPORT does not spread connections, with a single socket on the
// first loop, which posts each connection to the least loaded loop.
type Listener struct {
	// Immutable after Bind.
	engine *Engine
	addr   netip.AddrPort // zero for a Unix socket
	file   *socketFile    // nil for TCP
	shared bool           // one socket serves all loops
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
	// acceptsPerTurn bounds what one listener accepts before everything else had its turn,
	// unless SetAcceptBurst says otherwise.
	acceptsPerTurn = 64
	// maxBacklog is the longest queue of a listener; the kernel caps it further.
	maxBacklog = 65535
	// acceptPause is how long accepting stops when descriptors have run out; half of it to
	// one and a half, so that loops and processes do not retry in step.
	acceptPause = 50 * time.Millisecond
	// tellPeriod keeps a lasting shortage from filling the log.
	tellPeriod = 10 * time.Second
)

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

// Close stops accepting, soon after it returns; connections live on. Before Start it frees
// the address. The file of a Unix socket goes first, unless another socket has taken its
// name. Any goroutine, any number of times.
func (ln *Listener) Close() {
	ln.mu.Lock()
	defer ln.mu.Unlock()
	if ln.closed {
		return
	}
	ln.closed = true
	ln.file.remove()
	started := ln.bound == nil
	for i, l := range ln.engine.loops {
		if started {
			l.Post(func() { l.stopAccepting(ln) })
		} else if i < len(ln.bound) {
			l.poller.CloseSocket(ln.bound[i], false)
		}
	}
	ln.bound = nil
}

// SetAcceptBurst bounds what one listener accepts on a loop before everything else there had
// its turn; 0: 64. Any goroutine, at any time.
func (e *Engine) SetAcceptBurst(n int) { e.acceptBurst.Store(int64(n)) }

func (e *Engine) burst() int {
	if n := e.acceptBurst.Load(); n > 0 {
		return int(n)
	}
	return acceptsPerTurn
}

func (l *Loop) startAccepting(ln *Listener, fd int) {
	a := &acceptor{listener: ln, loop: l, fd: fd, timer: l.NewTimer()}
	if l.draining.active {
		l.poller.CloseSocket(fd, false)
		return
	}
	place := uint32(len(l.accepting))
	if err := l.poller.Add(fd, uint64(uint32(fd))|uint64(place|listenerBit)<<32); err != nil {
		l.engine.options.Log.Error("listener cannot be watched", "address", ln.Address(), "error", err)
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
	a.listener.file.remove()
	a.ready, a.paused = !a.loop.draining.forced, false
	for range 1 + maxBacklog/a.loop.engine.burst() {
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
	for range l.engine.burst() {
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
		l.engine.options.Log.Warn("accepting paused", "address", a.listener.Address(), "loop", l.index, "error", err)
	}
	a.paused = true
	a.timer.Arm(acceptPause/2+time.Duration(l.random.Int64N(int64(acceptPause))), func() { a.paused = false })
}

func (l *Loop) welcome(ln *Listener, fd int, peer netip.AddrPort) {
	if l.draining.forced {
		l.poller.CloseSocket(fd, false)
		return
	}
	c := l.adopt(fd, peer)
	c.flags |= flagUntried | flagWritable
	if ln.file != nil {
		c.flags |= flagUnix
	}
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
