package consul

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
)

func TestCalledAt(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*api.AgentService)
		want   []string
	}{
		"an instance":                        {func(s *api.AgentService) { s.Address, s.Port = "10.0.0.1", 8080 }, []string{"10.0.0.1:8080"}},
		"at its node":                        {func(s *api.AgentService) { s.Port = 8080 }, []string{"192.0.2.1:8080"}},
		"on loopback":                        {func(s *api.AgentService) { s.Address, s.Port = "127.0.0.1", 8080 }, nil},
		"by name":                            {func(s *api.AgentService) { s.Address, s.Port = "host.test", 8080 }, nil},
		"a virtual address":                  {virtual("consul-virtual", "240.0.0.3"), []string{"240.0.0.3:0"}},
		"a cluster address":                  {virtual("virtual", "10.96.0.1"), []string{"10.96.0.1:0"}},
		"another address":                    {virtual("wan", "198.51.100.1"), nil},
		"a virtual name":                     {virtual("virtual", "api.virtual"), nil},
		"one in IPv6":                        {virtual("virtual", "fd00::1"), []string{"[fd00::1]:0"}},
		"behind its sidecar":                 {sidecarOf(8080), []string{"240.0.0.3:0", "10.0.0.1:8080"}},
		"behind one that does not say where": {sidecarOf(0), []string{"240.0.0.3:0"}},
		"a terminating gateway": {func(s *api.AgentService) {
			s.Kind, s.Address, s.Port = api.ServiceKindTerminatingGateway, "10.0.0.1", 8443
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			entry := &api.ServiceEntry{Node: &api.Node{Address: "192.0.2.1"}, Service: &api.AgentService{}}
			c.change(entry.Service)
			var want []netip.AddrPort
			for _, text := range c.want {
				want = append(want, netip.MustParseAddrPort(text))
			}
			if got := calledAt(entry); !slices.Equal(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func virtual(tag, address string) func(*api.AgentService) {
	return func(s *api.AgentService) {
		s.TaggedAddresses = map[string]api.ServiceAddress{tag: {Address: address, Port: 8080}}
	}
}

func sidecarOf(port int) func(*api.AgentService) {
	return func(s *api.AgentService) {
		virtual("consul-virtual", "240.0.0.3")(s)
		s.Kind, s.Address, s.Port = api.ServiceKindConnectProxy, "10.0.0.1", 20000
		s.Proxy = &api.AgentServiceConnectProxyConfig{LocalServicePort: port}
	}
}
