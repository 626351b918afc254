package discovery

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

func TestEndpointEqualSeesEveryField(t *testing.T) {
	full := func() Endpoint {
		return Endpoint{
			ID: "a", Address: "127.0.0.1:1", Weight: 1, Tags: []string{"x"}, Meta: map[string]string{"k": "v"},
			Identity: spiffeid.RequireFromString("spiffe://a.test/x"), IdentityPath: "/x", Node: "n", Zone: "z", Source: "s", Status: "passing",
			CalledAt: []netip.AddrPort{netip.MustParseAddrPort("240.0.0.1:0")},
		}
	}
	changes := map[string]func(*Endpoint){
		"ID":           func(e *Endpoint) { e.ID = "b" },
		"Address":      func(e *Endpoint) { e.Address = "127.0.0.1:2" },
		"Weight":       func(e *Endpoint) { e.Weight = 2 },
		"Tags":         func(e *Endpoint) { e.Tags = []string{"y"} },
		"Meta":         func(e *Endpoint) { e.Meta = map[string]string{"k": "w"} },
		"Identity":     func(e *Endpoint) { e.Identity = spiffeid.RequireFromString("spiffe://a.test/y") },
		"IdentityPath": func(e *Endpoint) { e.IdentityPath = "/y" },
		"Node":         func(e *Endpoint) { e.Node = "m" },
		"Zone":         func(e *Endpoint) { e.Zone = "y" },
		"Source":       func(e *Endpoint) { e.Source = "t" },
		"CalledAt":     func(e *Endpoint) { e.CalledAt = []netip.AddrPort{netip.MustParseAddrPort("240.0.0.2:0")} },
		"Status":       func(e *Endpoint) { e.Status = "warning" },
	}
	if !full().Equal(full()) {
		t.Error("an endpoint differs from its copy")
	}
	for field := range reflect.TypeFor[Endpoint]().Fields() {
		change := changes[field.Name]
		if change == nil {
			t.Errorf("no case for field %s", field.Name)
			continue
		}
		e := full()
		change(&e)
		if full().Equal(e) {
			t.Errorf("a change of %s is not seen", field.Name)
		}
	}
}
