package consul

import (
	"testing"

	"github.com/hashicorp/consul/api"
)

// The proxy of an instance that nobody checks is not held up by the agent's look at it.
func TestProxyOfAnUncheckedInstanceIsPassingFromTheStart(t *testing.T) {
	for _, unchecked := range []bool{false, true} {
		want := map[bool]string{false: "", true: api.HealthPassing}[unchecked]
		found := false
		for _, check := range checks(Registration{ID: "web-sidecar-proxy", Proxy: true, ServiceID: "web", Unchecked: unchecked}) {
			if check.AliasService == "web" {
				found = true
				if check.Status != want {
					t.Errorf("unchecked %v: begins as %q, want %q", unchecked, check.Status, want)
				}
			}
		}
		if !found {
			t.Errorf("unchecked %v: the instance's state does not count", unchecked)
		}
	}
}
