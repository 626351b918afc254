package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// spirePair is a called and a calling sidecar whose identities come from SPIRE agents:
// /api of one trust domain, /web of the same or another.
type spirePair struct {
	called, caller *larboard
}

func startSPIREPair(t testing.TB, api, web *real.SPIREDomain) spirePair {
	t.Helper()
	called := start(t, "api", fmt.Sprintf("identity: {spiffe: {socket: %q, hint: api}}\n"+
		"workload: {service: api, address: %q, listen: 127.0.0.1:0, allow: [%q]}\n", api.Socket, origin(t, named("api")), web.ID("/web")))
	return spirePair{called, startSPIRECaller(t, web, api.ID("/api"), called.address("inbound"))}
}

func startSPIRECaller(t testing.TB, web *real.SPIREDomain, api, endpoint string) *larboard {
	t.Helper()
	// A busy machine's handshakes are slow.
	return start(t, "web", fmt.Sprintf("timeouts: {connect: 30s}\nidentity: {spiffe: {socket: %q, id: %q}}\n"+
		"upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q], ids: [%q]}]\n", web.Socket, web.ID("/web"), endpoint, api))
}

// TestSPIREUnderLoad: certificates of half a minute, for minutes, the agent killed and
// started again meanwhile. No request fails.
func TestSPIREUnderLoad(t *testing.T) {
	t.Parallel()
	ttl := either(10*time.Second, 30*time.Second)
	domain := real.SPIRE(t, real.SPIREOptions{TrustDomain: meshDomain, TTL: ttl})
	domain.Register("/api", real.SPIREEntry{Hint: "api"})
	domain.Register("/web", real.SPIREEntry{Hint: "web"})
	pair := startSPIREPair(t, domain, domain)
	both := []*larboard{pair.called, pair.caller}

	traffic := send(t, load.Options{Addr: pair.caller.address("api")})
	traffic.pass(either(10*time.Second, 150*time.Second))
	domain.KillAgent()
	for _, p := range both {
		p.waitLog("workload api delivers no identity")
	}
	traffic.pass(either(time.Second, 5*time.Second))
	domain.RestartAgent()
	before := map[*larboard]int{}
	for _, p := range both {
		before[p] = p.identityView().Rotations
	}
	traffic.pass(either(10*time.Second, 150*time.Second))
	for _, p := range both {
		eventually(t, 2*ttl+patience, p.name+" rotates after the agent is back", func() error {
			if n := p.identityView().Rotations; n < before[p]+2 {
				return fmt.Errorf("%d rotations, %d before", n, before[p])
			}
			return nil
		})
		t.Logf("%s: %d rotations", p.name, p.identityView().Rotations)
	}
	traffic.endClean()
}

// TestSPIREFederation: two trust domains that know each other's bundles call across,
// neither can speak in the other's name, and what is withdrawn is over.
func TestSPIREFederation(t *testing.T) {
	t.Parallel()
	home := real.SPIRE(t, real.SPIREOptions{TrustDomain: "home.test"})
	away := real.SPIRE(t, real.SPIREOptions{TrustDomain: "away.test"})
	home.Federate(away)
	away.Federate(home)
	home.Register("/api", real.SPIREEntry{Hint: "api", FederatesWith: []*real.SPIREDomain{away}})
	away.Register("/web", real.SPIREEntry{Hint: "web", FederatesWith: []*real.SPIREDomain{home}})
	pair := startSPIREPair(t, home, away)
	for _, p := range []*larboard{pair.called, pair.caller} {
		p.waitBundles(2)
	}
	traffic := send(t, load.Options{Addr: pair.caller.address("api"), NewConn: true, Rate: 50})
	traffic.await(50)
	traffic.endClean()

	cert, key := away.Signer()
	forger := pki.Of(t, cert, key)
	t.Run("a caller with the other domain's name", func(t *testing.T) {
		for id, reason := range map[string]string{home.ID("/web"): "tls_bad_certificate", home.ID("/api"): "tls_bad_certificate"} {
			if status, _, err := ask(pair.called.address("inbound"), meshClient(forger.Issue(nil, id))); err == nil {
				t.Errorf("%s was answered with %d", id, status)
			}
			eventually(t, patience, "the refusal is named", func() error {
				if n := pair.called.scrape().sum("larboard_refused_total", `reason="`+reason+`"`); n == 0 {
					return errors.New("not counted")
				}
				return pair.called.logged("connection refused", "reason="+reason+" ", "does not verify against the bundle of", "home.test")
			})
		}
		// The same hand with its own domain's name is let in: the name was the fault.
		if status, _, err := ask(pair.called.address("inbound"), meshClient(forger.Issue(nil, away.ID("/web")))); err != nil || status != 200 {
			t.Errorf("an SVID of away.test: %d %v", status, err)
		}
	})
	t.Run("an endpoint with the other domain's name", func(t *testing.T) {
		endpoint := meshServer(t, serverConfig(forger.Issue(nil, home.ID("/api"))), named("forged"))
		caller := startSPIRECaller(t, away, home.ID("/api"), endpoint)
		caller.waitBundles(2)
		status, body, header := get(t, "http://"+caller.address("api")+"/")
		if status != 503 || header.Get("X-Larboard-Reason") != "upstream_tls_identity" || strings.Contains(body, "forged") {
			t.Errorf("got %d %q %v", status, body, header)
		}
	})

	home.Unfederate(away)
	pair.called.waitBundles(1)
	if status, _, err := ask(pair.called.address("inbound"), meshClient(forger.Issue(nil, away.ID("/web")))); err == nil {
		t.Errorf("answered with %d after the bundle was withdrawn", status)
	}
	eventually(t, patience, "the foreign domain is unknown again", func() error {
		return pair.called.logged("connection refused", "reason=tls_unknown_domain ", "away.test", "trusted here: home.test")
	})
}

// waitBundles waits until the one identity trusts n domains.
func (p *larboard) waitBundles(n int) {
	p.t.Helper()
	eventually(p.t, patience, fmt.Sprint(p.name, " trusts ", n, " domains"), func() error {
		if got := p.identityView().Bundles; len(got) != n {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}
