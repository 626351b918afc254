package consul

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
)

// theCatalog is what a fake of Consul's servers holds; tests change it between sweeps.
type theCatalog struct {
	fake
	entries []*api.ServiceEntry
	index   uint64
	down    bool
	removed []string
	members string          // what the agent says of others
	asked   map[string]bool // hosts
}

func (c *theCatalog) answer(w http.ResponseWriter, req *http.Request) {
	path := req.URL.Path
	if c.asked == nil {
		c.asked = map[string]bool{}
	}
	c.asked[req.URL.Host] = true
	w.Header().Set("X-Consul-Index", fmt.Sprint(c.index))
	switch {
	case c.down:
		http.Error(w, "no leader", http.StatusInternalServerError)
	case path == "/v1/catalog/services":
		names := map[string][]string{}
		for _, e := range c.entries {
			names[e.Service.Service] = nil
		}
		json.NewEncoder(w).Encode(names)
	case strings.HasPrefix(path, "/v1/health/service/"):
		var found []*api.ServiceEntry
		for _, e := range c.entries {
			if _, marked := e.Service.Meta[MetaMark]; marked && e.Service.Service == path[len("/v1/health/service/"):] {
				found = append(found, e)
			}
		}
		json.NewEncoder(w).Encode(found)
	case path == "/v1/agent/self":
		fmt.Fprint(w, `{"Config": {"NodeName": "asked"}}`)
	case path == "/v1/agent/members":
		fmt.Fprintf(w, "[%s]", c.members)
	case strings.HasPrefix(path, "/v1/agent/service/deregister/"):
		c.remove("asked", path[len("/v1/agent/service/deregister/"):], "agent")
	case path == "/v1/catalog/deregister":
		var d api.CatalogDeregistration
		json.NewDecoder(req.Body).Decode(&d)
		c.remove(d.Node, d.ServiceID, "catalog")
		fmt.Fprint(w, "true")
	case strings.HasPrefix(path, "/v1/catalog/node-services/"):
		fmt.Fprint(w, `{"Node": {"Node": "n", "Meta": {"larboard": "1"}}, "Services": []}`)
	default:
		http.Error(w, path, http.StatusTeapot)
	}
}

func (c *theCatalog) remove(node, id, through string) {
	c.removed = append(c.removed, strings.Join(strings.Fields(node+" "+id+" "+through), " "))
	c.entries = slices.DeleteFunc(c.entries, func(e *api.ServiceEntry) bool { return e.Node.Node == node && e.Service.ID == id })
}

// entry is an instance of ours; checks are ID=status=output.
func entry(node, id string, proxy bool, checks ...string) *api.ServiceEntry {
	e := &api.ServiceEntry{Node: &api.Node{Node: node, Address: "10.0.0.1"}, Service: &api.AgentService{ID: id, Service: "web", Meta: map[string]string{MetaMark: "1"}, ModifyIndex: 7}}
	if proxy {
		e.Service.Kind, e.Service.Service = api.ServiceKindConnectProxy, "web-sidecar-proxy"
	}
	for _, text := range checks {
		part := strings.SplitN(text, "=", 3)
		e.Checks = append(e.Checks, &api.HealthCheck{CheckID: part[0], Status: part[1], Output: part[2], ModifyIndex: 5})
	}
	return e
}

func TestUnheard(t *testing.T) {
	host := "serfHealth=passing="
	ofProxy := func(id string, e *api.ServiceEntry) *api.ServiceEntry {
		e.Service.Meta[MetaProxy] = id
		return e
	}
	foreign := entry("n", "x", false, host)
	for _, c := range []struct {
		name string
		e    *api.ServiceEntry
		more []*api.ServiceEntry
		want string // part; empty: it lives
	}{
		{"reports", entry("n", "p", true, host, "larboard:p=passing=ready"), nil, ""},
		{"is not ready", entry("n", "p", true, host, "larboard:p=critical=not ready: identity"), nil, ""},
		{"finds its workload down", entry("n", "p", true, host, "larboard:p=critical=ready, and the health check finds the workload down"), nil, ""},
		{"does not report", entry("n", "p", true, host, "larboard:p=critical=TTL expired (last output before timeout follows): ready"), nil, "does not report"},
		{"was forgotten by a restarted agent", entry("n", "p", true, host, "larboard:p=critical="), nil, "does not report"},
		{"fails another check", entry("n", "p", true, host, "larboard:p=passing=ready", "tcp=critical=refused"), nil, ""},
		{"is in maintenance", entry("n", "p", true, host, "larboard:p=critical=TTL expired", "_service_maintenance:p=critical="), nil, ""},
		{"is on a host that is gone", entry("n", "p", true, "serfHealth=critical=", "larboard:p=passing=ready"), nil, "agent of its node is gone"},
		{"lives in the catalog", entry("n", "p", true, "larboard:p=critical=not ready: x", "larboard-alive:p=passing="), nil, ""},
		{"is dead in the catalog", entry("n", "p", true, "larboard:p=passing=ready", "larboard-alive:p=critical="), nil, "session has ended"},
		{"has nothing to judge by", entry("n", "p", true, host, "tcp=critical="), nil, ""},
		{"workload of a living proxy", ofProxy("p", entry("n", "w", false, host)), []*api.ServiceEntry{entry("n", "p", true, host, "larboard:p=passing=ready")}, ""},
		{"workload of a dead proxy", ofProxy("p", entry("n", "w", false, host)), []*api.ServiceEntry{entry("n", "p", true, host, "larboard:p=critical=TTL expired")}, "does not report"},
		{"workload of a proxy on another node", ofProxy("p", entry("n", "w", false, host)), []*api.ServiceEntry{entry("m", "p", true, host, "larboard:p=passing=ready")}, "not registered any more"},
		{"marked by somebody else", foreign, nil, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			all := map[held]*api.ServiceEntry{}
			for _, e := range append(c.more, c.e) {
				all[held{e.Node.Node, e.Service.ID}] = e
			}
			why, stamp := unheard(c.e, all)
			if (c.want == "") != (why == "") || !strings.Contains(why, c.want) || (why == "") != (stamp == 0) {
				t.Errorf("got %q, %d, want %q", why, stamp, c.want)
			}
		})
	}
}

func TestSweep(t *testing.T) {
	dead := func(node, id string) *api.ServiceEntry {
		return entry(node, id, true, "larboard:"+id+"=critical=TTL expired")
	}
	alive := func(node, id string) *api.ServiceEntry {
		return entry(node, id, true, "larboard:"+id+"=passing=ready")
	}
	here := func(e *api.ServiceEntry) *api.ServiceEntry {
		e.Checks = append(e.Checks, &api.HealthCheck{CheckID: "serfHealth", Status: api.HealthPassing})
		return e
	}
	sweep := func(t *testing.T, c *Cleaner) Swept {
		t.Helper()
		s, err := c.Sweep(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	start := func(t *testing.T, o CleanOptions, entries ...*api.ServiceEntry) (*theCatalog, *Cleaner) {
		t.Helper()
		f := &theCatalog{entries: entries, index: 100}
		f.serve, f.start = f.answer, time.Now()
		client, err := New(Options{transport: f})
		if err != nil {
			t.Fatal(err)
		}
		return f, client.Cleaner(o)
	}
	options := CleanOptions{CriticalFor: 10 * time.Minute, MaxShare: 0.5}
	onClock := func(name string, test func(t *testing.T)) {
		t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
	}
	onClock("by the agent or from the catalog, after the time", func(t *testing.T) {
		f, c := start(t, options, here(dead("asked", "a")), dead("n", "b"), alive("n", "c"), alive("n", "d"))
		if s := sweep(t, c); s.Proxies != 4 || s.Silent != 2 || len(s.Due) != 0 {
			t.Errorf("at first %+v", s)
		}
		time.Sleep(10*time.Minute - time.Second)
		if s := sweep(t, c); len(s.Due) != 0 {
			t.Errorf("a second too soon %+v", s)
		}
		time.Sleep(time.Second)
		sweep(t, c)
		if want := []string{"asked a agent", "n b catalog", "n catalog"}; !slices.Equal(f.removed, want) {
			t.Errorf("removed %q, want %q", f.removed, want)
		}
		if s := sweep(t, c); s.Proxies != 2 || s.Silent != 0 || len(s.Due) != 0 {
			t.Errorf("in the end %+v", s)
		}
	})
	onClock("nothing in a dry run", func(t *testing.T) {
		o := options
		o.DryRun = true
		f, c := start(t, o, dead("n", "a"))
		sweep(t, c)
		time.Sleep(time.Hour)
		if s := sweep(t, c); len(s.Due) != 1 || s.Due[0].Removed || len(f.removed) != 0 {
			t.Errorf("%+v, removed %q", s, f.removed)
		}
	})
	for name, change := range map[string]func(*testing.T, *theCatalog, *Cleaner){
		"it was heard in between": func(t *testing.T, f *theCatalog, c *Cleaner) {
			f.entries[0].Checks[0].Status = api.HealthPassing
			sweep(t, c)
			f.entries[0].Checks[0].Status = api.HealthCritical
		},
		"it was heard between two sweeps": func(t *testing.T, f *theCatalog, c *Cleaner) { f.entries[0].Checks[0].ModifyIndex++ },
		"it was registered anew": func(t *testing.T, f *theCatalog, c *Cleaner) {
			gone := f.entries
			f.entries = nil
			sweep(t, c)
			f.entries = gone
		},
		"Consul was away": func(t *testing.T, f *theCatalog, c *Cleaner) {
			f.down = true
			if _, err := c.Sweep(t.Context()); err == nil {
				t.Error("no error")
			}
			f.down = false
		},
		"Consul has lost its data": func(t *testing.T, f *theCatalog, c *Cleaner) { f.index = 3 },
	} {
		onClock("counted anew where "+name, func(t *testing.T) {
			f, c := start(t, options, dead("n", "a"))
			sweep(t, c)
			time.Sleep(9 * time.Minute)
			change(t, f, c)
			time.Sleep(2 * time.Minute)
			if s := sweep(t, c); len(s.Due) != 0 {
				t.Errorf("after 11 minutes %+v", s)
			}
			time.Sleep(10 * time.Minute)
			if s := sweep(t, c); len(s.Due) != 1 || !s.Due[0].Removed {
				t.Errorf("after 21 minutes %+v", s)
			}
		})
	}
	for most, want := range map[float64]int{0: 0, 0.5: 0, 0.75: 3, 1: 3} {
		onClock(fmt.Sprintf("three of four with a share of %v", most), func(t *testing.T) {
			o := options
			o.MaxShare = most
			f, c := start(t, o, dead("n", "a"), dead("n", "b"), dead("n", "c"), alive("n", "d"))
			sweep(t, c)
			time.Sleep(time.Hour)
			s := sweep(t, c)
			if gone := 4 - len(f.entries); gone != want || (s.Held != "") != (want == 0) {
				t.Errorf("removed %d, %q", gone, s.Held)
			}
		})
	}
	onClock("one proxy always", func(t *testing.T) {
		f, c := start(t, CleanOptions{}, dead("n", "a"))
		if s := sweep(t, c); len(f.entries) != 0 || s.Held != "" {
			t.Errorf("%+v", s)
		}
	})
	// The address of a node can be written by whoever may register one: the token is for members only.
	for name, test := range map[string]struct {
		members, said string
		hosts         []string
	}{
		"not what another agent holds that does not answer": {`{"Name": "elsewhere", "Addr": "10.0.0.7", "Status": 1}`, "does not answer at http://10.0.0.7:8500", []string{"10.0.0.7:8500", "127.0.0.1:8500"}},
		"not by an address of the catalog alone":            {`{"Name": "asked", "Addr": "10.0.0.7", "Status": 1}`, "no agent of that name is alive", []string{"127.0.0.1:8500"}},
		"not by an agent that has gone":                     {`{"Name": "elsewhere", "Addr": "10.0.0.7", "Status": 4}`, "no agent of that name is alive", []string{"127.0.0.1:8500"}},
	} {
		onClock(name, func(t *testing.T) {
			f, c := start(t, CleanOptions{}, here(dead("elsewhere", "a")))
			f.members = test.members
			if s := sweep(t, c); len(s.Due) != 1 || s.Due[0].Removed || !strings.Contains(s.Due[0].Error, "clean there, too") || !strings.Contains(s.Due[0].Error, test.said) || len(f.removed) != 0 {
				t.Errorf("%+v, removed %q", s, f.removed)
			}
			if hosts := slices.Sorted(maps.Keys(f.asked)); !slices.Equal(hosts, test.hosts) {
				t.Errorf("asked %q, want %q", hosts, test.hosts)
			}
		})
	}
}
