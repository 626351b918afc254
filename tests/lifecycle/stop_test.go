package lifecycle

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// shop is a mesh with a service web that Consul knows, its clients' proxy and their load.
type shop struct {
	*mesh
	t      testing.TB
	agent  *real.ConsulAgent
	client *proxy
	next   int
}

// instance is one of web.
type instance struct {
	proxy       *proxy
	application *process // nil: it runs below the proxy
}

func newShop(t testing.TB) *shop {
	s := &shop{t: t, mesh: newMesh(t), agent: real.Consul(t, real.ConsulOptions{})}
	s.client = run(t, s.identity("client")+fmt.Sprintf("consul: {address: %q}\nupstreams: [{service: web, bind: 127.0.0.1:0}]\n", s.agent.Address), nil).ready()
	return s
}

// start starts an instance, in one process or in two.
func (s *shop) start(together bool) *instance {
	s.next++
	out, address := freeAddress(s.t), freeAddress(s.t)
	configuration := s.caller("web", out) + fmt.Sprintf("consul: {address: %q}\n"+
		"workload: {service: web, address: %q, listen: 127.0.0.1:0, register: {id: web-%d, ttl: 5s, check: {tcp: true, interval: 100ms}}}\n",
		s.agent.Address, address, s.next)
	environment := as(serves, out, address)
	if together {
		return &instance{proxy: run(s.t, configuration, environment, self(s.t))}
	}
	p := run(s.t, configuration, nil)
	return &instance{p, begin(s.t, environment, binary, "wait", "--admin", "unix://"+p.admin, "--", self(s.t))}
}

// known waits until the clients' proxy knows these instances and no other, and has sent
// something to each.
func (s *shop) known(all []*instance) {
	s.t.Helper()
	var want []string
	for _, i := range all {
		want = append(want, i.proxy.ready().address("inbound"))
	}
	slices.Sort(want)
	eventually(s.t, "the clients' proxy knows all instances", func() error {
		var v struct {
			Endpoints []struct{ Service, Address string }
		}
		if err := s.client.view("/api/v1/endpoints", &v); err != nil {
			return err
		}
		var got []string
		for _, e := range v.Endpoints {
			got = append(got, e.Address)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
	eventually(s.t, "each instance is called", func() error {
		for _, i := range all {
			var v struct {
				Services []struct {
					Name     string
					Requests uint64
				}
			}
			if err := i.proxy.view("/api/v1/services", &v); err != nil {
				return err
			}
			for _, service := range v.Services {
				if service.Name == "local" && service.Requests == 0 {
					var seen any
					_ = s.client.view("/api/v1/endpoints", &seen)
					return fmt.Errorf("no request to %s; the clients' proxy has %v", i.proxy.address("inbound"), seen)
				}
			}
		}
		return nil
	})
}

// stop ends an instance as its supervisor does: both processes at once where there are two.
// It reports what was wrong, with what the instance has said.
func (i *instance) stop() error {
	if i.application != nil {
		i.application.signal(syscall.SIGTERM)
	}
	i.proxy.signal(syscall.SIGTERM)
	if i.application != nil {
		if code := i.application.code(); code != 0 {
			return fmt.Errorf("the application ends with %d:\n%s", code, i.application.out.String())
		}
	}
	if code := i.proxy.code(); code != 0 {
		return fmt.Errorf("the proxy ends with %d:\n%s", code, i.proxy.out.String())
	}
	return nil
}

// Instances end under load, and no request to them and no call of theirs fails. In one
// process five end at once. Of two processes the application closes its port at the same
// moment as the proxy begins to leave: what comes until all have heard of that is repeated
// elsewhere by the clients' proxy, within its budget, so that they end one by one.
func TestStopsUnderLoad(t *testing.T) {
	for _, form := range []struct {
		name                  string
		together              bool
		stops, atOnce, beside int
		method                string // what is not idempotent is not repeated where it may have been done
	}{{"one process", true, times(20, 100), 5, 2, "POST"}, {"two processes", false, times(6, 100), 1, 6, "GET"}} {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t)
			var stays []*instance
			for range form.beside {
				stays = append(stays, s.start(form.together))
			}
			stop, done := make(chan struct{}), make(chan load.Result, 1)
			s.awaitFirst(stays)
			go func() {
				done <- load.HTTP(context.Background(), load.Options{Addr: s.client.address("web"), Method: form.method, Rate: 50, Conns: 16, Duration: time.Hour, Stop: stop,
					Timeout: patience, WantBody: []byte("ok")})
			}()
			var longest time.Duration
			stopped := 0
			for stopped < form.stops {
				all := slices.Clone(stays)
				for range form.atOnce {
					all = append(all, s.start(form.together))
				}
				s.known(all)
				var ending sync.WaitGroup
				began := time.Now()
				for _, i := range all[len(stays):] {
					ending.Go(func() {
						if err := i.stop(); err != nil {
							t.Error(err)
						}
					})
				}
				ending.Wait()
				longest = max(longest, time.Since(began))
				stopped += form.atOnce
			}
			close(stop)
			r := <-done
			t.Logf("%d stops, the longest %v; %v", stopped, longest.Round(time.Millisecond), r)
			if r.Failures() > 0 || r.Requests == 0 {
				t.Errorf("%d requests failed:\n%s", r.Failures(), strings.Join(r.Examples, "\n"))
			}
			for _, i := range stays {
				if err := i.stop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// awaitFirst waits for the first instances, which nobody calls yet.
func (s *shop) awaitFirst(all []*instance) {
	s.t.Helper()
	address := s.client.address("web")
	eventually(s.t, "the first instances answer", func() error {
		for range 2 * len(all) {
			r := load.HTTP(context.Background(), load.Options{Addr: address, Requests: 1, Conns: 1, WantBody: []byte("ok"), Timeout: patience})
			if r.Failures() > 0 {
				return fmt.Errorf("%v", r)
			}
		}
		return nil
	})
}
