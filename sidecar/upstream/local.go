package upstream

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/balance"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Local is one loop's view of all services: its pickers and its pools. Every
// method is called on the loop, from a task where it may park.
type Local struct {
	loop     *engine.Loop
	dialled  func(service string, r policy.Reason)
	services map[*Service]*localService
	live     live
}

type localService struct {
	set     *EndpointSet
	balance string
	picker  balance.Picker
	pools   map[PoolKey]*pool
	gone    bool // no route holds the service any more: nothing is kept of it
	now     int64
	desired bool  // this pick passes over suspects
	limit   int64 // of connections in use to each endpoint; 0: none
	full    bool  // this pick has passed over an endpoint that is up, for its limit
}

// Tried holds the endpoints that an exchange has tried. The zero value is empty.
type Tried struct {
	set     *EndpointSet // the one that the indexes belong to
	indexes balance.Set
}

// Reset empties t, and lets go of the set.
func (t *Tried) Reset() {
	t.set = nil
	t.indexes.Reset()
}

// of makes t the endpoints tried of set. Where discovery has exchanged the set, all
// of the new one may be tried.
func (t *Tried) of(set *EndpointSet) *balance.Set {
	if t.set != set {
		t.set = set
		t.indexes.Reset()
	}
	return &t.indexes
}

// NewLocal returns the view of l. dialled is told of each attempt to connect, with
// policy.None for one that succeeded; it must not block.
func NewLocal(l *engine.Loop, dialled func(service string, r policy.Reason)) *Local {
	local := &Local{loop: l, dialled: dialled, services: map[*Service]*localService{}}
	local.live.init()
	return local
}

// Choice is one pick; it is given back to Done exactly once.
type Choice struct {
	Service *Service
	Member  *Member
	// Until is when connecting must have ended, in the loop's Nanos, whatever the
	// connect timeout allows; 0: that alone. The caller may set it after Pick.
	Until  int64
	local  *localService
	picker balance.Picker
	token  balance.Token
}

// Pick chooses an endpoint that is not in t, adds it there and counts it in flight.
// Endpoints that failed to connect lately are passed over while another is left, those
// at their limit always. It does not park. Errors: NoEndpoints, NoHealthyEndpoint,
// EndpointLimit.
func (l *Local) Pick(s *Service, t *Tried) (Choice, error) {
	ls := l.service(s)
	tried := t.of(ls.set)
	ls.now = l.loop.Nanos()
	ls.desired, ls.full, ls.limit = true, false, s.Settings().MaxConnections
	ctx := balance.PickContext{Now: ls.now, Load: ls, Tried: tried}
	for {
		token, ok := ls.picker.Pick(ctx)
		if !ok && ls.desired {
			ls.desired = false
			continue
		}
		if !ok {
			return Choice{}, &policy.Error{Reason: ls.none(), Side: policy.Upstream, Phase: policy.PhasePick}
		}
		m := &ls.set.Members[token.Index]
		if m.reserve(ls.limit) {
			tried.Add(token.Index)
			return Choice{Service: s, Member: m, local: ls, picker: ls.picker, token: token}, nil
		}
		// Another loop was quicker: the next look finds the endpoint full.
		ls.picker.Done(token, policy.Outcome{})
	}
}

// none is why there was nothing to pick.
func (ls *localService) none() policy.Reason {
	switch {
	case len(ls.set.Members) == 0:
		return policy.NoEndpoints
	case ls.full:
		return policy.EndpointLimit
	}
	return policy.NoHealthyEndpoint
}

// Done reports what came of a choice. A connection that failed after it was made
// speaks neither for the endpoint nor against it.
func (l *Local) Done(c Choice, o policy.Outcome) {
	c.Member.inflight.Add(-1)
	switch {
	case o.Connected && o.Reason == policy.None:
		c.Member.connected()
	case !o.Connected && o.Failed() && o.Reason != policy.RequestDeadline: // ours, and perhaps very short
		c.Member.connectFailed(l.loop.Nanos(), o.Reason)
	}
	c.picker.Done(c.token, o)
}

// Usable and Inflight let a picker see the endpoints (balance.Load).
func (ls *localService) Usable(i int) bool {
	m := &ls.set.Members[i]
	if m.Down() || ls.desired && m.Suspect(ls.now) {
		return false
	}
	if ls.limit > 0 && m.Inflight() >= ls.limit {
		ls.full = true
		return false
	}
	return true
}

// Inflight is the number of exchanges under way at endpoint i.
func (ls *localService) Inflight(i int) int64 { return ls.set.Members[i].Inflight() }

// service returns the loop's state of s, with a new picker when the set or the
// balancing has changed. Pools of endpoints that have gone are closed.
func (l *Local) service(s *Service) *localService {
	ls := l.services[s]
	set := s.Set()
	if ls != nil && ls.set == set && ls.balance == s.Settings().Balance {
		return ls
	}
	if ls == nil {
		ls = &localService{pools: map[PoolKey]*pool{}, gone: s.gone.Load()}
		if !ls.gone {
			l.services[s] = ls
		}
	}
	ls.set, ls.balance = set, s.Settings().Balance
	picker, err := balance.New(ls.balance, set.Weights, l.loop.Rand().Uint64())
	if err != nil { // names are checked when the configuration is read
		panic(err)
	}
	ls.picker = picker
	ls.forget(set)
	return ls
}

func (ls *localService) forget(set *EndpointSet) {
	stays := make(map[*Endpoint]bool, len(set.Members))
	for i := range set.Members {
		stays[set.Members[i].Endpoint] = true
	}
	for key, p := range ls.pools {
		if !stays[key.Endpoint] {
			p.retire()
			delete(ls.pools, key)
		}
	}
}

// Trim closes the idle connections to endpoints that have left the service, without
// waiting for its next exchange.
func (l *Local) Trim(s *Service) {
	if l.services[s] != nil {
		l.service(s)
	}
}

// Forget closes the idle connections of a service that no route holds any more.
// Exchanges that still hold it go on with connections of their own.
func (l *Local) Forget(s *Service) {
	s.gone.Store(true)
	if ls := l.services[s]; ls != nil {
		for _, p := range ls.pools {
			p.retire()
		}
		delete(l.services, s)
	}
}

// CloseIdle closes every pooled connection (drain).
func (l *Local) CloseIdle() {
	for _, ls := range l.services {
		for _, p := range ls.pools {
			p.closeIdle()
		}
	}
}
