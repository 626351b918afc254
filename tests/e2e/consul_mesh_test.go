package e2e

import (
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// mesh is the main job: services registered in a real Consul, each instance
// behind a larboard of its own, with SPIFFE identities from the Workload API.
type mesh struct {
	t     testing.TB
	agent *real.ConsulAgent
	dir   string
}

// instance is a workload and the larboard in front of it.
type instance struct {
	name     string
	workload *workload
	sidecar  *larboard
}

// newMesh starts an agent and a development authority, which is a process for
// each service since a socket gives one identity; they share the authority's key.
func newMesh(t testing.TB, services ...string) *mesh {
	t.Helper()
	m := &mesh{t: t, agent: real.Consul(t, real.ConsulOptions{}), dir: shortDir(t)}
	for _, service := range services {
		start(t, "authority of "+service, fmt.Sprintf(`
identity:
  dev: {trust_domain: mesh.test, state: %q, socket: %q, id: "spiffe://mesh.test/ns/default/dc/dc1/svc/%s"}
listeners: [{name: none, address: 127.0.0.1:0, service: none}]
services: [{name: none, endpoints: [127.0.0.1:1]}]
`, filepath.Join(m.dir, "authority"), m.socket(service), service))
	}
	return m
}

func (m *mesh) socket(service string) string { return filepath.Join(m.dir, service+".sock") }

// common is what each sidecar's configuration begins with.
func (m *mesh) common(service string) string {
	return fmt.Sprintf("consul: {address: %q}\nidentity: {spiffe: {socket: \"unix://%s\"}}\n", m.agent.Address, m.socket(service))
}

// web starts the caller's sidecar and returns it with the address of api.
func (m *mesh) web() (*larboard, string) {
	m.t.Helper()
	p := start(m.t, "web", m.common("web")+"upstreams: [{service: api, bind: 127.0.0.1:0}]\n")
	return p, p.address("api")
}

// instance starts one of api, without making it known.
func (m *mesh) instance(name string) *instance {
	m.t.Helper()
	w := startWorkload(m.t, name)
	return &instance{name: name, workload: w, sidecar: start(m.t, "sidecar of "+name, m.common("api")+fmt.Sprintf(`
workload: {service: api, address: %q, listen: 127.0.0.1:0, allow: ["spiffe://mesh.test/ns/default/dc/dc1/svc/web"]}
`, w.address))}
}

// instances starts and registers api-1 to api-n.
func (m *mesh) instances(n int) []*instance {
	m.t.Helper()
	all := make([]*instance, n)
	for i := range all {
		all[i] = m.instance(fmt.Sprintf("api-%d", i+1))
		m.register(all[i])
	}
	return all
}

// register makes an instance known as its sidecar.
func (m *mesh) register(i *instance) {
	m.t.Helper()
	host, port, err := net.SplitHostPort(i.sidecar.address("inbound"))
	if err != nil {
		m.t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		m.t.Fatal(err)
	}
	m.agent.Register(real.Service{
		ID: i.name, Name: "api-sidecar-proxy", Kind: "connect-proxy", Address: host, Port: number,
		Proxy: map[string]any{"DestinationServiceName": "api", "DestinationServiceID": i.name},
	})
}

// awaitEndpoints waits until a sidecar knows n endpoints of api.
func awaitEndpoints(t testing.TB, p *larboard, n int) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("%s knows %d endpoints", p.name, n), func() error {
		if got := len(endpoints(p)); got != n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// endpoint is what /api/v1/endpoints says of one.
type endpoint struct {
	Service, Address, ID, State, Reason string
	Requests                            float64
}

func endpoints(p *larboard) []endpoint {
	var v struct{ Endpoints []endpoint }
	p.view("/api/v1/endpoints", &v)
	return v.Endpoints
}

// rate is what the claims say, and less where the tests share their CPUs.
func rate() float64 {
	if long() {
		return 500
	}
	return 200
}

// callAPI is the load of the claims: GETs through web's sidecar, over connections
// enough for the rate.
func callAPI(t testing.TB, address string) *traffic {
	t.Helper()
	return send(t, load.Options{Addr: address, Host: "api", Rate: rate(), Conns: 16})
}
