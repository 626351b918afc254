package sidecar

import (
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// Of the upstreams those are told to Consul that have a port of their own here: not those that
// are called by captured addresses alone.
func TestRegisteredUpstreamsHaveAPort(t *testing.T) {
	loaded, problems := config.Load("test.yaml", []byte(`
identity: {spiffe: {socket: unix:///run/spire/agent.sock}}
consul: {address: "127.0.0.1:8500"}
capture: {outbound: true}
workload: {service: web, address: "127.0.0.1:8080", listen: "0.0.0.0:20000", register: true}
upstreams:
- {service: stock}
- {service: api, bind: "127.0.0.1:9191"}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	c := config.Expand(loaded)
	for i := range c.Listeners {
		if l := &c.Listeners[i]; l.Register != nil {
			all := registeredUpstreams(c, l)
			if len(all) != 1 || all[0].Service != "api" || all[0].Bind != "127.0.0.1:9191" {
				t.Errorf("%+v", all)
			}
			return
		}
	}
	t.Error("no listener is registered")
}
