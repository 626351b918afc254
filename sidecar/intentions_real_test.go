package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/tests/real"
)

// verdicts compares ours with those of one real agent.
type verdicts struct {
	t      *testing.T
	agent  *real.ConsulAgent
	client *consul.Client
	token  string
	random *rand.Rand

	destinations, sources []string
	compared, allowed     int
}

// TestRealIntentions writes generated sets of intentions to a real Consul and asks its
// authorize, and us, about every caller. There must be no difference, whatever holds
// by default. The token may do no more than a proxy's.
func TestRealIntentions(t *testing.T) {
	sets := 40
	if os.Getenv("LARBOARD_LONG") == "1" {
		sets = 500
	}
	for _, c := range []struct {
		name string
		o    real.ConsulOptions
	}{
		{"no ACLs", real.ConsulOptions{}},
		{"ACLs deny by default", real.ConsulOptions{ACL: true}},
		{"intentions deny by default", real.ConsulOptions{DefaultIntention: "deny"}},
		{"ACLs deny, intentions allow by default", real.ConsulOptions{ACL: true, DefaultIntention: "allow"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			v := newVerdicts(t, real.Consul(t, c.o))
			for set := range sets {
				v.random = rand.New(rand.NewPCG(uint64(set), 4711))
				v.write(set)
				for _, destination := range v.destinations {
					v.compare(set, destination)
				}
			}
			t.Logf("%d sets, %d verdicts, %d of them allow", sets, v.compared, v.allowed)
			if v.allowed < v.compared/10 || v.allowed > v.compared*9/10 {
				t.Error("the sets are too uniform to say anything")
			}
		})
	}
}

func newVerdicts(t *testing.T, agent *real.ConsulAgent) *verdicts {
	v := &verdicts{
		t: t, agent: agent, destinations: []string{"d1", "d2", "d3"},
		sources: []string{"s1", "s2", "s3", "s4", "d1", "stranger"},
	}
	if agent.Token != "" {
		v.token = agent.NewToken("proxy", `service_prefix "d" { policy = "write" }`)
	}
	var err error
	if v.client, err = consul.New(consul.Options{Address: agent.Address, Token: v.token}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(v.client.Close)
	return v
}

// write replaces all intentions. The marker is written last and known by its set's
// number: an agent that tells it has seen the rest.
func (v *verdicts) write(set int) {
	everywhere := v.rules(3)
	v.agent.Intend("*", everywhere...)
	for _, destination := range v.destinations {
		rules, late := v.rules(5), []real.Source(nil)
		if v.random.IntN(3) == 0 && len(rules) > 0 { // the other way to write one
			rules, late = rules[1:], rules[:1]
		}
		v.agent.Intend(destination)
		for _, r := range late {
			path := "/v1/connect/intentions/exact?source=" + r.Name + "&destination=" + destination
			if err := v.agent.Call(http.MethodPut, path, map[string]string{"Action": r.Action}, nil); err != nil {
				v.t.Fatal(err)
			}
			rules = append(rules, r)
		}
		v.agent.Intend(destination, append(rules, real.Source{Name: marker(set), Action: "deny"})...)
	}
}

func marker(set int) string { return fmt.Sprintf("marker-%d", set) }

// rules are fewer than most, for different sources.
func (v *verdicts) rules(most int) []real.Source {
	var rules []real.Source
	names := append([]string{"*"}, v.sources[:5]...)
	v.random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, name := range names[:v.random.IntN(most)] {
		rules = append(rules, real.Source{Name: name, Action: []string{"allow", "deny"}[v.random.IntN(2)]})
	}
	return rules
}

func (v *verdicts) compare(set int, destination string) {
	ours := v.ours(destination)
	domain := spiffeid.RequireTrustDomainFromString("11111111-2222-3333-4444-555555555555.consul")
	late := time.Now().Add(time.Minute)
	for !strings.Contains(v.theirs(domain, marker(set), destination).Reason, marker(set)) { // its cache lags
		if time.Now().After(late) {
			v.t.Fatalf("set %d: the agent's cache does not show %s", set, marker(set))
		}
		time.Sleep(time.Millisecond)
	}
	theirs := make([]verdict, len(v.sources))
	var asked sync.WaitGroup
	for i, source := range v.sources {
		asked.Go(func() { theirs[i] = v.theirs(domain, source, destination) })
	}
	asked.Wait()
	for i, source := range v.sources {
		got := ours.Allow(spiffeid.RequireFromPath(domain, path(source)), domain)
		v.compared++
		if got.Allowed() {
			v.allowed++
		}
		if got.Allowed() != theirs[i].Authorized {
			v.t.Errorf("set %d: %s to %s: ours %v (%s), theirs %v (%s)", set, source, destination,
				got.Allowed(), got.Rule(), theirs[i].Authorized, theirs[i].Reason)
		}
	}
}

func path(service string) string { return "/ns/default/dc/dc1/svc/" + service }

// ours is what a proxy would decide by, that begins to watch now.
func (v *verdicts) ours(destination string) *authz.Intentions {
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	var got *authz.Intentions
	err := v.client.WatchIntentions(ctx, destination, func(i consul.Intentions) {
		got = compileIntentions(i)
		cancel()
	}, func(err error) { v.t.Logf("%s: %v", destination, err) })
	if got == nil {
		v.t.Fatalf("%s: no intentions: %v", destination, err)
	}
	return got
}

type verdict struct {
	Authorized bool
	Reason     string
}

// theirs asks authorize, with the proxy's token. It may be called from any goroutine.
func (v *verdicts) theirs(domain spiffeid.TrustDomain, source, destination string) (got verdict) {
	body, err := json.Marshal(map[string]string{"Target": destination, "ClientCertURI": domain.IDString() + path(source)})
	if err != nil {
		v.t.Error(err)
		return got
	}
	req, err := http.NewRequestWithContext(v.t.Context(), http.MethodPost, v.agent.Address+"/v1/agent/connect/authorize", bytes.NewReader(body))
	if err != nil {
		v.t.Error(err)
		return got
	}
	req.Header.Set("X-Consul-Token", v.token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		v.t.Error(err)
		return got
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, answer)
	}
	if err == nil {
		err = json.Unmarshal(answer, &got)
	}
	if err != nil {
		v.t.Errorf("authorize: %v", err)
	}
	return got
}
