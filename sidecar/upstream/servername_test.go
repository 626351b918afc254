package upstream

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestServerName(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("11111111-2222-3333-4444-555555555555.consul")
	for _, c := range []struct{ name, path, want string }{
		{"service", "/ns/default/dc/dc1/svc/api", "api.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul"},
		{"namespace and dc", "/ns/shop/dc/west-2/svc/api_v2", "api_v2.shop.west-2.internal.11111111-2222-3333-4444-555555555555.consul"},
		{"partition", "/ap/p1/ns/default/dc/dc1/svc/api", "api.default.p1.dc1.internal-v1.11111111-2222-3333-4444-555555555555.consul"},
		{"none", "", ""},
		{"not Consul's", "/api", ""},
		{"longer", "/ns/default/dc/dc1/svc/api/x", ""},
		{"another of Consul's", "/gateway/mesh/dc/dc1", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := serverName(c.path, domain); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
