package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/larboard-proxy/larboard/discovery"
)

// fake is an agent on a virtual clock: each request is answered by serve, in the
// goroutine that asks, so that blocking takes no real time.
type fake struct {
	serve    http.HandlerFunc
	requests []request
	start    time.Time
}

// request is what a watch asked, and when.
type request struct {
	at         time.Duration
	index      string
	wait       string
	consistent bool
}

func (f *fake) RoundTrip(req *http.Request) (*http.Response, error) {
	q := req.URL.Query()
	f.requests = append(f.requests, request{
		at: time.Since(f.start), index: q.Get("index"), wait: q.Get("wait"), consistent: q.Has("consistent"),
	})
	w := httptest.NewRecorder()
	f.serve(w, req)
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// indexes lists the index of each request.
func (f *fake) indexes() string {
	var all []string
	for _, r := range f.requests {
		all = append(all, firstOf(r.index, "-"))
	}
	return strings.Join(all, " ")
}

// step is one answer of a scripted timeline: what the registry holds from at on.
type step struct {
	at    time.Duration
	index uint64
	names []string // instances
	code  int      // instead of an answer
	hang  bool     // no answer at all
	body  string   // instead of instances
	acl   bool     // the answer was filtered
}

// timeline serves steps as an agent does: a query with the index of the step in
// force waits for the next one, or for its wait time.
func (f *fake) timeline(steps ...step) {
	f.serve = func(w http.ResponseWriter, req *http.Request) {
		now, next := f.step(steps)
		if now.hang {
			<-req.Context().Done()
			return
		}
		if now.code == 0 && req.URL.Query().Get("index") == fmt.Sprint(now.index) {
			wait, err := time.ParseDuration(req.URL.Query().Get("wait"))
			if err != nil {
				http.Error(w, "bad wait", http.StatusBadRequest)
				return
			}
			wait = min(wait, next)
			if sleep(req.Context(), wait) != nil {
				return
			}
			now, _ = f.step(steps)
		}
		if now.hang {
			<-req.Context().Done()
			return
		}
		now.write(w)
	}
}

// step returns the one in force and the time until the next.
func (f *fake) step(steps []step) (step, time.Duration) {
	since := time.Since(f.start)
	for i := len(steps) - 1; i >= 0; i-- {
		if since < steps[i].at {
			continue
		}
		if i+1 < len(steps) {
			return steps[i], steps[i+1].at - since
		}
		return steps[i], time.Hour
	}
	return step{code: http.StatusInternalServerError}, time.Hour
}

func (s step) write(w http.ResponseWriter) {
	if s.code != 0 {
		http.Error(w, firstOf(s.body, "No cluster leader"), s.code)
		return
	}
	w.Header().Set("X-Consul-Index", fmt.Sprint(s.index))
	w.Header().Set("X-Consul-LastContact", "0")
	w.Header().Set("X-Consul-KnownLeader", "true")
	if s.acl {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
	}
	if s.body != "" {
		fmt.Fprint(w, s.body)
		return
	}
	entries := []*api.ServiceEntry{}
	for _, name := range s.names {
		entries = append(entries, instance(name, int(name[0])))
	}
	if err := json.NewEncoder(w).Encode(entries); err != nil {
		panic(err)
	}
}

// instance is a healthy one on node n, at port 1000 and some.
func instance(id string, port int) *api.ServiceEntry {
	return &api.ServiceEntry{
		Node:    &api.Node{Node: "n", Address: "127.0.0.1", Datacenter: "dc1"},
		Service: &api.AgentService{ID: id, Service: "web", Port: 1000 + port, Weights: api.AgentWeights{Passing: 1, Warning: 1}},
		Checks:  api.HealthChecks{{Status: api.HealthPassing}},
	}
}

// line is one update as text: time, instances or error.
func (f *fake) line(u discovery.Update) string {
	at := time.Since(f.start)
	if u.Err != nil {
		return fmt.Sprintf("%v error %v", at, u.Err)
	}
	var ids []string
	for _, e := range u.Endpoints {
		ids = append(ids, strings.TrimPrefix(e.ID, "n/"))
	}
	return fmt.Sprintf("%v #%d [%s]", at, u.Index, strings.Join(ids, " "))
}

// watchFake runs a source against a fake for a time and returns its updates as
// text. Jitter takes its middle.
func watchFake(t *testing.T, f *fake, h Health, o Options, long time.Duration) []string {
	t.Helper()
	f.start = time.Now()
	o.transport = f
	if o.Rand == nil {
		o.Rand = func() float64 { return 0.5 }
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	h.Service = "web"
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var lines []string
	err = c.Source(h).Run(ctx, func(u discovery.Update) { lines = append(lines, f.line(u)) })
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Run returned %v, want the context's error", err)
	}
	if got := time.Since(f.start); got != long {
		t.Errorf("Run returned after %v, want %v", got, long)
	}
	return lines
}

// same compares updates with what is wanted.
func same(t *testing.T, got []string, want ...string) {
	t.Helper()
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("updates:\n%s\nwant:\n%s", g, w)
	}
}

// onVirtualClock runs a test in a bubble.
func onVirtualClock(t *testing.T, name string, test func(t *testing.T)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}
