package consul

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
)

func TestEndpoint(t *testing.T) {
	base := func() *api.ServiceEntry { return instance("a", 1) }
	want := func(change func(*discovery.Endpoint)) discovery.Endpoint {
		e := discovery.Endpoint{ID: "n/a", Address: "127.0.0.1:1001", Weight: 1, Node: "n", Source: "consul:dc1", Status: "passing"}
		if change != nil {
			change(&e)
		}
		return e
	}
	for name, c := range map[string]struct {
		change  func(*api.ServiceEntry)
		want    *discovery.Endpoint // nil: left out
		problem string
	}{
		"node address": {func(*api.ServiceEntry) {}, new(want(nil)), ""},
		"service address": {func(e *api.ServiceEntry) { e.Service.Address = "10.1.2.3" },
			new(want(func(e *discovery.Endpoint) { e.Address, e.CalledAt = "10.1.2.3:1001", calledBy("10.1.2.3:1001") })), ""},
		"ipv6": {func(e *api.ServiceEntry) { e.Service.Address = "2001:db8::1" },
			new(want(func(e *discovery.Endpoint) {
				e.Address, e.CalledAt = "[2001:db8::1]:1001", calledBy("[2001:db8::1]:1001")
			})), ""},
		"ipv6 in brackets": {func(e *api.ServiceEntry) { e.Service.Address = "[2001:db8::1]" },
			new(want(func(e *discovery.Endpoint) { e.Address = "[2001:db8::1]:1001" })), ""},
		"socket": {func(e *api.ServiceEntry) { e.Service.SocketPath = "/run/a.sock" },
			new(want(func(e *discovery.Endpoint) { e.Address = "unix:///run/a.sock" })), ""},
		"relative socket": {func(e *api.ServiceEntry) { e.Service.SocketPath = "a.sock" }, nil, "not absolute"},
		"host name":       {func(e *api.ServiceEntry) { e.Service.Address = "a.test" }, nil, `address "a.test" is not an IP address`},
		"no port":         {func(e *api.ServiceEntry) { e.Service.Port = 0 }, nil, "port 0"},
		"port too high":   {func(e *api.ServiceEntry) { e.Service.Port = 70000 }, nil, "port 70000"},
		"weight":          {func(e *api.ServiceEntry) { e.Service.Weights.Passing = 7 }, new(want(func(e *discovery.Endpoint) { e.Weight = 7 })), ""},
		"no weights":      {func(e *api.ServiceEntry) { e.Service.Weights = api.AgentWeights{} }, new(want(nil)), ""},
		"identity": {func(e *api.ServiceEntry) { e.Service.Meta = map[string]string{"spiffe_id": "spiffe://a.test/api"} },
			new(want(func(e *discovery.Endpoint) {
				e.Meta = map[string]string{"spiffe_id": "spiffe://a.test/api"}
				e.Identity = spiffeid.RequireFromString("spiffe://a.test/api")
			})), ""},
		"invalid identity": {func(e *api.ServiceEntry) { e.Service.Meta = map[string]string{"spiffe_id": "https://a.test"} },
			new(want(func(e *discovery.Endpoint) { e.Meta = map[string]string{"spiffe_id": "https://a.test"} })), "ignored"},
		"tags": {func(e *api.ServiceEntry) { e.Service.Tags = []string{"v1"} },
			new(want(func(e *discovery.Endpoint) { e.Tags = []string{"v1"} })), ""},
		"zone of the node's metadata": {func(e *api.ServiceEntry) { e.Node.Meta = map[string]string{"zone": "z1"} },
			new(want(func(e *discovery.Endpoint) { e.Zone = "z1" })), ""},
		"zone of the locality": {func(e *api.ServiceEntry) {
			e.Node.Meta = map[string]string{"zone": "z1"}
			e.Service.Locality = &api.Locality{Region: "r", Zone: "z2"}
		}, new(want(func(e *discovery.Endpoint) { e.Zone = "z2" })), ""},
		"sidecar": {func(e *api.ServiceEntry) {
			e.Service.Kind = api.ServiceKindConnectProxy
			e.Service.Proxy = &api.AgentServiceConnectProxyConfig{DestinationServiceName: "api"}
		}, new(want(func(e *discovery.Endpoint) { e.IdentityPath = "/ns/default/dc/dc1/svc/api" })), ""},
		"native": {func(e *api.ServiceEntry) {
			e.Service.Connect = &api.AgentServiceConnect{Native: true}
			e.Service.Namespace, e.Service.Partition = "team", "east"
		}, new(want(func(e *discovery.Endpoint) { e.IdentityPath = "/ap/east/ns/team/dc/dc1/svc/web" })), ""},
		"critical":    {func(e *api.ServiceEntry) { e.Checks[0].Status = api.HealthCritical }, nil, ""},
		"warning":     {func(e *api.ServiceEntry) { e.Checks[0].Status = api.HealthWarning }, nil, ""},
		"maintenance": {func(e *api.ServiceEntry) { e.Checks[0].CheckID = api.NodeMaint }, nil, ""},
		"no service":  {func(e *api.ServiceEntry) { e.Service = nil }, nil, ""},
		"no node":     {func(e *api.ServiceEntry) { e.Node = nil }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			entry := base()
			c.change(entry)
			set, problems := (&health{}).endpoints([]*api.ServiceEntry{nil, entry})
			if got := fmt.Sprint(problems); c.problem == "" && len(problems) > 0 || !strings.Contains(got, c.problem) {
				t.Errorf("problems %s, want %q", got, c.problem)
			}
			if c.want == nil {
				if len(set) != 0 {
					t.Errorf("endpoints %+v, want none", set)
				}
				return
			}
			if len(set) != 1 || !set[0].Equal(*c.want) {
				t.Errorf("endpoints %+v, want %+v", set, *c.want)
			}
		})
	}
}

func calledBy(address string) []netip.AddrPort {
	return []netip.AddrPort{netip.MustParseAddrPort(address)}
}

func TestWarningInstancesAtTheirWeight(t *testing.T) {
	warning, critical := instance("w", 1), instance("c", 2)
	warning.Checks[0].Status, warning.Service.Weights = api.HealthWarning, api.AgentWeights{Passing: 10, Warning: 0}
	critical.Checks[0].Status = api.HealthCritical
	s := &health{want: Health{Warning: true}}
	set, _ := s.endpoints([]*api.ServiceEntry{warning, critical})
	if len(set) != 1 || set[0].Weight != 0 {
		t.Errorf("endpoints %+v, want the one in warning with weight 0", set)
	}
}

func FuzzEndpoints(f *testing.F) {
	seed, err := json.Marshal([]*api.ServiceEntry{instance("a", 1), instance("b", 2)})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(seed))
	f.Add("null")
	f.Add("[null,{}]")
	f.Add(`[{"Node":{},"Service":{"Kind":"connect-proxy","Port":1,"Address":"::1","Meta":{"spiffe_id":"x"}}}]`)
	f.Fuzz(func(t *testing.T, text string) {
		var entries []*api.ServiceEntry
		if json.Unmarshal([]byte(text), &entries) != nil {
			return
		}
		set, _ := (&health{want: Health{Warning: true}}).endpoints(entries)
		for _, e := range set {
			if e.ID == "" || e.Address == "" || e.Weight < 0 {
				t.Errorf("endpoint %+v", e)
			}
		}
		if !slices.IsSortedFunc(set, func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) }) {
			t.Error("endpoints are not sorted")
		}
	})
}
