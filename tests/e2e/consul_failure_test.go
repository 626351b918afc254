package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// front stands before a real agent and may answer in its place.
type front struct {
	agent   *real.ConsulAgent
	address string

	mu    sync.Mutex
	fault func(http.ResponseWriter, *http.Request) // nil: the agent answers
	asked int
	cut   chan struct{} // closed: what waits at the agent is to be asked again of the fault
}

func newFront(t testing.TB, agent *real.ConsulAgent) *front {
	t.Helper()
	f := &front{agent: agent, cut: make(chan struct{})}
	s := httptest.NewServer(f)
	t.Cleanup(func() {
		f.become(nil)
		s.CloseClientConnections()
		s.Close()
	})
	f.address = s.URL
	return f
}

// become exchanges the fault. What is waiting at the agent gets the new one.
func (f *front) become(fault func(http.ResponseWriter, *http.Request)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
	close(f.cut)
	f.cut = make(chan struct{})
}

func (f *front) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.asked
}

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.asked++
	f.mu.Unlock()
	for {
		f.mu.Lock()
		fault, cut := f.fault, f.cut
		f.mu.Unlock()
		if fault != nil {
			fault(w, r)
			return
		}
		if f.try(w, r, cut) {
			return
		}
	}
}

// pass lets the agent answer.
func (f *front) pass(w http.ResponseWriter, r *http.Request) { f.try(w, r, nil) }

// try lets the agent answer, unless cut is closed before.
func (f *front) try(w http.ResponseWriter, r *http.Request, cut <-chan struct{}) (answered bool) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	ask, err := http.NewRequestWithContext(ctx, r.Method, f.agent.Address+r.URL.RequestURI(), r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return true
	}
	type result struct {
		resp *http.Response
		err  error
	}
	answer := make(chan result, 1)
	go func() {
		resp, err := http.DefaultClient.Do(ask)
		answer <- result{resp, err}
	}()
	select {
	case <-cut:
		cancel()
		if got := <-answer; got.err == nil {
			got.resp.Body.Close()
		}
		return false
	case got := <-answer:
		if got.err != nil {
			http.Error(w, got.err.Error(), http.StatusBadGateway)
			return true
		}
		defer got.resp.Body.Close()
		maps.Copy(w.Header(), got.resp.Header)
		w.WriteHeader(got.resp.StatusCode)
		_, _ = io.Copy(w, got.resp.Body)
		return true
	}
}

// lies answers with a body and an index of its own.
func lies(index func(asked uint64) uint64, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, r *http.Request) {
		asked, _ := strconv.ParseUint(r.URL.Query().Get("index"), 10, 64)
		w.Header().Set("X-Consul-Index", fmt.Sprint(index(asked)))
		fmt.Fprint(w, body)
	}
}

// Whatever Consul does, requests are served, few questions are asked, and what is new
// is known within 2 s of its being well.
func TestConsulFailuresAreBounded(t *testing.T) {
	const services = 12
	agent := real.Consul(t, real.ConsulOptions{})
	front := newFront(t, agent)
	registerPlain(t, agent, "app-0", "app", origin(t, named("app-0")))
	configuration := fmt.Sprintf("consul: {address: %q}\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices:\n- {name: app, discovery: {consul: {}}}\n", front.address)
	for i := range services - 1 {
		configuration += fmt.Sprintf("- {name: idle-%d, discovery: {consul: {}}}\n", i)
	}
	p := start(t, "proxy", configuration)
	awaitEndpoints(t, p, 1)
	traffic := send(t, load.Options{Addr: p.address("in"), Rate: 500, Conns: 16})
	traffic.await(500)

	for i, c := range []struct {
		name  string
		fault func(http.ResponseWriter, *http.Request)
		most  float64 // requests a second
	}{
		{"answers 500", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
		}, 2},
		{"hangs", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-front.changed():
			}
		}, 2},
		{"an index that goes backwards", lies(func(asked uint64) uint64 { return max(1, asked/2) }, "[]"), 2 * services},
		// The agent's own view is empty, the leader's is not.
		{"an empty set", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("consistent") {
				front.pass(w, r)
				return
			}
			lies(func(asked uint64) uint64 { return max(1, asked) }, "[]")(w, r)
		}, 2 * services},
		{"no JSON", lies(func(asked uint64) uint64 { return asked + 1 }, "<html>"), 2},
	} {
		front.become(c.fault)
		traffic.pass(either(time.Second, 5*time.Second)) // the first questions come at once
		before, from := front.count(), time.Now()
		traffic.pass(either(4*time.Second, 60*time.Second))
		rate := float64(front.count()-before) / time.Since(from).Seconds()
		if rate > c.most*1.5+1 {
			t.Errorf("%s: %.1f requests/s to Consul, want about %v at most", c.name, rate, c.most)
		}
		fresh := fmt.Sprintf("app-%d", i+1)
		registerPlain(t, agent, fresh, "app", origin(t, named(fresh)))
		back := time.Now()
		front.become(nil)
		eventually(t, patience, "what was registered meanwhile answers", func() error {
			if traffic.counts()[fresh] == 0 {
				return errors.New("not yet")
			}
			return nil
		})
		took := time.Since(back)
		t.Logf("%s: %.1f requests/s to Consul meanwhile; %v until what was registered meanwhile answered", c.name, rate, took.Round(time.Millisecond))
		if took > claimed(2*time.Second) {
			t.Errorf("%s: recovered after %v, want within 2 s", c.name, took)
		}
		awaitEndpoints(t, p, i+2)
	}
	traffic.endClean()
}

// changed is closed when the fault is exchanged.
func (f *front) changed() <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cut
}

// The leader of three servers dies: the two left choose another.
func TestConsulLeaderLost(t *testing.T) {
	cluster := real.ConsulCluster(t, 3)
	follower := cluster.Follower()
	registerPlain(t, follower, "one", "app", origin(t, named("one")))
	p := start(t, "proxy", discovered(fmt.Sprintf("address: %q", follower.Address), ""))
	awaitEndpoints(t, p, 1)
	traffic := send(t, load.Options{Addr: p.address("in"), Rate: 500, Conns: 16})
	traffic.await(500)

	old := cluster.Leader()
	old.Kill()
	lost := time.Now()
	var well time.Time
	eventually(t, time.Minute, "another leader", func() error {
		if leader := follower.LeaderAddress(); leader == "" || leader == old.Server() {
			return errors.New("no leader yet")
		}
		well = time.Now()
		return nil
	})
	eventually(t, patience, "a registration", func() error {
		return follower.Call("PUT", "/v1/agent/service/register", map[string]any{
			"ID": "two", "Name": "app", "Address": "127.0.0.1", "Port": portOf(t, origin(t, named("two"))),
		}, nil)
	})
	eventually(t, patience, "what was registered under the new leader answers", func() error {
		if traffic.counts()["two"] == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	took := time.Since(well)
	t.Logf("no leader for %v; a new instance answered %v after there was one", well.Sub(lost).Round(time.Millisecond), took.Round(time.Millisecond))
	if took > claimed(2*time.Second) {
		t.Errorf("recovered after %v, want within 2 s", took)
	}
	traffic.endClean()
}
