package upstream

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// against is what may keep a pick from an endpoint that is up.
type against uint8

// The causes; those that a pick can relent on come first, the least first.
const (
	returning against = 1 << iota // from ejection: not this time
	suspected                     // of not accepting connections
	ejected
	opened // its breaker lets nothing through
	full   // at its limit of connections

	avoided = returning | suspected | ejected
)

// round is one pick under way: what it is told, and what it has met.
type round struct {
	loop     *engine.Loop
	now      int64
	breaker  *breaker.Settings
	ejection *eject.Settings
	limit    int64 // of connections in use to each endpoint; 0: none
	shared   bool  // it is for a stream, which takes no connection for itself
	heeded   against
	met      against // causes for which endpoints were passed over
	lot      float64 // 0 to 1, against which shares are held; below 0: not drawn
}

func (r *round) begin(l *engine.Loop, s *Settings, t *Tried) {
	// One by one: a literal is made aside and copied, which takes a quarter of a pick.
	r.loop, r.now = l, l.Nanos()
	r.breaker, r.ejection, r.limit = s.Breaker, s.Ejection, s.MaxConnections
	r.shared = s.way(t.Ask) != overHTTP1 && s.SendProxy == 0
	r.heeded, r.met, r.lot = avoided, 0, -1
	if t.desperate {
		r.heeded &^= ejected
	}
}

// relent gives up the least of the causes for which the pick has found nobody, and reports
// whether there is one. To ejected endpoints it goes only where nobody else is left for a
// first attempt: none that was tried, none that is busy.
func (r *round) relent(t *Tried) bool {
	for c := returning; c <= ejected; c <<= 1 {
		if r.heeded&r.met&c == 0 {
			continue
		}
		if c == ejected {
			if !t.indexes.Empty() || r.met&full != 0 {
				return false
			}
			t.desperate = true
		}
		r.heeded &^= c
		return true
	}
	return false
}

// Usable lets a picker see the endpoints (balance.Load).
func (ls *localService) Usable(i int) bool {
	e, r := ls.set.endpoints[i], &ls.round
	if e.down.Load() {
		return false
	}
	if c := r.against(e); c != 0 {
		r.met |= c
		return false
	}
	if r.limit > 0 {
		if limit := ls.limitAt(e); limit > 0 && e.InUse() >= limit {
			r.met |= full
			return false
		}
	}
	return true
}

// against is what keeps this pick from e; 0: nothing.
func (r *round) against(e *Endpoint) against {
	if r.heeded&suspected != 0 && e.suspect.Load() > r.now {
		return suspected
	}
	if r.ejection != nil && !e.ejection.Spotless() {
		if c := r.outlier(e); c != 0 {
			return c
		}
	}
	if r.breaker != nil && !e.gate.Ready(r.now) {
		return opened
	}
	return 0
}

// outlier judges one that is ejected, or has been.
func (r *round) outlier(e *Endpoint) against {
	if e.ejection.Out(r.now) {
		return ejected & r.heeded
	}
	if r.heeded&returning == 0 {
		return 0
	}
	if r.lot < 0 {
		r.lot = r.loop.Rand().Float64() // one for the whole pick, so that it looks the same throughout
	}
	if e.ejection.Share(r.ejection, r.now) <= r.lot {
		return returning
	}
	return 0
}

// limitAt bounds the exchanges at e where each has a connection for itself.
func (ls *localService) limitAt(e *Endpoint) int64 {
	if ls.round.shared && !e.onlyHTTP1.Load() {
		return 0
	}
	return ls.round.limit
}

// Inflight is the number of exchanges under way at endpoint i.
func (ls *localService) Inflight(i int) int64 { return ls.set.endpoints[i].Inflight() }

// Answered notes that the endpoint has begun to answer: should the answer take for ever, a
// probe of its breaker has succeeded.
func (l *Local) Answered(c *Choice) {
	if c.pass.Probing() {
		c.Member.gate.Answered(&c.pass)
	}
}

// tell lets breaker and ejection know what came of a choice, once.
func (l *Local) tell(c *Choice, o policy.Outcome) {
	s := c.Service.Settings()
	if s.Breaker == nil && s.Ejection == nil || c.told {
		return
	}
	c.told = true
	if b := s.Breaker; b != nil {
		c.Member.gate.Leave(c.pass, b, l.loop.Nanos(), b.On.Judge(&o))
	}
	if j := s.Ejection; j != nil && c.Member.ejection.Count(j, j.On.Judge(&o)) {
		c.Service.eject(c.Member.Endpoint, l.loop.Nanos())
	}
}
