package proxy

import (
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
)

// asWeb asks a list for one caller, whoever calls.
type asWeb struct{ list *authz.AllowList }

func (a asWeb) Allow(spiffeid.ID) authz.Verdict {
	return a.list.Allow(spiffeid.RequireFromString("spiffe://example.org/web"))
}

func allowing(t *testing.T, patterns ...string) Authorizer {
	t.Helper()
	list, err := authz.Compile(patterns, spiffeid.RequireTrustDomainFromString("example.org"))
	if err != nil {
		t.Fatal(err)
	}
	return asWeb{list}
}

// TestAllowListReachesLivingConnections: whom a reload shuts out is refused on
// connections that live too, also where the listener moves to another address.
func TestAllowListReachesLivingConnections(t *testing.T) {
	for _, address := range []string{"10.0.0.1:80", "10.0.0.1:81"} {
		s := newStage(t, calm(), HTTP, nil, originAddr)
		s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("ok")) })
		apply := func(address string, allow Authorizer) {
			was := s.proxy.Snapshot()
			c := *was.Listeners[0]
			c.Addresses, c.Allow = []string{address}, allow
			if err := s.proxy.Apply(&Snapshot{Listeners: []*ListenerConfig{&c}, Services: was.Services}); err != nil {
				t.Fatal(err)
			}
			s.w.RunFor(time.Millisecond)
		}
		apply("10.0.0.1:80", allowing(t, "/web"))
		p := s.dial(get1("/1"))
		s.answered(p, 1, time.Second)
		apply(address, allowing(t, "/other"))
		p.Send(get1("/2"))
		if all := s.answered(p, 2, time.Second); all[0].status != 200 || all[1].status != 403 {
			t.Errorf("reloaded to %s: %d, %d", address, all[0].status, all[1].status)
		}
		if r := s.reason(2); r != policy.NotAllowed {
			t.Errorf("reason %v", r)
		}
		p.Close()
	}
}
