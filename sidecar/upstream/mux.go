package upstream

import (
	"errors"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/http2"
)

// mux is an HTTP/2 connection to an endpoint, whose streams the exchanges of its loop
// share. It is its client's http2.Owner.
type mux struct {
	local   *Local
	pool    *pool
	base    *Conn // the connection as a whole: what it has proven, and its place in live
	client  *http2.Client
	streams Conn // head of the ring of those in use
	used    bool
	left    bool // the pool: it takes no new streams
	over    bool // no new streams can be opened
	only    bool // one exchange has it to itself: it is one client's, or its endpoint has gone meanwhile
}

// openStream returns a stream to the choice's endpoint: on a connection that has room, or
// on a new one, which may turn out to speak HTTP/1. Where there are as many connections as
// there may be, it waits its turn. fresh: of HTTP/1 it takes a new one.
func (l *Local) openStream(c *Choice, s *Settings, p *pool, w way, to *target, fresh bool) (*Conn, error) {
	until := l.waitUntil(c, s)
	c.Until = until // of waiting and connecting together
	for {
		if m := p.roomy(l.loop.Nanos()); m != nil {
			conn := m.open(c)
			if m.client.Room() > 0 || !p.connecting(s) && p.mayGrow(c.Member.Endpoint, s.MaxConnections) {
				p.room.Signal() // the next in the queue can go on: with a stream, or to connect
			}
			return conn, nil
		}
		if w == overEither && c.Member.onlyHTTP1.Load() && !fresh {
			if conn := p.pop(l.loop.Nanos()); conn != nil {
				conn.user = l.loop.Current().Ref()
				return conn, nil
			}
		}
		if p.connecting(s) || !p.mayGrow(c.Member.Endpoint, s.MaxConnections) {
			if err := l.awaitRoom(p, until); err != nil {
				return nil, err
			}
			continue
		}
		conn, err := l.dialMux(c, s, p, w, to)
		if conn != nil || err != nil {
			return conn, err
		}
	}
}

// dialMux adds a connection to p; one that turns out to speak HTTP/1 is returned.
func (l *Local) dialMux(c *Choice, s *Settings, p *pool, w way, to *target) (*Conn, error) {
	if !c.Member.onlyHTTP1.Load() { // those connections are not shared
		p.dialling++
		defer func() { p.dialling-- }()
	}
	c.Member.muxes.Add(1)
	defer p.room.Signal()
	conn, err := l.dial(c, s, to, w)
	if err != nil {
		c.Member.muxes.Add(-1)
		return nil, err
	}
	conn.pool = p
	if conn.http1 != nil {
		c.Member.muxes.Add(-1)
		c.Member.onlyHTTP1.Store(true)
		p.room.Broadcast() // each needs a connection of its own
		return conn, nil
	}
	c.Member.onlyHTTP1.Store(false)
	m := &mux{local: l, pool: p, base: conn}
	m.streams.next, m.streams.prev = &m.streams, &m.streams
	conn.mux = m
	conn.raw.SetDeadline(time.Time{})
	m.client = http2.Dial(conn.Transport, s.HTTP2, m)
	if !p.retired {
		p.muxes = append(p.muxes, m)
		return nil, nil
	}
	m.only = true
	return m.open(c), nil
}

// waitUntil is when an exchange stops waiting for a stream: with its time to connect.
func (l *Local) waitUntil(c *Choice, s *Settings) int64 {
	until := c.Until
	if t := s.Timeouts.Connect; t > 0 {
		if by := l.loop.Nanos() + int64(t); until == 0 || by < until {
			until = by
		}
	}
	return until
}

func (l *Local) awaitRoom(p *pool, until int64) error {
	t, connecting := l.loop.Current(), p.dialling > 0
	var err error
	if until == 0 {
		err = p.room.Wait(t)
	} else {
		err = p.room.WaitFor(t, time.Duration(max(until-l.loop.Nanos(), 0)))
	}
	switch own := (*policy.Error)(nil); {
	case err == nil:
		return nil
	case errors.As(err, &own):
		return own
	case err == engine.ErrTimeout && !connecting:
		return &policy.Error{Reason: policy.EndpointLimit, Side: policy.Upstream, Phase: policy.PhasePick, Retryable: true, Err: err}
	}
	return connectError(err)
}

// roomy is a connection that a stream can be opened on.
func (p *pool) roomy(now int64) *mux {
	for i := 0; i < len(p.muxes); {
		m := p.muxes[i]
		if m.base.expires != 0 && now >= m.base.expires {
			m.leave()
			m.client.Close()
			continue
		}
		switch {
		case m.client.Room() > 0:
			return m
		case m.client.Streams() == 0:
			m.retire() // of no use: the endpoint takes no streams there
		default:
			i++
		}
	}
	return nil
}

// connecting reports whether connections are being made for all who wait.
func (p *pool) connecting(s *Settings) bool {
	return p.dialling > 0 && p.room.Waiting() < p.dialling*int(s.HTTP2.MaxStreams)
}

// mayGrow reports whether another connection may be made. Each loop may have one.
func (p *pool) mayGrow(e *Endpoint, limit int64) bool {
	return limit <= 0 || len(p.muxes)+p.dialling == 0 || e.muxes.Load() < limit
}

// open begins an exchange on m, which has room.
func (m *mux) open(c *Choice) *Conn {
	s, l := m.client.Open(), m.local
	h := l.hold()
	*h = Conn{codec: s, stream: s, mux: m, users: 1, Endpoint: m.base.Endpoint, PeerID: m.base.PeerID, Reused: m.used,
		service: c.Service, member: c.Member, user: l.loop.Current().Ref()}
	m.used = true
	h.Endpoint.streams.Add(1)
	if m.streams.next == &m.streams {
		h.Endpoint.sharing.Add(1)
	}
	h.prev, h.next = &m.streams, m.streams.next
	h.next.prev = h
	m.streams.next = h
	return h
}

// endStream gives a stream back.
func (l *Local) endStream(c *Conn) {
	c.prev.next, c.next.prev = c.next, c.prev
	c.next, c.prev = nil, nil
	if c.mux.streams.next == &c.mux.streams {
		c.Endpoint.sharing.Add(-1)
	}
	c.Endpoint.streams.Add(-1)
	c.user = engine.TaskRef{}
	c.ended = true
	c.Drop()
}

// recycle is the end of a stream that nobody touches any more.
func (l *Local) recycle(c *Conn) {
	m := c.mux
	c.stream.Close()
	*c = Conn{}
	if len(l.holds) < maxHolds {
		l.holds = append(l.holds, c)
	}
	m.settle()
}

// maxHolds bounds the records of streams kept for reuse.
const maxHolds = 1024

func (l *Local) hold() *Conn {
	if n := len(l.holds); n > 0 {
		c := l.holds[n-1]
		l.holds = l.holds[:n-1]
		return c
	}
	return &Conn{}
}

// Room implements http2.Owner.
func (m *mux) Room() { m.pool.room.Signal() }

// Closed implements http2.Owner.
func (m *mux) Closed(err error) {
	switch policy.ReasonOf(err) {
	case policy.UpstreamProtocol, policy.UpstreamResetStorm:
		if m.local.broken != nil {
			m.local.broken(m.base.service.Name, m.base.Endpoint.Address, err)
		}
	}
	m.over = true
	m.leave()
	m.settle()
}

// settle forgets the connection once it is over and carries nothing more.
func (m *mux) settle() {
	if m.only && !m.over && m.streams.next == &m.streams {
		m.retire() // which ends here again
	}
	if m.over && m.streams.next == &m.streams {
		m.local.live.remove(m.base)
	}
}

// leave takes m out of its pool: exchanges under way go on.
func (m *mux) leave() {
	if m.left {
		return
	}
	m.left = true
	m.base.Endpoint.muxes.Add(-1)
	for i, other := range m.pool.muxes {
		if other == m {
			m.pool.muxes = append(m.pool.muxes[:i], m.pool.muxes[i+1:]...)
			break
		}
	}
	m.pool.room.Signal() // somebody may connect in its place
}

// retire lets m end with its last stream.
func (m *mux) retire() {
	m.leave()
	m.client.Close()
}

// sever ends m and its streams for err, a *policy.Error.
func (m *mux) sever(err error) {
	m.base.cut = true
	for c := m.streams.next; c != &m.streams; c = c.next {
		c.cut = true
		c.user.Cancel(err)
	}
	m.leave()
	m.client.Abort(policy.ReasonOf(err))
}
