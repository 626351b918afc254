package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// discovered is a configuration with one service from Consul.
func discovered(consul, discovery string) string {
	return fmt.Sprintf(`
consul: {%s}
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, discovery: {consul: {service: app%s}}}]
`, consul, discovery)
}

// A registry that has lost everything takes nothing away from one that keeps its
// endpoints, and is believed again once it knows some.
func TestConsulRegistryLostUnderLoadIsGuarded(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	registerPlain(t, agent, "one", "app", origin(t, named("one")))
	for _, mode := range []string{"keep", "confirm"} {
		p := start(t, mode, discovered(fmt.Sprintf("address: %q", agent.Address), ", on_empty: "+mode))
		awaitEndpoints(t, p, 1)
		traffic := send(t, load.Options{Addr: p.address("in")})
		agent.Forget()
		var v struct{ Services []struct{ Error string } }
		eventually(t, patience, "the service says that its endpoints are kept", func() error {
			p.view("/api/v1/services", &v)
			if len(v.Services) != 1 || !strings.Contains(v.Services[0].Error, "kept") {
				return fmt.Errorf("%+v", v)
			}
			return nil
		})
		traffic.await(50)
		name := "after " + mode
		registerPlain(t, agent, name, "app", origin(t, named(name)))
		eventually(t, patience, "what is registered anew answers", func() error {
			if traffic.counts()[name] == 0 {
				return fmt.Errorf("%v", traffic.counts())
			}
			return nil
		})
		traffic.endClean()
	}
}

// An empty answer of a registry that is well is believed, after a second look.
func TestConsulLastInstanceDeregistered(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	registerPlain(t, agent, "one", "app", origin(t, named("one")))
	p := start(t, "proxy", discovered(fmt.Sprintf("address: %q", agent.Address), ""))
	awaitEndpoints(t, p, 1)
	agent.Deregister("one")
	awaitEndpoints(t, p, 0)
	status, _, header := get(t, "http://"+p.address("in")+"/")
	if status != 503 || header.Get("X-Larboard-Reason") != "no_endpoints" {
		t.Errorf("%d with reason %q, want 503 no_endpoints", status, header.Get("X-Larboard-Reason"))
	}
}

func TestConsulOverAUnixSocket(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{Socket: true})
	registerPlain(t, agent, "one", "app", origin(t, named("one")))
	p := start(t, "proxy", discovered(fmt.Sprintf("address: %q", agent.Address), ""))
	awaitEndpoints(t, p, 1)
	if _, body, _ := get(t, "http://"+p.address("in")+"/"); body != "one" {
		t.Errorf("%q answers", body)
	}
}

// A token file that is replaced is read again; one that names no valid token is
// reported as what it is.
func TestConsulTokenFile(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	registerPlain(t, agent, "one", "app", origin(t, named("one")))
	dir := shortDir(t)
	writeFile(t, dir, "token", "9d4e6f3c-5f0a-4b53-8f4f-0d2f0a6f7a11\n")
	p := launchIn(t, dir, "proxy", discovered(fmt.Sprintf("address: %q, token_file: token", agent.Address), ""))
	p.waitLog("ACL not found")
	if strings.Contains(p.log(), "9d4e6f3c") {
		t.Error("the token is in the log")
	}
	writeFile(t, dir, "token", agent.NewToken("larboard", `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`)+"\n")
	awaitEndpoints(t, p, 1)
	p.waitReady()
	if _, body, _ := get(t, "http://"+p.address("in")+"/"); body != "one" {
		t.Errorf("%q answers", body)
	}
}
