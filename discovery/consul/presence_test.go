package consul

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// registry is an agent that holds registrations, on a virtual clock.
type registry struct {
	fake
	mu       sync.Mutex // guards what follows, and the state told
	services map[string]bool
	checks   map[string]map[string]string // by check id: fields as the agent shows them
	down     int                          // status of every answer; 0: the agent is well
	log      []string
}

func newRegistry() *registry {
	r := &registry{services: map[string]bool{}, checks: map[string]map[string]string{}}
	r.start, r.serve = time.Now(), r.answer
	return r
}

func (r *registry) check(id, service, kind, notes string) {
	r.checks[id] = map[string]string{"CheckID": id, "ServiceID": service, "Type": kind, "Notes": notes}
}

func (r *registry) answer(w http.ResponseWriter, req *http.Request) {
	path := strings.TrimPrefix(req.URL.Path, "/v1/agent/")
	verb, id := path[:strings.LastIndexByte(path, '/')+1], path[strings.LastIndexByte(path, '/')+1:]
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down != 0 {
		http.Error(w, "down", r.down)
		return
	}
	switch {
	case path == "checks":
		found := map[string]map[string]string{}
		for id, c := range r.checks {
			if strings.Contains(req.URL.Query().Get("filter"), fmt.Sprintf("%q", c["ServiceID"])) {
				found[id] = c
			}
		}
		json.NewEncoder(w).Encode(found)
	case path == "service/register":
		var s struct {
			ID     string
			Checks []struct{ CheckID, TTL string }
		}
		json.NewDecoder(req.Body).Decode(&s)
		r.services[s.ID] = true
		delete(r.checks, maintenanceCheck(s.ID))
		for _, c := range s.Checks {
			if c.TTL != "" {
				r.check(c.CheckID, s.ID, "ttl", "")
			}
		}
		r.note("register " + s.ID)
	case verb == "service/deregister/":
		if !r.services[id] {
			http.Error(w, "Unknown service ID", http.StatusNotFound)
			return
		}
		delete(r.services, id)
		r.note("deregister " + id)
	case verb == "service/maintenance/":
		if req.URL.Query().Get("enable") == "true" {
			r.check(maintenanceCheck(id), id, "maintenance", req.URL.Query().Get("reason"))
		} else {
			delete(r.checks, maintenanceCheck(id))
		}
		r.note("maintenance " + id + " " + req.URL.Query().Get("enable") + " " + req.URL.Query().Get("reason"))
	case verb == "check/update/":
		if r.checks[id] == nil {
			http.Error(w, "Unknown check ID", http.StatusNotFound)
			return
		}
		var s struct{ Status, Output string }
		json.NewDecoder(req.Body).Decode(&s)
		r.note(id + " " + s.Status + " " + s.Output)
	default:
		http.Error(w, path, http.StatusTeapot)
	}
}

func (r *registry) note(what string) {
	r.log = append(r.log, fmt.Sprintf("%v %s", time.Since(r.start).Truncate(hundred), what))
}

// now changes something in the middle of a test.
func (r *registry) now(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *registry) forget() {
	clear(r.services)
	clear(r.checks)
}

// keep runs a presence of web and its proxy, with a TTL of 9 s, and returns what the
// registry has noted when act is over.
func keep(t *testing.T, r *registry, want Present, act func(p *Presence, state *State)) string {
	t.Helper()
	c, err := New(Options{transport: r, Rand: func() float64 { return 0 }})
	if err != nil {
		t.Fatal(err)
	}
	state := &State{Verdict: Passing, Output: "ready"}
	p := c.Keep(want, func() State {
		r.mu.Lock()
		defer r.mu.Unlock()
		return *state
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	time.Sleep(50 * time.Millisecond)
	synctest.Wait()
	act(p, state)
	cancel()
	<-done
	return strings.Join(r.log, "\n")
}

func webAndProxy() Present {
	return Present{TTL: 9 * time.Second, Register: []Registration{
		{ID: "web", Service: "web", Address: "127.0.0.1:8000"},
		{ID: "web-sidecar-proxy", Service: "web", Proxy: true, ServiceID: "web", Local: "127.0.0.1:8000", Address: ":20000", TTL: 9 * time.Second},
	}}
}

func TestPresence(t *testing.T) {
	const joined = "0s register web\n0s register web-sidecar-proxy\n0s larboard:web-sidecar-proxy passing ready"
	const ttl = "larboard:web-sidecar-proxy "
	adopted := Present{TTL: 9 * time.Second, Adopt: "p"}
	for name, c := range map[string]struct {
		want   Present
		before func(*registry)
		act    func(*registry, *Presence, *State)
		log    string
	}{
		"is kept alive, and left": {webAndProxy(), nil, func(_ *registry, p *Presence, _ *State) {
			time.Sleep(7 * time.Second)
			p.Leave(context.Background())
		}, joined + "\n3s " + ttl + "passing ready\n6s " + ttl + "passing ready\n7s deregister web-sidecar-proxy\n7s deregister web"},
		"a change of state is told at once": {webAndProxy(), nil, func(r *registry, _ *Presence, s *State) {
			time.Sleep(time.Second)
			r.now(func() { *s = State{Verdict: Critical, Output: "not ready"} })
			time.Sleep(time.Second)
		}, joined + "\n1.2s " + ttl + "critical not ready"},
		"an agent that has forgotten is told again": {webAndProxy(), nil, func(r *registry, _ *Presence, _ *State) {
			r.now(r.forget)
			time.Sleep(4 * time.Second)
		}, joined + "\n3s register web\n3s register web-sidecar-proxy\n3s " + ttl + "passing ready"},
		"an agent that was away is asked in step, and told at once": {webAndProxy(), nil, func(r *registry, _ *Presence, _ *State) {
			r.now(func() { r.forget(); r.down = 500 })
			time.Sleep(20 * time.Second)
			r.now(func() { r.down = 0 })
			time.Sleep(time.Second)
		}, joined + "\n20.2s register web\n20.2s register web-sidecar-proxy\n20.2s " + ttl + "passing ready"},
		"what others put into maintenance stays so": {webAndProxy(), func(r *registry) {
			r.check(maintenanceCheck("web-sidecar-proxy"), "web-sidecar-proxy", "maintenance", "by hand")
		}, func(*registry, *Presence, *State) {}, "0s register web\n0s register web-sidecar-proxy\n0s maintenance web-sidecar-proxy true by hand\n0s " + ttl + "passing ready"},
		"nothing was ever told: nothing to leave": {webAndProxy(), func(r *registry) { r.down = 500 },
			func(r *registry, p *Presence, _ *State) {
				r.now(func() { r.down = 0 })
				p.Leave(context.Background())
			}, ""},
		"a registration exchanged": {webAndProxy(), nil, func(_ *registry, p *Presence, _ *State) {
			next := webAndProxy()
			next.Register[0].Tags = []string{"v2"}
			p.Set(next)
			p.Set(next)
			time.Sleep(time.Second)
		}, joined + "\n0s register web\n0s register web-sidecar-proxy\n0s " + ttl + "passing ready"},
		"adopted": {adopted, func(r *registry) {
			r.check("theirs", "p", "ttl", "")
			r.check("tcp", "p", "tcp", "")
			r.check("other", "q", "ttl", "")
		}, func(_ *registry, p *Presence, _ *State) {
			time.Sleep(4 * time.Second)
			p.Leave(context.Background())
		}, "0s theirs passing ready\n3s theirs passing ready\n4s maintenance p true larboard: draining"},
		"adopted again after a stop": {adopted, func(r *registry) {
			r.check(maintenanceCheck("p"), "p", "maintenance", drainReason)
		}, func(*registry, *Presence, *State) {}, "0s maintenance p false "},
		"adopted, in maintenance by hand": {adopted, func(r *registry) {
			r.check(maintenanceCheck("p"), "p", "maintenance", "by hand")
		}, func(_ *registry, p *Presence, _ *State) { p.Leave(context.Background()) }, ""},
	} {
		onVirtualClock(t, name, func(t *testing.T) {
			r := newRegistry()
			if c.before != nil {
				c.before(r)
			}
			got := keep(t, r, c.want, func(p *Presence, s *State) { c.act(r, p, s) })
			if got != c.log {
				t.Errorf("the agent was told\n%s\nwant\n%s", got, c.log)
			}
		})
	}
}

func TestPresenceAsksSeldomWhileConsulIsAway(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		r := newRegistry()
		r.down = 500
		keep(t, r, webAndProxy(), func(p *Presence, _ *State) {
			time.Sleep(10 * time.Minute)
			if registered, _, err := p.Status(); registered || err == nil {
				t.Errorf("registered %v, error %v", registered, err)
			}
		})
		if n := len(r.requests); n > 2*10*60+20 {
			t.Errorf("%d requests in ten minutes", n)
		}
	})
}
