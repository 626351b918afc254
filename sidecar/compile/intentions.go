package compile

import (
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// Intentions tells those that are in force for one destination; nil: none are known
// yet. It is called on loops and does not block.
type Intentions func() *authz.Intentions

// byIntentions lets Consul's intentions decide. Until they and our own trust domain are
// known, nobody may call.
type byIntentions struct {
	current *identity.Current
	known   Intentions
}

// Allow implements proxy.Authorizer.
func (a *byIntentions) Allow(id spiffeid.ID) authz.Verdict {
	snap := a.current.Snapshot()
	if snap == nil {
		return authz.Verdict{}
	}
	return a.known().Allow(id, snap.ID().TrustDomain())
}
