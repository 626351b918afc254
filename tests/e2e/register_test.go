package e2e

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// seen is an instance as others find it.
type seen struct {
	Service struct {
		ID, Service, Address string
		Port                 int
		Tags                 []string
		Meta                 map[string]string
		Weights              struct{ Passing int }
		Proxy                struct {
			DestinationServiceID, LocalServiceAddress string
			LocalServicePort                          int
			Upstreams                                 []struct{ DestinationName string }
		}
	}
	Checks []struct{ CheckID, ServiceID, Status, Output, Notes, Type string }
}

// find asks for the instances of a service, or with connect for its proxies.
func find(t testing.TB, agent *real.ConsulAgent, kind, service string) (all []seen) {
	t.Helper()
	if err := agent.Call("GET", "/v1/health/"+kind+"/"+service, nil, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// state is the worst of an instance's checks, and what its own checks say.
func (s seen) state() (worst, output string) {
	order := []string{"passing", "warning", "critical"}
	worst = "passing"
	for _, c := range s.Checks {
		if slices.Index(order, c.Status) > slices.Index(order, worst) {
			worst = c.Status
		}
		if c.ServiceID == s.Service.ID {
			output += c.Notes + c.Output
		}
	}
	return worst, output
}

func awaitState(t testing.TB, agent *real.ConsulAgent, kind, service, want string) seen {
	t.Helper()
	var found []seen
	eventually(t, patience, service+" is "+want, func() error {
		found = find(t, agent, kind, service)
		if len(found) != 1 {
			return fmt.Errorf("%d instances", len(found))
		}
		if got, output := found[0].state(); got != want {
			return fmt.Errorf("%s: %s", got, output)
		}
		return nil
	})
	return found[0]
}

func registered(agent *real.ConsulAgent, local, register string) string {
	return fmt.Sprintf(`
consul: {address: %q}
identity: {consul: {}}
workload: {service: web, address: %q, listen: 127.0.0.1:0, intentions: true, register: %s}
upstreams: [{service: api, bind: %q}]
`, agent.Address, local, register, "127.0.0.1:0")
}

// A workload is known while the proxy is ready, also to an agent that has forgotten it.
func TestRegistrationFollowsTheProxy(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	local := origin(t, named("web"))
	p := start(t, "web", registered(agent, local, "{id: web-7, tags: [v1], meta: {team: blue}, weight: 3, ttl: 2s, check: {http: /, interval: 100ms}}"))
	proxy := awaitState(t, agent, "connect", "web", "passing")
	workload := awaitState(t, agent, "service", "web", "passing")
	if s := proxy.Service; s.ID != "web-7-sidecar-proxy" || s.Proxy.DestinationServiceID != "web-7" || s.Port != portOf(t, p.address("inbound")) ||
		s.Address != "127.0.0.1" || s.Proxy.LocalServicePort != portOf(t, local) || s.Weights.Passing != 3 || !slices.Equal(s.Tags, []string{"v1"}) {
		t.Errorf("proxy %+v", s)
	}
	if s := workload.Service; s.ID != "web-7" || s.Port != portOf(t, local) || s.Meta["team"] != "blue" {
		t.Errorf("workload %+v", s)
	}
	if p.scrape().sum("larboard_consul_registered", `id="web-7-sidecar-proxy"`) != 1 {
		t.Error("the metric says that nothing is registered")
	}

	time.Sleep(3 * time.Second) // longer than the TTL: somebody must have kept it alive
	awaitState(t, agent, "connect", "web", "passing")
	agent.Forget()
	back := time.Now()
	awaitState(t, agent, "connect", "web", "passing")
	took := time.Since(back)
	t.Logf("registered again %v after the agent had forgotten everything", took)
	if took > claimed(4*time.Second) {
		t.Errorf("registered again after %v", took)
	}

	// A reload changes it in place.
	p.configure(registered(agent, local, "{id: web-7, tags: [v2], ttl: 2s}"))
	if status, body := p.reload(); status != 200 {
		t.Fatal(body)
	}
	eventually(t, patience, "the tags are those of the new configuration", func() error {
		if tags := find(t, agent, "connect", "web")[0].Service.Tags; !slices.Equal(tags, []string{"v2"}) {
			return fmt.Errorf("%v", tags)
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if left := len(find(t, agent, "connect", "web")) + len(find(t, agent, "service", "web")); left != 0 {
		t.Errorf("%d registrations are left", left)
	}
}

// Maintenance keeps others away until it is ended, though the agent forgets it.
func TestMaintenance(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	p := start(t, "web", registered(agent, origin(t, named("web")), "{ttl: 2s}"))
	awaitState(t, agent, "connect", "web", "passing")
	if status, body := p.post("/api/v1/maintenance?reason=a+new+disk"); status != 200 || !strings.Contains(body, "web-sidecar-proxy") {
		t.Fatalf("%d %s", status, body)
	}
	for _, forget := range []bool{false, true} {
		if forget {
			agent.Forget()
		}
		for _, kind := range []string{"connect", "service"} {
			// A new agent may miss to tell its servers of a check until it tells them everything anew, each minute.
			eventually(t, 2*patience, kind+" is in maintenance", func() error {
				if _, output := awaitState(t, agent, kind, "web", "critical").state(); !strings.Contains(output, "a new disk") {
					return fmt.Errorf("forgotten %v: %q", forget, output)
				}
				return nil
			})
		}
	}
	if status, body := p.post("/api/v1/maintenance?end=true&id=web-sidecar-proxy"); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	awaitState(t, agent, "connect", "web", "passing")
	for query, want := range map[string]int{"": 400, "?reason=x&end=true": 400, "?reason=x&id=nobody": 404} {
		if status, body := p.post("/api/v1/maintenance" + query); status != want {
			t.Errorf("%q: %d %s", query, status, body)
		}
	}
	agent.Kill()
	if status, body := p.post("/api/v1/maintenance?reason=x"); status != 502 || !strings.Contains(body, "maintenance of") {
		t.Errorf("without an agent: %d %s", status, body)
	}
}

// Consul's loss never stops the proxy: not at its start, nor in between, nor at its end.
func TestRegistrationWithoutConsul(t *testing.T) {
	t.Parallel()
	local := origin(t, named("web"))
	p := start(t, "web", fmt.Sprintf(`
consul: {address: %q}
identity: {dev: {}}
workload: {service: web, address: %q, listen: 127.0.0.1:0, register: true}
`, freeAddress(t), local))
	p.waitLog("does not take the registration")
	var v struct{ Registrations []struct{ ID, Error string } }
	p.view("/api/v1/registrations", &v)
	if len(v.Registrations) != 1 || !strings.Contains(v.Registrations[0].Error, "refused") {
		t.Errorf("registrations %+v", v)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

// A stop takes the instance out of Consul first, and serves on until others know.
func TestRegistrationEndsBeforeTheServing(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	instances := map[string]*larboard{}
	for _, name := range []string{"one", "two"} {
		p := launch(t, name, fmt.Sprintf(`
consul: {address: %q}
listeners: [{name: in, address: 127.0.0.1:0, service: app, register: {service: app, id: %s, ttl: 2s, propagation: 2s}}]
services: [{name: app, endpoints: [%q]}]
`, agent.Address, name, origin(t, named(name))))
		instances[name] = p
	}
	caller := start(t, "caller", fmt.Sprintf(`
consul: {address: %q}
listeners: [{name: out, direction: outbound, address: 127.0.0.1:0, service: app}]
services: [{name: app, discovery: {consul: {service: app, connect: true}}}]
`, agent.Address))
	awaitEndpoints(t, caller, 2)
	traffic := send(t, load.Options{Addr: caller.address("out"), Rate: rate(), Conns: 16})
	traffic.await(100)
	direct := instances["one"].address("in")
	instances["one"].signal(syscall.SIGTERM)
	awaitEndpoints(t, caller, 1)
	if _, body, _ := get(t, "http://"+direct+"/"); body != "one" {
		t.Errorf("%q answers directly, want one, which still serves those who have not heard", body)
	}
	if code := instances["one"].exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	traffic.await(100)
	traffic.endClean()
}

// What somebody else has put into maintenance stays so, and what somebody else has
// registered is never deregistered.
func TestRegistrationOfOthers(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	maintenance := func(id, reason string, on bool) {
		t.Helper()
		path := fmt.Sprintf("/v1/agent/service/maintenance/%s?enable=%v&reason=%s", id, on, url.QueryEscape(reason))
		if err := agent.Call("PUT", path, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	inMaintenance := func(reason string) func() error {
		return func() error {
			found := find(t, agent, "connect", "web")
			if len(found) != 1 {
				return fmt.Errorf("%d instances", len(found))
			}
			if state, output := found[0].state(); state != "critical" || !strings.Contains(output, reason) {
				return fmt.Errorf("%s: %s", state, output)
			}
			return nil
		}
	}
	web := defined{agent, "web", origin(t, named("web")), freeAddress(t)}
	agent.Register(real.Service{
		ID: "web-1", Name: "web", Address: "127.0.0.1", Port: portOf(t, web.local),
		Connect: map[string]any{"SidecarService": map[string]any{
			"Port": portOf(t, web.listen), "Check": map[string]any{"TTL": "2s"},
		}},
	})
	environment := []string{"CONSUL_HTTP_ADDR=" + agent.Address}
	run := func() *larboard { return launchPlain(t, "web", environment, "run", "--sidecar-for", "web-1") }
	p := run()
	awaitState(t, agent, "connect", "web", "passing")
	time.Sleep(3 * time.Second) // longer than the TTL
	awaitState(t, agent, "connect", "web", "passing")
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if err := inMaintenance("larboard: draining")(); err != nil {
		t.Error("after a stop: ", err)
	}
	p = run()
	awaitState(t, agent, "connect", "web", "passing")

	maintenance("web-1-sidecar-proxy", "the operator says so", true)
	p.signal(syscall.SIGTERM)
	p.exit(patience)
	if err := inMaintenance("the operator says so")(); err != nil {
		t.Error("after a stop: ", err)
	}
	p = run()
	time.Sleep(2 * time.Second)
	if err := inMaintenance("the operator says so")(); err != nil {
		t.Error("after a start: ", err)
	}
	maintenance("web-1-sidecar-proxy", "", false)
	awaitState(t, agent, "connect", "web", "passing")
	select {
	case <-p.exited:
		t.Error(errors.New("the proxy has ended"))
	default:
	}
}
