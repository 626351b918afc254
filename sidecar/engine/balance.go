package engine

import (
	"net/netip"
	"sync/atomic"
)

// Balance of connections between loops. The kernel spreads them over the SO_REUSEPORT
// sockets by a hash, which leaves 42 and 22 of 64 on two loops; what is too many for one
// goes to another, for the price of a post.

// load is how many connections a loop has, as others see it.
type load struct {
	open   atomic.Int64 // set by the loop
	coming atomic.Int64 // handed over by other loops and not yet counted in open
}

func (l *load) total() int64 { return l.open.Load() + l.coming.Load() }

// A connection goes to another loop if that one has this many fewer connections, and this
// fraction of ours fewer: so no two loops are further apart when a burst of connections that
// stay is over.
const skewAbsolute, skewFraction = 8, 8

// aloneAcceptor is what a Poller may also be: one whose listening sockets do not share an
// address, so that one loop accepts for all.
type aloneAcceptor interface{ acceptsAlone() bool }

// acceptLoops are the loops that listen.
func (e *Engine) acceptLoops() []*Loop {
	if e.alone {
		return e.loops[:1]
	}
	return e.loops
}

// place gives a new connection to this loop, or to the one with the fewest connections if
// this one has far more; of a shared socket always to the one with the fewest.
func (a *acceptor) place(fd int, peer netip.AddrPort) {
	l := a.loop
	to := l.engine.leastLoaded(l, a.listener.shared)
	if to == l {
		l.welcome(a.listener, fd, peer)
		return
	}
	to.load.coming.Add(1)
	if !to.post(func() { to.load.coming.Add(-1); to.welcome(a.listener, fd, peer) }) {
		to.load.coming.Add(-1)
		l.poller.CloseSocket(fd, false) // that loop has ended
	}
}

// leastLoaded is the loop that self gives a connection to: itself unless the skew is large,
// or always that with the fewest connections where even is true.
func (e *Engine) leastLoaded(self *Loop, even bool) *Loop {
	if len(e.loops) == 1 {
		return self
	}
	mine := self.load.total()
	best, fewest := self, mine
	for _, l := range e.loops {
		if n := l.load.total(); n < fewest {
			best, fewest = l, n
		}
	}
	if !even && (mine-fewest <= skewAbsolute || mine-fewest <= mine/skewFraction) {
		return self
	}
	return best
}
