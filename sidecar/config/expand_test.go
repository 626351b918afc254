package config

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

func load(t *testing.T, text string) *Config {
	t.Helper()
	c, problems := Load("f.yaml", []byte(text))
	if err := problems.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestExpandLeavesItsInputAlone(t *testing.T) {
	text := small + "workload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000}\n" +
		"upstreams: [{service: api, bind: 127.0.0.1:9191}]\nidentity: {spiffe: {}}\n"
	c, untouched := load(t, text), load(t, text)
	Expand(c)
	if !reflect.DeepEqual(c, untouched) {
		t.Errorf("got %+v, want %+v", c, untouched)
	}
	once := Expand(c)
	if twice := Expand(once); !reflect.DeepEqual(once, twice) {
		t.Errorf("a second expansion changes something: %+v, %+v", once, twice)
	}
}

func TestExpandUpstream(t *testing.T) {
	base := "identity: {spiffe: {}}\ntimeouts: {connect: 3s}\nupstreams:\n- {service: api, bind: 127.0.0.1:9191"
	for _, test := range []struct {
		name, text string
		want       Service
	}{
		{"discovers mesh proxies", base + "}", Service{Discovery: mesh("api", true), Balance: RoundRobin}},
		{"tags keep the mesh", base + ", discovery: {consul: {service: a}}}", Service{Discovery: mesh("a", true), Balance: RoundRobin}},
		{"not by proxies", base + ", discovery: {consul: {connect: false}}}", Service{Discovery: mesh("api", false), Balance: RoundRobin}},
		{"endpoints", base + ", balance: p2c, endpoints: [10.0.0.1:1], ids: [spiffe://a/b]}", Service{
			Endpoints: []Endpoint{{Address: "10.0.0.1:1", Weight: 1}}, Balance: P2C,
			TLS: &ServiceTLS{SPIFFE: &ServiceSPIFFE{IDs: []IDPattern{"spiffe://a/b"}}},
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := Expand(load(t, test.text))
			want := test.want
			want.Name, want.Protocol = "api", HTTPAuto
			want.HTTP2.setDefaults()
			want.Retries.setDefaults()
			want.Retries.inherit()
			want.Timeouts.setDefaults()
			want.Timeouts.inheritFrom(c.Timeouts)
			if want.TLS == nil {
				want.TLS = &ServiceTLS{SPIFFE: &ServiceSPIFFE{}}
			}
			if len(c.Services) != 1 || !reflect.DeepEqual(c.Services[0], want) {
				t.Errorf("got %+v, want %+v", c.Services, want)
			}
			l := c.Listeners[0]
			if l.Name != "api" || l.Direction != Outbound || l.Address[0] != "127.0.0.1:9191" || l.Routes[0].Service != "api" || l.TLS != nil {
				t.Errorf("got %+v", l)
			}
			if want.Timeouts.Connect != Duration(3*time.Second) {
				t.Errorf("connect timeout %v is not inherited", want.Timeouts.Connect)
			}
		})
	}
}

func mesh(service string, connect bool) Discovery {
	return Discovery{{Consul: &ConsulDiscovery{Service: service, Connect: connect, PassingOnly: true, OnEmpty: ConfirmEmpty}}}
}

func TestExpandUpstreamOfADescribedService(t *testing.T) {
	c := Expand(load(t, "services: [{name: api, endpoints: [127.0.0.1:1]}]\nupstreams: [{service: api, bind: 127.0.0.1:9191}]\n"))
	if len(c.Services) != 1 || c.Services[0].TLS != nil || len(c.Listeners) != 1 {
		t.Errorf("got %+v", c)
	}
}

func TestExpandWorkloads(t *testing.T) {
	c := Expand(load(t, string(mustRead(t, "testdata/perhost.good.yaml"))))
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Name)
	}
	// The pattern "api" is nobody's own: only what the workloads make of it stays.
	want := []string{"plain", "web.local", "web.api", "web.plain", "db-1.local", "db-1.api", "db-1.mail"}
	if !slices.Equal(names, want) {
		t.Errorf("services %q, want %q", names, want)
	}
	for name, identity := range map[string]string{"web.api": "web", "db-1.api": "db", "db-1.mail": "db"} {
		if s := c.service(name); s.TLS.SPIFFE.Identity != identity {
			t.Errorf("%s is called as %q, want %q", name, s.TLS.SPIFFE.Identity, identity)
		}
	}
	if s := c.service("web.plain"); s.TLS != nil {
		t.Errorf("a plain service got %+v", s.TLS)
	}
	for _, l := range c.Listeners {
		if want := map[string]string{"web.inbound": "web", "db-1.inbound": "db"}[l.Name]; want != "" && l.TLS.SPIFFE.Identity != want {
			t.Errorf("%s answers as %q, want %q", l.Name, l.TLS.SPIFFE.Identity, want)
		}
	}
	if again := Expand(c); !reflect.DeepEqual(again, c) {
		t.Errorf("a second expansion changes something: %+v", again)
	}
}

func TestTheOnlyNamedIdentityIsTheDefault(t *testing.T) {
	c := Expand(load(t, `
identities: {only: {spiffe: {}}}
listeners: [{name: l, address: 127.0.0.1:1, tls: {spiffe: {}}, service: s}]
services: [{name: s, endpoints: [127.0.0.1:2], tls: {spiffe: {}}}]
workload: {service: web, address: 127.0.0.1:8000, listen: 127.0.0.1:20000}
upstreams: [{service: api, bind: 127.0.0.1:9191}]
`))
	for _, l := range c.Listeners {
		if l.TLS != nil && l.TLS.SPIFFE.Identity != "only" {
			t.Errorf("listener %s: %q", l.Name, l.TLS.SPIFFE.Identity)
		}
	}
	for _, s := range c.Services {
		if s.TLS != nil && s.TLS.SPIFFE.Identity != "only" {
			t.Errorf("service %s: %q", s.Name, s.TLS.SPIFFE.Identity)
		}
	}
}
