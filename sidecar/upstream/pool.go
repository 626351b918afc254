package upstream

import (
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// PoolKey says which exchanges may share a connection: the same endpoint,
// reached as the same identity and by the same path (of which the server name is
// made), proven to be one of the same peers, and under the same generation of our
// certificate.
type PoolKey struct {
	Endpoint    *Endpoint
	Identity    spiffeid.ID
	Peers, Path string
	Generation  uint64
}

// pool holds the connections of one key on one loop: those of HTTP/1 that are idle, last
// used first, so that what is not needed ages at the bottom and expires, and those of
// HTTP/2.
type pool struct {
	local   *Local
	idle    []*Conn
	retired bool // its certificate was rotated, or its endpoint has gone

	muxes    []*mux // HTTP/2: the first that has room is used
	dialling int    // others
	room     engine.Cond
}

// Acquire returns a connection to the choice's endpoint: the one used last, or a
// new one, which fresh demands; or a stream of one. It parks. Errors are *policy.Error of
// PhaseConnect: no byte of the request has left.
func (l *Local) Acquire(c *Choice, fresh bool) (*Conn, error) {
	settings := c.Service.Settings()
	key, tlsTo, err := l.key(c, settings)
	if err != nil {
		return nil, err
	}
	p := c.local.pools[key]
	switch {
	case settings.SendProxy != 0:
		p = &pool{local: l, retired: true} // the connection is this client's alone
	case p == nil:
		c.local.retireOthers(key)
		p = &pool{local: l, retired: c.local.gone}
		c.local.pools[key] = p
	}
	w := settings.way(c.ask)
	if w != overHTTP1 {
		return l.openStream(c, settings, p, w, tlsTo, fresh)
	}
	if !fresh {
		if conn := p.pop(l.loop.Nanos()); conn != nil {
			conn.user = l.loop.Current().Ref()
			return conn, nil
		}
	}
	conn, err := l.dial(c, settings, tlsTo, overHTTP1)
	if err != nil {
		return nil, err
	}
	conn.pool = p
	return conn, nil
}

// Dial returns a new connection that is in no pool: for tunnels, which may end long
// after the endpoint has accepted them, so that this counts at once.
func (l *Local) Dial(c *Choice) (*Conn, error) {
	settings := c.Service.Settings()
	_, tlsTo, err := l.key(c, settings)
	if err != nil {
		return nil, err
	}
	conn, err := l.dial(c, settings, tlsTo, overHTTP1)
	if err == nil {
		c.Member.connected()
		l.tell(c, policy.Outcome{Connected: true})
	}
	return conn, err
}

// target is what a mesh connection is made with.
type target struct {
	snapshot *identity.Snapshot
	peers    identity.Peers
	path     string // as Member.IdentityPath
}

func (l *Local) key(c *Choice, s *Settings) (PoolKey, *target, error) {
	key := PoolKey{Endpoint: c.Member.Endpoint}
	if s.Mesh == nil {
		return key, nil, nil
	}
	snap := s.Mesh.Identity.Snapshot()
	if snap == nil {
		return key, nil, &policy.Error{Reason: policy.NoIdentity, Phase: policy.PhaseConnect}
	}
	peers, err := s.Mesh.peers(c.Member, snap)
	if err != nil {
		return key, nil, &policy.Error{Reason: policy.UpstreamTLSIdentity, Side: policy.Upstream, Phase: policy.PhaseConnect, Err: err}
	}
	key.Identity, key.Generation, key.Peers, key.Path = snap.ID(), snap.Generation(), peers.Key(), c.Member.IdentityPath
	return key, &target{snap, peers, key.Path}, nil
}

// pop takes the connection used last that may still be used.
func (p *pool) pop(now int64) *Conn {
	for n := len(p.idle); n > 0; n = len(p.idle) {
		c := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		c.Endpoint.idle.Add(-1)
		c.raw.OnReadable(nil)
		if c.expires != 0 && now >= c.expires {
			p.local.close(c)
			continue
		}
		c.Reused = true
		return c
	}
	return nil
}

// idleFor is how long a connection may wait in its pool: less than the time set, by a
// tenth. The other side is often a proxy of ours with the same setting, and would close
// the connection at the moment in which we send the next request on it.
func idleFor(set time.Duration) time.Duration { return set - set/10 }

// Put gives a connection back after its exchange. One that cannot carry another
// is closed.
func (l *Local) Put(c *Conn) {
	if c.stream != nil {
		l.endStream(c)
		return
	}
	wait, ok := c.mayWait(l.loop.Nanos())
	if !ok || c.cut || c.pool == nil || c.pool.retired || !c.http1.Reusable() || c.Transport.Pending() {
		l.close(c)
		return
	}
	c.http1.Release()
	c.user = engine.TaskRef{}
	c.raw.ReadWithin(wait)
	c.pool.idle = append(c.pool.idle, c)
	c.Endpoint.idle.Add(1)
	c.raw.OnReadable(c.onIdle)
}

// mayWait says for how long, 0: for ever; not ok: not at all.
func (c *Conn) mayWait(now int64) (wait time.Duration, ok bool) {
	if wait = c.idleFor; wait > 0 && c.answered > 0 {
		if wait -= time.Duration(now - c.answered); wait <= 0 {
			return 0, false
		}
	}
	if c.expires == 0 {
		return wait, true
	}
	left := time.Duration(c.expires - now)
	if wait == 0 || left < wait {
		wait = left
	}
	return wait, left > 0
}

// Close ends a connection that is not in the pool.
func (l *Local) Close(c *Conn) { l.close(c) }

func (l *Local) close(c *Conn) {
	if c.stream != nil {
		c.Break()
		l.endStream(c)
		return
	}
	c.Transport.Close()
	c.http1.Release()
	l.live.remove(c)
}

// idleEvent runs when an idle connection becomes readable, closes or expires:
// whatever it is, the connection has no further use.
func (c *Conn) idleEvent() {
	p := c.pool
	for i, other := range p.idle {
		if other == c {
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			c.Endpoint.idle.Add(-1)
			p.local.close(c)
			return
		}
	}
}

// retireOthers closes the pools that key replaces: an endpoint is reached in one way
// at a time.
func (ls *localService) retireOthers(key PoolKey) {
	for old, p := range ls.pools {
		if old.Endpoint == key.Endpoint {
			p.retire()
			delete(ls.pools, old)
		}
	}
}

// retire closes what is idle; what is in use is closed when it comes back.
func (p *pool) retire() {
	p.retired = true
	p.closeIdle()
	for len(p.muxes) > 0 {
		p.muxes[0].retire()
	}
}

func (p *pool) closeIdle() {
	for _, c := range p.idle {
		c.Endpoint.idle.Add(-1)
		c.raw.OnReadable(nil)
		p.local.close(c)
	}
	p.idle = nil
	for i := 0; i < len(p.muxes); {
		if m := p.muxes[i]; m.client.Streams() == 0 {
			m.retire()
		} else {
			i++
		}
	}
}
