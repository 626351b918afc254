package dns_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/dns"
	"github.com/larboard-proxy/larboard/tests/real"
)

// until waits for the endpoints of a service, or an error instead of them.
func until(t *testing.T, set *discovery.Set, service, want string) discovery.Update {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		u, _ := set.Snapshot(service)
		var all []string
		for _, e := range u.Endpoints {
			all = append(all, fmt.Sprintf("%s*%d", e.Address, e.Weight))
		}
		slices.Sort(all)
		got := strings.Join(all, " ")
		if got == want {
			return u
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %q, want %q; %+v", service, got, want, set.Status())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Consul as a DNS server: SRV records with weights and addresses beside them, A
// records, answers too long for UDP, names that do not exist, and its absence.
func TestRealConsulDNS(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{DNS: true})
	instance := func(id string, port, weight int) real.Service {
		return real.Service{ID: id, Name: "web", Address: "127.0.0.9", Port: port, Weights: &real.Weights{Passing: weight, Warning: 1}}
	}
	agent.Register(instance("a", 1001, 1), instance("b", 1002, 5))

	set := discovery.New(nil)
	specs := map[string][]discovery.Spec{}
	for name, o := range map[string]dns.Options{
		"srv":  {Name: "web.service.consul", Type: "srv"},
		"a":    {Name: "web.service.consul", Port: 80},
		"none": {Name: "nobody.service.consul", Port: 80},
		"many": {Name: "many.service.consul", Type: "srv"},
	} {
		o.Resolvers, o.MinTTL, o.OnEmpty = []string{agent.DNS}, 100*time.Millisecond, "accept"
		spec, err := dns.Spec(o)
		if err != nil {
			t.Fatal(err)
		}
		specs[name] = []discovery.Spec{spec}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	set.Apply(specs)
	go func() { done <- set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})

	u := until(t, set, "srv", "127.0.0.9:1001*1 127.0.0.9:1002*5")
	if e := u.Endpoints[0]; e.Source != "dns:web.service.consul/srv" || u.Via != agent.DNS || e.Node == "" {
		t.Errorf("%+v", u)
	}
	until(t, set, "a", "127.0.0.9:80*1")
	if st := set.Status(); st[2].Service != "none" || !st[2].Known || st[2].Err != nil {
		t.Errorf("a name that does not exist: %+v", st[2])
	}
	agent.Deregister("a")
	until(t, set, "srv", "127.0.0.9:1002*5")

	// Sixty instances do not fit into a datagram.
	var want []string
	for i := range 60 {
		s := instance(fmt.Sprintf("many-%d", i), 2000+i, 1)
		s.Name = "many"
		agent.Register(s)
		want = append(want, fmt.Sprintf("127.0.0.9:%d*1", s.Port))
	}
	until(t, set, "many", strings.Join(want, " "))

	agent.Kill()
	deadline := time.Now().Add(30 * time.Second)
	for set.Status()[3].Err == nil && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if st := set.Status()[3]; st.Err == nil || st.Endpoints != 1 {
		t.Errorf("without an agent: %+v", st)
	}
	agent.Restart()
	agent.Register(instance("c", 1003, 1), instance("b", 1002, 5))
	until(t, set, "srv", "127.0.0.9:1002*5 127.0.0.9:1003*1")
}
