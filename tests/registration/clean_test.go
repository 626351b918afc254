package registration

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// throughAgent is a proxy registered at the agent.
func throughAgent(agent *real.ConsulAgent, local, id string) string {
	return fmt.Sprintf(`
consul: {address: %q}
identity: {consul: {}}
workload: {service: web, address: %q, listen: 127.0.0.1:0, intentions: true, register: {id: %s, ttl: 6s, deregister_after: 0}}
`, agent.Address, local, id)
}

// swept is a line of `clean --output json`.
type swept struct {
	Proxies, Silent int
	Held            string
	Due             []struct {
		ID, Node, Why, Through, Error string
		Removed                       bool
	}
}

func cleanJSON(t *testing.T, agent *real.ConsulAgent, args ...string) (code int, s swept) {
	t.Helper()
	code, said := clean(t, agent, append(args, "--output", "json")...)
	if err := json.Unmarshal([]byte(said), &s); err != nil {
		t.Fatalf("exit code %d, %v in %q", code, err, said)
	}
	return code, s
}

func ids(all []instance) (names []string) {
	for _, i := range all {
		names = append(names, i.Service.ID)
	}
	slices.Sort(names)
	return names
}

// Of what is registered at an agent, what killed proxies have left goes, and nothing else: not the living, not
// what is in maintenance, not what others have registered.
func TestCleanThroughTheAgent(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	var all []*proxy
	for _, id := range []string{"a", "b", "c", "d"} {
		all = append(all, run(t, throughAgent(agent, workload(t, "web"), id)))
	}
	await(t, agent, "connect", "web", 4, "passing")
	agent.Register(real.Service{ID: "foreign", Name: "web", Address: "127.0.0.1", Port: 1, Checks: []real.Check{{TTL: "1s"}}},
		real.Service{ID: "foreign-sidecar-proxy", Name: "web-sidecar-proxy", Kind: "connect-proxy", Address: "127.0.0.1", Port: 1,
			Proxy: map[string]any{"DestinationServiceName": "web"}, Checks: []real.Check{{CheckID: "larboard:foreign-sidecar-proxy", TTL: "1s"}}})
	if code, s := cleanJSON(t, agent, "--once", "--critical-for", "1s"); code != 0 || s.Proxies != 4 || s.Silent != 0 || len(s.Due) != 0 {
		t.Errorf("with all alive: exit code %d, %+v", code, s)
	}
	if err := agent.Call("PUT", "/v1/agent/service/maintenance/b-sidecar-proxy?enable=true", nil, nil); err != nil {
		t.Fatal(err)
	}
	all[0].kill()
	all[1].kill()
	expired := func(id string) {
		t.Helper()
		eventually(t, id+" is silent", func() error {
			for _, i := range find(t, agent, "connect", "web") {
				if _, said := i.state(); i.Service.ID == id && strings.Contains(said, "TTL expired") {
					return nil
				}
			}
			return fmt.Errorf("it is not")
		})
	}
	expired("a-sidecar-proxy")
	expired("b-sidecar-proxy")
	if code, said := clean(t, agent, "--once", "--critical-for", "1s", "--dry-run"); code != 0 || !strings.Contains(said, "would be removed: a-sidecar-proxy of web-sidecar-proxy on the node real") {
		t.Errorf("dry run: exit code %d, %s", code, said)
	}
	code, s := cleanJSON(t, agent, "--once", "--critical-for", "1s")
	if code != 0 || len(s.Due) != 2 || s.Due[0].ID != "a-sidecar-proxy" || s.Due[1].ID != "a" || !s.Due[0].Removed || !s.Due[1].Removed || s.Due[0].Through != "agent" {
		t.Errorf("exit code %d, %+v", code, s)
	}
	if got, want := ids(find(t, agent, "connect", "web")), []string{"b-sidecar-proxy", "c-sidecar-proxy", "d-sidecar-proxy", "foreign-sidecar-proxy"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	if got, want := ids(find(t, agent, "service", "web")), []string{"b", "c", "d", "foreign"}; !slices.Equal(got, want) {
		t.Errorf("left are %q, want %q", got, want)
	}
	// A second proxy is more than a share of three.
	all[2].kill()
	all[3].kill()
	expired("c-sidecar-proxy")
	expired("d-sidecar-proxy")
	if code, s := cleanJSON(t, agent, "--once", "--critical-for", "1s"); code != 1 || !strings.Contains(s.Held, "2 of 3 proxies") {
		t.Errorf("exit code %d, %+v", code, s)
	}
	if got := len(find(t, agent, "connect", "web")); got != 4 {
		t.Errorf("%d proxies are left, want 4", got)
	}
	if code, said := clean(t, agent, "--once", "--critical-for", "1s", "--max-share", "1"); code != 0 || strings.Count(said, "removed through the agent") != 4 {
		t.Errorf("exit code %d, %s", code, said)
	}
}

// In the catalog the servers themselves notice who is killed, and the cleaner takes the node along.
func TestCleanTheCatalog(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	web := run(t, inCatalog(agent, workload(t, "web"), freeAddress(t), ""))
	await(t, agent, "connect", "web", 1, "passing")
	web.kill()
	begun := time.Now()
	await(t, agent, "connect", "web", 1, "critical")
	t.Logf("critical %v after the proxy was killed", time.Since(begun))
	await(t, agent, "service", "web", 1, "critical")
	code, s := cleanJSON(t, agent, "--once", "--critical-for", "1s")
	if code != 0 || len(s.Due) != 2 || !s.Due[0].Removed || !s.Due[1].Removed || s.Due[0].Through != "catalog" {
		t.Errorf("exit code %d, %+v", code, s)
	}
	if left := len(find(t, agent, "connect", "web")) + len(find(t, agent, "service", "web")); left != 0 || len(nodes(t, agent, "pod-")) != 0 {
		t.Errorf("%d instances and the nodes %q are left", left, nodes(t, agent, "pod-"))
	}
}

// A proxy that comes back before it is cleaned up takes its place again, and the session of its earlier
// life does not harm it.
func TestCatalogAfterAKill(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	local := workload(t, "web")
	run(t, inCatalog(agent, local, freeAddress(t), "")).awaitThenKill(agent)
	first := sessions(t, agent)
	web := run(t, inCatalog(agent, local, freeAddress(t), ""))
	eventually(t, "the first session has ended, and another one lives", func() error {
		if now := sessions(t, agent); len(now) != 1 || slices.Equal(now, first) {
			return fmt.Errorf("there are %q", now)
		}
		return nil
	})
	if state, said := find(t, agent, "connect", "web")[0].state(); state != "passing" {
		t.Errorf("the end of the first session made it %s: %s", state, said)
	}
	web.stop()
	if left := sessions(t, agent); len(left) != 0 {
		t.Errorf("the sessions %q are left", left)
	}
}

// Without Consul there is an error at once; with --every there are notes, and it goes on when Consul is back.
func TestCleanWithoutConsul(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	cmd := larboard(t, "clean", "--consul", agent.Address, "--every", "1s", "--critical-for", "1s")
	said := &output{}
	cmd.Stdout, cmd.Stderr = said, said
	agent.Stop()
	if code, said := clean(t, agent, "--once"); code != 1 || !strings.Contains(said, "refused") {
		t.Errorf("exit code %d, %s", code, said)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	eventually(t, "it notes that Consul is away", func() error {
		if !strings.Contains(said.String(), "counting anew") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
	agent.Restart()
	run(t, throughAgent(agent, workload(t, "web"), "a")).awaitThenKill(agent)
	eventually(t, "it removes what is left", func() error {
		if !strings.Contains(said.String(), "removed through the agent: a-sidecar-proxy") {
			return fmt.Errorf("it says %q", said)
		}
		return nil
	})
}

// sessions are the IDs of all that Consul has.
func sessions(t *testing.T, agent *real.ConsulAgent) (ids []string) {
	t.Helper()
	var all []struct{ ID string }
	if err := agent.Call("GET", "/v1/session/list", nil, &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		ids = append(ids, s.ID)
	}
	return ids
}

// What an agent holds that lives elsewhere is left to it where it cannot be asked; when its host is gone, the
// catalog is what is left.
func TestCleanAfterAHostIsGone(t *testing.T) {
	t.Parallel()
	cluster := real.ConsulCluster(t, 3)
	asked, host := cluster.Leader(), cluster.Follower()
	run(t, throughAgent(host, workload(t, "web"), "a")).awaitThenKill(host)
	eventually(t, "the leader hears that it is silent", func() error {
		all := find(t, asked, "connect", "web")
		if len(all) != 1 {
			return fmt.Errorf("it knows %d", len(all))
		}
		if _, said := all[0].state(); !strings.Contains(said, "TTL expired") {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
	if code, s := cleanJSON(t, asked, "--once", "--critical-for", "0s"); code != 1 || len(s.Due) != 2 || !strings.Contains(s.Due[0].Error, "clean there, too") {
		t.Errorf("exit code %d, %+v", code, s)
	}
	host.Kill()
	eventually(t, "the host is known to be gone, and what it held is removed", func() error {
		if _, s := cleanJSON(t, asked, "--once", "--critical-for", "0s"); len(s.Due) != 2 || !s.Due[0].Removed || !s.Due[1].Removed || s.Due[0].Through != "catalog" {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if left := len(find(t, asked, "connect", "web")) + len(find(t, asked, "service", "web")); left != 0 {
		t.Errorf("%d instances are left", left)
	}
}
