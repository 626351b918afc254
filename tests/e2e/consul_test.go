package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

func TestConsulInstancesShareTheLoadAndANewOneJoins(t *testing.T) {
	m := newMesh(t, "web", "api")
	m.instances(3)
	web, api := m.web()
	awaitEndpoints(t, web, 3)

	traffic := callAPI(t, api)
	traffic.pass(either(2*time.Second, 20*time.Second))
	counts := traffic.counts()
	t.Logf("answers: %v", counts)
	mustBeEven(t, counts, 3)

	fourth := m.instance("api-4")
	known := time.Now()
	m.register(fourth)
	eventually(t, patience, "the fourth instance answers", func() error {
		if traffic.counts()["api-4"] == 0 {
			return fmt.Errorf("%v", traffic.counts())
		}
		return nil
	})
	took := time.Since(known)
	t.Logf("the fourth instance answered %v after its registration began", took)
	if took > claimed(time.Second) {
		t.Errorf("the fourth instance got its first request after %v, want within 1 s", took)
	}
	traffic.endClean()
}

// mustBeEven wants n names, each within 20 % of an even share.
func mustBeEven(t testing.TB, counts map[string]int, n int) {
	t.Helper()
	total := 0
	for _, c := range counts {
		total += c
	}
	share := float64(total) / float64(n)
	for name, c := range counts {
		if off := float64(c)/share - 1; off < -0.2 || off > 0.2 {
			t.Errorf("%s answered %d of %d requests, want %.0f within 20 %%", name, c, total, share)
		}
	}
	if len(counts) != n {
		t.Errorf("%d instances answered, want %d: %v", len(counts), n, counts)
	}
}

func TestConsulInstanceKilledWithoutDeregistration(t *testing.T) {
	m := newMesh(t, "web", "api")
	m.instances(2)
	web, api := m.web()
	traffic := callAPI(t, api)
	for _, c := range []struct {
		name string
		kill func(*instance)
	}{
		{"workload and sidecar", func(i *instance) { i.sidecar.kill(); i.workload.kill() }},
		{"sidecar only", func(i *instance) { i.sidecar.kill() }},
		{"workload only", func(i *instance) { i.workload.kill() }},
	} {
		victim := m.instance(c.name)
		m.register(victim)
		awaitEndpoints(t, web, 3)
		traffic.await(int(rate()))
		before := traffic.counts()
		c.kill(victim)
		// No request that has a body goes down with it, either.
		posts := load.HTTP(t.Context(), load.Options{Addr: api, Method: "POST", Body: []byte("x"), Conns: 2, Rate: 50, Requests: 50})
		mustBeClean(t, posts)
		traffic.pass(either(time.Second, 30*time.Second))
		after := traffic.counts()
		t.Logf("%s killed: answers before %v, after %v", c.name, before, after)
		for _, name := range []string{"api-1", "api-2"} {
			if gained := after[name] - before[name]; gained < int(rate())/2 {
				t.Errorf("%s killed: %s answered %d more only", c.name, name, gained)
			}
		}
		m.agent.Deregister(victim.name)
		awaitEndpoints(t, web, 2)
	}
	traffic.endClean()
}

func TestConsulAgentFrozenAndRestartedUnderLoad(t *testing.T) {
	m := newMesh(t, "web", "api")
	m.instances(3)
	web, api := m.web()
	awaitEndpoints(t, web, 3)
	traffic := callAPI(t, api)
	traffic.await(int(rate()))

	m.agent.Freeze()
	traffic.pass(either(3*time.Second, 60*time.Second))
	if n := len(endpoints(web)); n != 3 {
		t.Errorf("%d endpoints while the agent is frozen, want the last good set of 3", n)
	}
	m.agent.Kill()
	traffic.pass(either(time.Second, 10*time.Second))
	if n := len(endpoints(web)); n != 3 {
		t.Errorf("%d endpoints without an agent, want the last good set of 3", n)
	}
	m.agent.Restart()
	back := time.Now()
	m.register(m.instance("api-4"))
	eventually(t, patience, "an instance registered after the restart answers", func() error {
		if traffic.counts()["api-4"] == 0 {
			return fmt.Errorf("%v", traffic.counts())
		}
		return nil
	})
	t.Logf("an instance registered after the restart answered after %v", time.Since(back))
	traffic.endClean()
	awaitEndpoints(t, web, 4)
}
