// Package proxy is the data plane: listeners accept connections, exchanges carry
// requests over them, tunnels carry bytes. It is told what to do by immutable
// snapshots, and tells what happened through observers. It must not know of
// configuration files, of discovery sources, or of how metrics and logs are
// written.
//
// Start reading at exchange.go.
package proxy

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Meter counts what is no exchange. Called on loops; it must not block.
type Meter interface {
	// Conn tells of a connection opened (1) or closed (-1).
	Conn(loop int, listener string, delta int)
	// Refused tells of a connection that ended in its handshake.
	Refused(loop int, listener string, r policy.Reason)
	// Cut tells of a live connection whose peer may not be connected any more.
	Cut(loop int, listener string, r policy.Reason)
	// HTTP2Abuse tells of a connection that a protection of HTTP/2 has ended.
	HTTP2Abuse(loop int, listener string, r policy.Reason)
	// UpstreamAbuse tells of a shared connection that was ended for what its endpoint did.
	UpstreamAbuse(loop int, service string, r policy.Reason)
	// UpstreamConn tells of an attempt to connect to an endpoint; None: it succeeded.
	UpstreamConn(loop int, service string, r policy.Reason)
	// Limited tells of a request or a connection that a rate limit has refused.
	Limited(loop int, listener, limit string)
	// Quota tells what became of a question to the rate limit service: ok, over_limit, known, busy,
	// timeout or error.
	Quota(loop int, result string)
	// Retry tells that an attempt was to be repeated, and what became of it.
	Retry(loop int, service string, c retry.Cause, r retry.Result)
	// ForgetEndpoint drops what was counted of an endpoint that has gone.
	ForgetEndpoint(loop int, service, endpoint string)
}

// Options of a Proxy.
type Options struct {
	Engine    *engine.Engine
	Observers []observability.Observer
	Meter     Meter
	Log       *slog.Logger
	// TurnedAway bounds the connections on each loop that are being told of a limit;
	// what comes above is closed at once. Default 64.
	TurnedAway int
}

// Proxy is the running data plane.
type Proxy struct {
	engine    *engine.Engine
	observers []observability.Observer
	witnesses []observability.RefusalObserver // of observers
	meter     Meter
	log       *slog.Logger
	loops     []*loopState
	refusals  refusalLog
	lastPanic atomic.Int64 // Unix nanoseconds of the last stack in the log

	inbound, outbound atomic.Int64 // live connections
	room              room         // of both
	limit             atomic.Int64 // of room; 0: none
	turnedAway        int          // most of them on each loop; immutable

	mu        sync.Mutex // writers: Apply, Drain
	listeners map[string]*Listener
	services  []*upstream.Service
	snapshot  atomic.Pointer[Snapshot]
	captures  Captures // as told
	capturing atomic.Pointer[capturing]
}

// New returns a proxy without listeners.
func New(o Options) *Proxy {
	p := &Proxy{engine: o.Engine, observers: o.Observers, meter: o.Meter, log: o.Log, listeners: map[string]*Listener{}}
	if p.turnedAway = o.TurnedAway; p.turnedAway <= 0 {
		p.turnedAway = 64
	}
	for _, one := range o.Observers {
		if r, ok := one.(observability.RefusalObserver); ok {
			p.witnesses = append(p.witnesses, r)
		}
	}
	p.refusals.init(o.Log)
	for _, l := range o.Engine.Loops() {
		p.loops = append(p.loops, newLoopState(p, l))
	}
	p.snapshot.Store(&Snapshot{})
	return p
}

// Snapshot returns what is in force.
func (p *Proxy) Snapshot() *Snapshot { return p.snapshot.Load() }

// Apply is Prepare and Commit. Called by the control plane; blocks for system calls
// only.
func (p *Proxy) Apply(s *Snapshot) error {
	plan, err := p.Prepare(s)
	if err != nil {
		return err
	}
	plan.Commit()
	return nil
}

func (p *Proxy) swap(s *Snapshot, opened map[string]*Listener) {
	named := map[string]*Listener{}
	for _, c := range s.Listeners {
		l := opened[c.Name]
		if l == nil {
			l = p.listeners[c.Name]
			l.conf.Store(c)
		}
		named[c.Name] = l
	}
	for name, l := range p.listeners {
		if now := named[name]; now != l {
			l.close()
			l.heir(now)
		}
	}
	p.listeners = named
	p.resolve()
	p.limit.Store(s.MaxConnections)
	p.snapshot.Store(s)
	p.forget(s.Services)
	p.Reauthorize()
}

// forget drops the pools of services that are no longer named.
func (p *Proxy) forget(now []*upstream.Service) {
	for _, s := range p.services {
		if slices.Contains(now, s) {
			continue
		}
		for _, l := range p.loops {
			l.loop.Post(func() { l.upstream.Forget(s) })
		}
	}
	p.services = now
}

// Forget drops what each loop keeps of the addresses that have left their service.
// Called by the control plane.
func (p *Proxy) Forget(s *upstream.Service, addresses []string) {
	for _, l := range p.loops {
		l.loop.Post(func() {
			l.upstream.Trim(s)
			for _, a := range addresses {
				p.meter.ForgetEndpoint(l.index, s.Name, a)
			}
		})
	}
}

// Listeners returns the running listeners in the snapshot's order.
func (p *Proxy) Listeners() []*Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []*Listener
	for _, c := range p.snapshot.Load().Listeners {
		if l := p.listeners[c.Name]; l != nil {
			all = append(all, l)
		}
	}
	return all
}
