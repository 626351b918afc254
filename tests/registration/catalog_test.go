package registration

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// inCatalog is a proxy of a workload without an agent beside it.
func inCatalog(agent *real.ConsulAgent, local, admin, more string) string {
	return fmt.Sprintf(`
admin: {address: %q}
consul: {address: %q%s}
identity: {consul: {}}
workload: {service: web, address: %q, listen: 127.0.0.1:0, intentions: true,
  register: {through: catalog, node: pod-web-7, id: web-7, ttl: 10s, tags: [v1], meta: {pod: web-7, namespace: shop, node: n1, version: "4"}}}
`, admin, agent.Address, more, local)
}

func fetch(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// Where there are only servers, a proxy is found by others, tells how it is, survives Consul's loss of
// memory and leaves nothing behind.
func TestCatalog(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{DefaultIntention: "allow"})
	admin, bind := freeAddress(t), freeAddress(t)
	web := run(t, inCatalog(agent, workload(t, "web"), admin, ""))
	seen := await(t, agent, "connect", "web", 1, "passing")[0]
	if seen.Node.Node != "pod-web-7" || seen.Service.ID != "web-7-sidecar-proxy" || seen.Service.Meta["larboard"] == "" || seen.Service.Meta["pod"] != "web-7" {
		t.Errorf("the proxy is registered as %+v", seen)
	}
	if plain := await(t, agent, "service", "web", 1, "passing")[0]; plain.Service.ID != "web-7" || plain.Service.Meta["namespace"] != "shop" {
		t.Errorf("the workload is registered as %+v", plain)
	}
	if view, err := fetch("http://" + admin + "/api/v1/registrations"); err != nil || !strings.Contains(view, `"pod-web-7"`) || !strings.Contains(view, `"version": "4"`) {
		t.Errorf("the admin view: %v\n%s", err, view)
	}

	run(t, fmt.Sprintf(`
consul: {address: %q}
identity: {consul: {service: front}}
upstreams: [{service: web, bind: %q}]
`, agent.Address, bind))
	answers := func() error {
		got, err := fetch("http://" + bind)
		if err == nil && got != "web" {
			err = fmt.Errorf("answer %q", got)
		}
		return err
	}
	eventually(t, "another proxy finds it", answers)

	for reason, state := range map[string]string{"disk": "critical"} {
		if resp, err := http.Post("http://"+admin+"/api/v1/maintenance?reason="+reason, "", nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("maintenance: %v %v", resp, err)
		}
		if _, said := await(t, agent, "connect", "web", 1, state)[0].state(); !strings.Contains(said, reason) {
			t.Errorf("in maintenance it says %s", said)
		}
		if resp, err := http.Post("http://"+admin+"/api/v1/maintenance?end=true", "", nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("end of maintenance: %v %v", resp, err)
		}
		await(t, agent, "connect", "web", 1, "passing")
	}

	agent.Forget()
	await(t, agent, "connect", "web", 1, "passing")
	eventually(t, "another proxy finds it again", answers)

	web.stop()
	if left := len(find(t, agent, "connect", "web")) + len(find(t, agent, "service", "web")); left != 0 || len(nodes(t, agent, "pod-")) != 0 {
		t.Errorf("%d instances and the nodes %q are left", left, nodes(t, agent, "pod-"))
	}
}

// With ACLs a token of just the rights that the manual names is enough.
func TestCatalogWithACLs(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	token := agent.NewToken("web", shown(t, "node_prefix \"pod-\""))
	web := run(t, inCatalog(agent, workload(t, "web"), freeAddress(t), fmt.Sprintf(", token: %q", token)))
	await(t, agent, "connect", "web", 1, "passing")
	web.stop()
	if left := nodes(t, agent, "pod-"); len(left) != 0 {
		t.Errorf("the nodes %q are left", left)
	}

	less := agent.NewToken("less", `service_prefix "" { policy = "write" } node_prefix "" { policy = "read" }`)
	web = run(t, inCatalog(agent, workload(t, "web"), freeAddress(t), fmt.Sprintf(", token: %q", less)))
	eventually(t, "the log says what the token lacks", func() error {
		if said := web.log.String(); !strings.Contains(said, "node:write and session:write for the node pod-web-7") {
			return fmt.Errorf("it says:\n%s", said)
		}
		return nil
	})
}

// A node that an agent looks after is refused: the agent would take the registration away.
func TestCatalogOfAnAgentsNode(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	web := run(t, strings.Replace(inCatalog(agent, workload(t, "web"), freeAddress(t), ""), "pod-web-7", "real", 1))
	eventually(t, "the log says whose node it is", func() error {
		if said := web.log.String(); !strings.Contains(said, "is an agent's, which would take away") {
			return fmt.Errorf("it says:\n%s", said)
		}
		return nil
	})
	if all := find(t, agent, "connect", "web"); len(all) != 0 {
		t.Errorf("registered are %+v", all)
	}
}

// A workload that is found down is critical, and found up again it is not.
func TestCatalogTellsTheWorkloadsState(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	local := freeAddress(t)
	run(t, fmt.Sprintf(`
consul: {address: %q}
identity: {consul: {}}
workload: {service: web, address: %q, listen: 127.0.0.1:0, intentions: true, health: {http: {path: /}, interval: 100ms, rise: 1, fall: 1},
  register: {through: catalog, node: pod-web-7}}
`, agent.Address, local))
	if _, said := await(t, agent, "connect", "web", 1, "critical")[0].state(); !strings.Contains(said, "finds the workload down") {
		t.Errorf("it says %s", said)
	}
	serveAt(t, local)
	await(t, agent, "connect", "web", 1, "passing")
}

// A reload takes the registration from the agent to the catalog and back, and leaves nothing where it was.
func TestReloadChangesTheHolder(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	config := inCatalog(agent, workload(t, "web"), freeAddress(t), "")
	elsewhere := strings.Replace(config, "through: catalog, node: pod-web-7, ", "", 1)
	web := run(t, config)
	await(t, agent, "connect", "web", 1, "passing")
	for _, step := range []struct{ config, node string }{{elsewhere, "real"}, {config, "pod-web-7"}} {
		web.reload(step.config)
		eventually(t, "it is registered on the node "+step.node, func() error {
			all := append(find(t, agent, "connect", "web"), find(t, agent, "service", "web")...)
			if len(all) != 2 || all[0].Node.Node != step.node || all[1].Node.Node != step.node {
				return fmt.Errorf("there are %+v", all)
			}
			return nil
		})
		await(t, agent, "connect", "web", 1, "passing")
	}
	if n := len(sessions(t, agent)); n != 1 {
		t.Errorf("there are %d sessions", n)
	}
}
