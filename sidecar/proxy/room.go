package proxy

import (
	"fmt"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// room counts connections, over all loops, and never more than its limit.
type room struct{ used atomic.Int64 }

// take makes room for one more; 0 is no limit. Not Add and look: a connection that
// is about to be refused must not take the place of one that is not.
func (r *room) take(limit int64) bool {
	for {
		n := r.used.Load()
		if limit > 0 && n >= limit {
			return false
		}
		if r.used.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

func (r *room) give() { r.used.Add(-1) }

// admit takes a place for a connection of l in both counts, or says why there is
// none.
func (l *Listener) admit(conf *ListenerConfig) policy.Reason {
	if !l.room.take(conf.MaxConnections) {
		return policy.ListenerLimit
	}
	if !l.proxy.room.take(l.proxy.limit.Load()) {
		l.room.give()
		return policy.ConnectionLimit
	}
	return policy.None
}

// leave gives both places back.
func (l *Listener) leave() {
	l.room.give()
	l.proxy.room.give()
}

// Connections returns how many are open over all listeners, and how many may be; 0:
// any number.
func (p *Proxy) Connections() (open, limit int64) { return p.room.used.Load(), p.limit.Load() }

// Connections returns how many are open, and how many may be; 0: any number.
func (l *Listener) Connections() (open, limit int64) {
	return l.room.used.Load(), l.conf.Load().MaxConnections
}

// full counts and logs a connection for which there was no place.
func (l *Listener) full(loop int, c *engine.Conn, r policy.Reason) {
	limit := l.conf.Load().MaxConnections
	if r == policy.ConnectionLimit {
		limit = l.proxy.limit.Load()
	}
	l.proxy.meter.Refused(loop, l.name, r)
	err := &policy.Error{Reason: r, Side: policy.Downstream, Phase: policy.PhaseAccept, Err: fmt.Errorf("%d connections are open", limit)}
	l.proxy.refusals.log("connection refused", l.name, err, "listener", l.name, "client", c.RemoteName())
	l.proxy.loops[loop].witness(l, err, c.Remote(), c.Unix(), "")
}
