package sidecar

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/admin"
)

func named(views []admin.IdentityView) map[string]admin.IdentityView {
	all := map[string]admin.IdentityView{}
	for _, v := range views {
		all[v.Name] = v
	}
	return all
}

// The names of development identities follow the workloads that use them.
func TestNamedDevelopmentIdentities(t *testing.T) {
	noLeaks(t)
	r := start(t, fmt.Sprintf(`
identities: {a: {dev: {}}, b: {dev: {}}, c: {dev: {id: "spiffe://dev.larboard/own"}}, d: {dev: {}}}
consul: {datacenter: east}
workloads:
- {service: web, address: %q, listen: 127.0.0.1:0, identity: a}
- {service: api, address: %q, listen: 127.0.0.1:0, identity: b}
- {service: one, address: 127.0.0.1:1, listen: 127.0.0.1:0, identity: c}
- {service: two, address: 127.0.0.1:1, listen: 127.0.0.1:0, identity: c}
`, says(t, "hello"), says(t, "hello")))
	all := named(r.Identity())
	for name, id := range map[string]string{
		"a": "spiffe://dev.larboard/ns/default/dc/east/svc/web",
		"b": "spiffe://dev.larboard/ns/default/dc/east/svc/api",
		"c": "spiffe://dev.larboard/own",
		"d": "spiffe://dev.larboard/larboard/d",
	} {
		if all[name].SPIFFEID != id {
			t.Errorf("%s is %q, want %q", name, all[name].SPIFFEID, id)
		}
	}
	if len(all) != 4 {
		t.Errorf("%d identities", len(all))
	}
	if n := len(r.identities.expiries()); n != 4 {
		t.Errorf("%d expiries", n)
	}
}

// A workload's upstream reaches its service as that workload alone. Development
// identities of one domain come from one authority, or nobody would be let in.
func TestAnUpstreamBelongsToItsWorkload(t *testing.T) {
	noLeaks(t)
	const form = `
identities: {web: {dev: {}}, batch: {dev: {}}, api: {dev: {}}}
workloads:
- {service: api, address: %q, listen: %q, identity: api, allow: [/ns/default/dc/dc1/svc/web]}
- {service: web, address: 127.0.0.1:1, listen: 127.0.0.1:0, identity: web, upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%[2]q]}]}
- {service: batch, address: 127.0.0.1:1, listen: 127.0.0.1:0, identity: batch, upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%[2]q]}]}
`
	r := start(t, fmt.Sprintf(form, says(t, "hello"), free(t)))
	for range 8 { // over kept connections
		for upstream, want := range map[string]string{"web.api": "200 hello", "batch.api": "403 "} {
			if got := get(t, r.address(upstream)); !strings.HasPrefix(got, want) {
				t.Errorf("%s: %q, want %q", upstream, got, want)
			}
		}
	}
}
