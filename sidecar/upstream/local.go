package upstream

import (
	"net/netip"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/balance"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/sidecar/engine"
)

// Local is one loop's view of all services: its pickers and its pools. Every
// method is called on the loop, from a task where it may park.
type Local struct {
	loop     *engine.Loop
	dialled  func(service string, r policy.Reason)
	broken   func(service, endpoint string, err error)
	services map[*Service]*localService
	last     *Service // that was asked for, and what is in services of it
	lastHere *localService
	live     live
	holds    []*Conn // of streams that have ended
}

type localService struct {
	set     *EndpointSet
	balance string
	picker  balance.Picker
	pools   map[PoolKey]*pool
	gone    bool  // no route holds the service any more: nothing is kept of it
	round   round // of the pick under way
}

// Tried holds the endpoints that an exchange has tried, and what it needs of one. The zero
// value is empty.
type Tried struct {
	Ask       Ask          // stays after Reset
	set       *EndpointSet // the one that the indexes belong to
	indexes   balance.Set
	desperate bool // nobody but ejected endpoints was left for the first pick
}

// Any reports whether an endpoint of the set in force has been tried.
func (t *Tried) Any() bool { return !t.indexes.Empty() }

// Reset empties t, and lets go of the set.
func (t *Tried) Reset() {
	t.set, t.desperate = nil, false
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

// OnBroken has f told of each shared connection that was ended for what its endpoint did:
// breaking the protocol's rules, or too much of what they allow. f must not block.
func (l *Local) OnBroken(f func(service, endpoint string, err error)) { l.broken = f }

// Choice is one pick; it is given back to Done exactly once.
type Choice struct {
	Service *Service
	Member  *Member
	// Until is when connecting must have ended, in the loop's Nanos, whatever the
	// connect timeout allows; 0: that alone. The caller may set it after Pick.
	Until int64
	// For is the client that the connection is made for, where Settings.SendProxy tells the
	// endpoint; set by the caller after Pick.
	For    *Origin
	ask    Ask
	local  *localService
	picker balance.Picker
	token  balance.Token
	pass   breaker.Pass
	told   bool // breaker and ejection know what came of it
}

// Origin says whose connection one to an endpoint is made for.
type Origin struct{ Client, Called netip.AddrPort }

// Pick chooses an endpoint that is not in t, adds it there and counts it in flight.
// Endpoints at their limit are passed over, and so are those whose breaker lets nothing
// through; those that failed to connect lately or return from ejection while another is
// left, the ejected while anybody else could have been picked. It does not park. Errors:
// NoEndpoints, NoHealthyEndpoint, EndpointLimit, BreakerOpen.
//
// Cost: BenchmarkPick, also for 1,000 endpoints.
func (l *Local) Pick(s *Service, t *Tried) (Choice, error) {
	ls := l.service(s)
	tried := t.of(ls.set)
	settings := s.Settings()
	ls.round.begin(l.loop, settings, t)
	ctx := balance.PickContext{Now: ls.round.now, Load: ls, Tried: tried}
	for {
		token, ok := ls.picker.Pick(ctx)
		if !ok && ls.round.relent(t) {
			continue
		}
		if !ok {
			return Choice{}, &policy.Error{Reason: ls.none(), Side: policy.Upstream, Phase: policy.PhasePick}
		}
		m := &ls.set.Members[token.Index]
		if pass, ok := ls.admit(ls.set.endpoints[token.Index]); ok {
			tried.Add(token.Index)
			return Choice{Service: s, Member: m, local: ls, picker: ls.picker, token: token, ask: t.Ask, pass: pass}, nil
		}
		// Another loop was quicker: the next look finds the endpoint full, or its breaker
		// without a place.
		ls.picker.Done(token, policy.Outcome{})
	}
}

// admit counts one more in flight at e, where there is room and its breaker agrees.
func (ls *localService) admit(e *Endpoint) (pass breaker.Pass, ok bool) {
	if !e.reserve(ls.limitAt(e)) {
		return pass, false
	}
	if ls.round.breaker == nil {
		return pass, true
	}
	if pass, ok = e.gate.Enter(ls.round.breaker, ls.round.now); !ok {
		e.inflight.Add(-1)
	}
	return pass, ok
}

// none is why there was nothing to pick.
func (ls *localService) none() policy.Reason {
	switch {
	case len(ls.set.Members) == 0:
		return policy.NoEndpoints
	case ls.round.met&full != 0:
		return policy.EndpointLimit
	case ls.round.met&opened != 0:
		return policy.BreakerOpen
	}
	return policy.NoHealthyEndpoint
}

// Done reports what came of a choice. A connection that failed after it was made
// speaks neither for the endpoint nor against it.
func (l *Local) Done(c *Choice, o policy.Outcome) {
	c.Member.inflight.Add(-1)
	switch {
	case o.Connected && o.Reason == policy.None:
		c.Member.connected()
	case !o.Connected && o.Failed() &&
		o.Reason != policy.RequestDeadline && o.Reason != policy.TryTimeout && o.Reason != policy.EndpointLimit: // ours, and perhaps very short
		c.Member.connectFailed(l.loop.Nanos(), o.Reason)
	}
	l.tell(c, o)
	c.picker.Done(c.token, o)
}

// service returns the loop's state of s, with a new picker when the set or the
// balancing has changed. Pools of endpoints that have gone are closed.
func (l *Local) service(s *Service) *localService {
	ls := l.lastHere
	if l.last != s {
		if ls = l.services[s]; ls != nil {
			l.last, l.lastHere = s, ls
		}
	}
	set := s.Set()
	if ls != nil && ls.set == set && ls.balance == s.Settings().Balance {
		return ls
	}
	if ls == nil {
		ls = &localService{pools: map[PoolKey]*pool{}, gone: s.gone.Load()}
		if !ls.gone {
			l.services[s], l.last, l.lastHere = ls, s, ls
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
	if l.last == s {
		l.last, l.lastHere = nil, nil
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
