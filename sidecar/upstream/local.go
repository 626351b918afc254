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
}

type localService struct {
	set     *EndpointSet
	balance string
	picker  balance.Picker
	pools   map[PoolKey]*pool
	now     int64
	desired bool // this pick passes over suspects
}

// NewLocal returns the view of l. dialled is told of each attempt to connect, with
// policy.None for one that succeeded; it must not block.
func NewLocal(l *engine.Loop, dialled func(service string, r policy.Reason)) *Local {
	return &Local{loop: l, dialled: dialled, services: map[*Service]*localService{}}
}

// Choice is one pick; it is given back to Done exactly once.
type Choice struct {
	Service *Service
	Member  *Member
	// Until is when connecting must have ended, in the loop's Nanos, whatever the
	// connect timeout allows; 0: that alone. The caller may set it after Pick.
	Until  int64
	picker balance.Picker
	token  balance.Token
}

// Pick chooses an endpoint that is not in tried, adds it there and counts it in
// flight. Endpoints that failed to connect lately are passed over while another
// is left. It does not park. Errors: NoEndpoints, NoHealthyEndpoint.
func (l *Local) Pick(s *Service, tried *balance.Set) (Choice, error) {
	ls := l.service(s)
	ls.now = l.loop.Nanos()
	ls.desired = true
	ctx := balance.PickContext{Now: ls.now, Load: ls, Tried: tried}
	token, ok := ls.picker.Pick(ctx)
	if !ok {
		ls.desired = false
		token, ok = ls.picker.Pick(ctx)
	}
	if !ok {
		reason := policy.NoHealthyEndpoint
		if len(ls.set.Members) == 0 {
			reason = policy.NoEndpoints
		}
		return Choice{}, &policy.Error{Reason: reason, Side: policy.Upstream, Phase: policy.PhasePick}
	}
	m := &ls.set.Members[token.Index]
	m.inflight.Add(1)
	tried.Add(token.Index)
	return Choice{Service: s, Member: m, picker: ls.picker, token: token}, nil
}

// Done reports what came of a choice.
func (l *Local) Done(c Choice, o policy.Outcome) {
	c.Member.inflight.Add(-1)
	if o.Connected {
		c.Member.connected()
	} else if o.Failed() {
		c.Member.connectFailed(l.loop.Nanos())
	}
	c.picker.Done(c.token, o)
}

// Usable and Inflight let a picker see the endpoints (balance.Load).
func (ls *localService) Usable(i int) bool {
	m := &ls.set.Members[i]
	return !m.Down() && !(ls.desired && m.Suspect(ls.now))
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
		ls = &localService{pools: map[PoolKey]*pool{}}
		l.services[s] = ls
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

// Forget closes the idle connections of a service that no route holds any more.
func (l *Local) Forget(s *Service) {
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
