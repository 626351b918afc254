package upstream

import (
	"net/netip"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/balance"
)

// Direct is the choice of an address that no set of s holds: one that somebody else has chosen,
// by calling it. Nothing is remembered of it once it is Done, and it is in no metric by its
// address, since there may be any number of them.
func Direct(s *Service, to netip.AddrPort) Choice {
	e := &Endpoint{ID: to.String(), Address: to.String(), Addr: to}
	e.left.Store(true)
	e.inflight.Add(1)
	return Choice{Service: s, Member: &Member{Endpoint: e, Weight: 1}, picker: unpicked{}}
}

// unpicked is the picker of what was not picked.
type unpicked struct{}

func (unpicked) Pick(balance.PickContext) (balance.Token, bool) { return balance.Token{}, false }
func (unpicked) Done(balance.Token, policy.Outcome)             {}
