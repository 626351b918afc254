package authz

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// of is a caller by Consul's convention in our own trust domain.
func of(service string) string { return "spiffe://example.org/ns/default/dc/dc1/svc/" + service }

func TestIntentions(t *testing.T) {
	list := []Intention{ // in the order of Consul
		{Name: "web", Destination: "api", Allow: true, Precedence: 9},
		{Name: "batch", Destination: "api", Precedence: 9},
		{Name: "browser", Destination: "api", Allow: true, Request: "permissions of the request (L7)", Precedence: 9},
		{Peer: "east", Name: "partner", Destination: "api", Precedence: 9},
		{Group: "all", Name: "grouped", Destination: "api", Allow: true, Precedence: 9},
		{Namespace: "shop", Name: "cart", Destination: "api", Allow: true, Precedence: 9},
		{Namespace: "shop", Name: "*", Destination: "api", Precedence: 8},
		{Partition: "p2", Name: "*", Destination: "api", Precedence: 8},
		{Name: "*", Destination: "*", Allow: true, Precedence: 5},
	}
	none := []Intention(nil)
	for _, c := range []struct {
		name   string
		list   []Intention
		policy Default
		caller string
		want   policy.Reason
		rule   string
	}{
		{"exact allow", list, DefaultDeny, of("web"), policy.None, "intention web => api, allow (precedence 9)"},
		{"exact deny", list, DefaultAllow, of("batch"), policy.IntentionDenied, "intention batch => api, deny (precedence 9)"},
		{"wildcard", list, DefaultDeny, of("other"), policy.None, "intention * => *, allow (precedence 5)"},
		{"permissions deny", list, DefaultAllow, of("browser"), policy.IntentionDenied, "intention browser => api (precedence 9) asks for permissions of the request (L7), denied: only the caller is looked at here, not the request"},
		{"a peer's intention is not for our members", list, DefaultDeny, of("partner"), policy.None, "intention * => *, allow (precedence 5)"},
		{"sameness group", list, DefaultAllow, of("grouped"), policy.IntentionDenied, "intention for sameness group all, grouped => api (precedence 9), denied: groups are not supported"},
		{"namespace, exact", list, DefaultDeny, "spiffe://example.org/ns/shop/dc/dc2/svc/cart", policy.None, "intention shop/cart => api, allow (precedence 9)"},
		{"namespace, wildcard", list, DefaultAllow, "spiffe://example.org/ns/shop/dc/dc1/svc/web", policy.IntentionDenied, "intention shop/* => api, deny (precedence 8)"},
		{"partition", list, DefaultAllow, "spiffe://example.org/ap/p2/ns/default/dc/dc1/svc/web", policy.IntentionDenied, "intention p2/* => api, deny (precedence 8)"},
		{"default partition, spelt out", list, DefaultDeny, "spiffe://example.org/ap/default/ns/default/dc/dc1/svc/web", policy.None, "intention web => api, allow (precedence 9)"},
		{"no match, allow", none, DefaultAllow, of("web"), policy.None, "default allow: no intention names the caller"},
		{"no match, deny", none, DefaultDeny, of("web"), policy.IntentionDenied, "default deny: no intention names the caller"},
		{"no match, unknown", none, DefaultUnknown, of("web"), policy.IntentionDenied, "default deny: no intention names the caller, and Consul did not tell its default"},
		{"another namespace matches no name", list[:2], DefaultDeny, "spiffe://example.org/ns/shop/dc/dc1/svc/web", policy.IntentionDenied, "default deny: no intention names the caller"},
		{"case counts", list[:2], DefaultDeny, of("Web"), policy.IntentionDenied, "default deny: no intention names the caller"},
		{"foreign domain", list, DefaultAllow, "spiffe://evil.test/ns/default/dc/dc1/svc/web", policy.IntentionDenied, foreignDomain},
		{"an agent", list, DefaultAllow, "spiffe://example.org/agent/client/dc/dc1/id/web", policy.IntentionDenied, noService},
		{"a gateway", list, DefaultAllow, "spiffe://example.org/gateway/mesh/dc/dc1", policy.IntentionDenied, noService},
		{"not Consul's", list, DefaultAllow, "spiffe://example.org/web", policy.IntentionDenied, noService},
		{"more than a service", list, DefaultAllow, of("web") + "/x", policy.IntentionDenied, noService},
		{"nobody", list, DefaultAllow, "", policy.TLSNoID, "default deny: no identity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := NewIntentions(c.list, c.policy).Allow(id(c.caller), own)
			if v.Reason() != c.want || v.Rule() != c.rule {
				t.Errorf("%s by %q, want %s by %q", v.Reason(), v.Rule(), c.want, c.rule)
			}
			if permit, ok := v.Permit(); ok != (c.want == policy.None) || ok && permit.ID() != id(c.caller) {
				t.Errorf("permit %v for %s", ok, permit.ID())
			}
		})
	}
}

func TestUnknownIntentionsDeny(t *testing.T) {
	var n *Intentions
	if v := n.Allow(id(of("web")), own); v.Allowed() || v.Reason() != policy.IntentionsUnknown || v.Rule() != intentionsUnknown {
		t.Errorf("%s by %q", v.Reason(), v.Rule())
	}
}

// The maps decide as going through the list does.
func TestIntentionsDecideInOrder(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 0))
		pick := func(of ...string) string { return of[r.IntN(len(of))] }
		var list []Intention
		for range r.IntN(8) {
			list = append(list, Intention{
				Partition: pick("", "default", "p"), Namespace: pick("", "default", "n", "*"), Name: pick("a", "b", "*"),
				Peer: pick("", "", "", "east"), Allow: r.IntN(2) == 0, Precedence: r.IntN(10),
			})
		}
		n := NewIntentions(list, Default(r.IntN(3)))
		for _, partition := range []string{"default", "p"} {
			for _, namespace := range []string{"default", "n", "other"} {
				for _, name := range []string{"a", "b", "c"} {
					caller := id(fmt.Sprintf("spiffe://example.org/ap/%s/ns/%s/dc/dc1/svc/%s", partition, namespace, name))
					want := n.byDefault == DefaultAllow
					for _, i := range list {
						if i.Peer == "" && defaulted(i.Partition) == partition &&
							(i.Namespace == "*" || defaulted(i.Namespace) == namespace) && (i.Name == "*" || i.Name == name) {
							want = i.Allow
							break
						}
					}
					if v := n.Allow(caller, own); v.Allowed() != want {
						t.Fatalf("seed %d: %s: allowed %v by %q, want %v; %+v", seed, caller, v.Allowed(), v.Rule(), want, list)
					}
				}
			}
		}
	}
}

func TestIntentionsAllocateNothing(t *testing.T) {
	n := NewIntentions([]Intention{{Name: "web", Allow: true}, {Name: "*"}}, DefaultDeny)
	for _, caller := range []spiffeid.ID{id(of("web")), id(of("other")), id("spiffe://example.org/x")} {
		if got := testing.AllocsPerRun(100, func() { n.Allow(caller, own) }); got != 0 {
			t.Errorf("%s: %v allocations", caller, got)
		}
	}
}

func FuzzSourceOf(f *testing.F) {
	for _, path := range []string{"/ns/default/dc/dc1/svc/web", "/ap/p/ns/n/dc/d/svc/s", "/ns//dc//svc/", "/ap/x", "/svc/web", "/ns/a/dc/b/svc/c/d"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		s, ok := sourceOf(path)
		if !ok {
			return
		}
		for _, part := range []string{s.partition, s.namespace, s.name} {
			if part == "" || strings.Contains(part, "/") {
				t.Fatalf("%q: %+v", path, s)
			}
		}
		if !strings.HasSuffix(path, "/svc/"+s.name) || !strings.Contains(path, "/ns/"+s.namespace+"/dc/") {
			t.Fatalf("%q: %+v", path, s)
		}
	})
}
