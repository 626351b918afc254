package sidecar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

// traffic asks address all the time until end, which returns what was not wanted.
func traffic(address, want string) (seen *atomic.Int64, end func() error) {
	var all sync.WaitGroup
	var failed atomic.Pointer[string]
	stop := make(chan struct{})
	seen = &atomic.Int64{}
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got, err := fetch(address)
				if err != nil {
					got = err.Error()
				}
				if !strings.HasPrefix(got, want) {
					failed.CompareAndSwap(nil, &got)
				}
				seen.Add(1)
			}
		})
	}
	return seen, func() error {
		close(stop)
		all.Wait()
		if f := failed.Load(); f != nil {
			return errors.New(*f)
		}
		return nil
	}
}

// Whatever a new file is refused for, all that it says besides has no effect either.
func TestARefusedReloadChangesNothing(t *testing.T) {
	old, other := says(t, "old"), says(t, "other")
	const form = `loops: 2
listeners:
- {name: in, address: 127.0.0.1:0, service: app}
%s
services:
- {name: app, %s}
%s
`
	for _, c := range []struct{ name, listener, service, says string }{
		{"no yaml", "  : [", "", "test.yaml:"},
		{"unknown field", "- {name: b, adress: 127.0.0.1:0, service: app}", "", `did you mean "address"`},
		{"taken port", "- {name: b, address: " + taken(t) + ", service: app}", "", "address already in use"},
		{"second of two new ports is taken", "- {name: a2, address: 127.0.0.1:0, service: app}\n- {name: b, address: " + taken(t) + ", service: app}", "", "address already in use"},
		{"no certificate", "- {name: b, address: 127.0.0.1:0, service: app, tls: {certificates: [{cert: none.pem, key: none.key}]}}", "", `listener "b"`},
		{"mesh without identity", "", "- {name: far, endpoints: [127.0.0.1:1], tls: {spiffe: {}}}", "identity"},
	} {
		t.Run(c.name, func(t *testing.T) {
			registry := &slow{}
			r := newSidecar(t, fmt.Sprintf(form, "", "discovery: {consul: {service: a}}", ""), func(o *Options) { o.Source = registry.source }).begin()
			registry.answer("a", old)
			r.awaitReady()
			address, generation := r.address("in"), r.proxy.Snapshot().Generation
			views := func() any {
				return []any{r.Listeners(), string(r.configView()), r.set.Status(), r.checker.Status(), r.serviceMap()}
			}
			before := views()
			seen, end := traffic(address, "200 old")

			r.write(fmt.Sprintf(form, c.listener, fmt.Sprintf("endpoints: [%q], health: {tcp: {}}", other), c.service))
			if err := r.Reload(); err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Reload: %v, want %q in it", err, c.says)
			}
			more := seen.Load() + 4
			eventually(t, "requests after the reload", func() bool { return seen.Load() > more })
			if err := end(); err != nil {
				t.Errorf("a request saw %v", err)
			}
			// Connection counts move; all else must be as it was.
			after := views()
			for i := 1; i < 5; i++ {
				if !reflect.DeepEqual(before.([]any)[i], after.([]any)[i]) {
					t.Errorf("changed:\n%+v\n%+v", before.([]any)[i], after.([]any)[i])
				}
			}
			if n := registry.times("a"); n != 1 || r.proxy.Snapshot().Generation != generation || len(r.Listeners()) != 1 {
				t.Errorf("source started %d times, generation %d, %d listeners", n, r.proxy.Snapshot().Generation, len(r.Listeners()))
			}
		})
	}
}

// A route leads to a new service when that has endpoints, and not before.
func TestAReloadWaitsForNewServices(t *testing.T) {
	registry := &slow{}
	r := newSidecar(t, "loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}]\nservices: [{name: a, discovery: {consul: {}}}]\n",
		func(o *Options) { o.Source = registry.source }).begin()
	registry.answer("a", says(t, "a"))
	r.awaitReady()
	r.write("loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: b}]\nservices: [{name: b, discovery: {consul: {}}}]\n")
	seen, end := traffic(r.address("in"), "200 ")
	done := make(chan error, 1)
	go func() { done <- r.Reload() }()
	eventually(t, "the source to begin", func() bool { return registry.times("b") == 1 })
	more := seen.Load() + 4
	eventually(t, "requests", func() bool { return seen.Load() > more })
	registry.answer("b", says(t, "b"))
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got := get(t, r.address("in")); got != "200 b" {
		t.Errorf("after the reload: %s", got)
	}
	if err := end(); err != nil {
		t.Errorf("a request saw %v", err)
	}
}

func TestAStopEndsAReloadThatWaits(t *testing.T) {
	noLeaks(t)
	registry := &slow{}
	r := newSidecar(t, "loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:1]}]\n",
		func(o *Options) { o.Source = registry.source }).begin()
	r.awaitReady()
	address := free(t)
	r.write(fmt.Sprintf("loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: a}, {name: b, address: %q, service: b}]\n"+
		"services: [{name: a, endpoints: [127.0.0.1:1]}, {name: b, discovery: {consul: {}}}]\n", address))
	done := make(chan error, 1)
	go func() { done <- r.Reload() }()
	dialUntilBound(t, address).Close()
	r.Stop()
	if err := <-done; !errors.Is(err, errStopping) {
		t.Errorf("Reload: %v", err)
	}
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Handles, endpoints with their state, and listeners outlive a reload that keeps them.
func TestAReloadKeepsWhatStays(t *testing.T) {
	app := says(t, "app")
	form := "loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, balance: %s, endpoints: [%q, \"127.0.0.1:%d\"]}]\n"
	r := start(t, fmt.Sprintf(form, "random", app, 1))
	service, address := r.serviceMap()["app"], r.address("in")
	kept := service.Set().Members[0].Endpoint
	r.write(fmt.Sprintf(form, "p2c", app, 2))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if r.serviceMap()["app"] != service || service.Settings().Balance != "p2c" || r.address("in") != address {
		t.Errorf("service %p was %p, balance %s, address %s was %s", r.serviceMap()["app"], service, service.Settings().Balance, r.address("in"), address)
	}
	eventually(t, "the endpoints of the new file", func() bool { return service.Set().Members[1].Address == "127.0.0.1:2" })
	if service.Set().Members[0].Endpoint != kept {
		t.Error("an endpoint that stays has lost its state")
	}
}

func TestNeedRestartNamesTheSections(t *testing.T) {
	parse := func(text string) *config.Config {
		c, _ := config.Load("test.yaml", []byte(text)) // there being nothing to do is no problem here
		return c
	}
	was := parse("{}")
	for _, c := range []struct{ text, want string }{
		{"{}", ""},
		{"timeouts: {idle: 3s, drain: 1s}", ""},
		{"services: [{name: a, endpoints: [127.0.0.1:1]}]", ""},
		{"limits: {fields: 7}", ""},
		{"admin: {address: 127.0.0.1:1}", "admin"},
		{"log: {level: debug}", "log"},
		{"access_log: stdout", ""},
		{"loops: 3", "loops"},
		{"consul: {address: 127.0.0.1:1}", "consul"},
		{"identity: {dev: {}}", "identity"},
		{"identities: {web: {dev: {}}}", "identities"},
		{"tracing: {otlp: \"http://127.0.0.1:4318\"}", "tracing"},
		{"identity: {dev: {}}\nloops: 3\nadmin: {socket: a.sock}", "admin loops identity"},
	} {
		if got := strings.Join(needRestart(was, parse(c.text)), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
	// Of a section that was there, who is recorded changes at once, and the collector does not.
	const tracing = "tracing: {otlp: \"http://127.0.0.1:%d\", sample: %d%%, propagate: %s, service: %s}"
	was = parse(fmt.Sprintf(tracing, 1, 1, "w3c", "a"))
	for _, c := range []struct{ text, want string }{
		{fmt.Sprintf(tracing, 1, 2, "b3", "a"), ""},
		{fmt.Sprintf(tracing, 2, 1, "w3c", "a"), "tracing"},
		{fmt.Sprintf(tracing, 1, 1, "w3c", "b"), "tracing"},
		{"log: {level: debug}", "log tracing"},
	} {
		if got := strings.Join(needRestart(was, parse(c.text)), " "); got != c.want {
			t.Errorf("%s: %q, want %q", c.text, got, c.want)
		}
	}
}

// What a reload cannot change is not shown as if it were in force, and is named
// where the rest of the file needs it.
func TestSectionsThatNeedARestartStayAsTheyAre(t *testing.T) {
	services := "listeners: [{name: in, address: 127.0.0.1:0, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:1]%s}]\n"
	r := start(t, "loops: 2\n"+fmt.Sprintf(services, ""))
	r.write("loops: 1\nconsul: {datacenter: other}\n" + fmt.Sprintf(services, ""))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	if c := r.current(); c.Loops != 2 || c.Consul.Datacenter != "" {
		t.Errorf("in force: loops %d, datacenter %q", c.Loops, c.Consul.Datacenter)
	}
	r.write("loops: 2\nidentity: {dev: {}}\n" + fmt.Sprintf(services, ", tls: {spiffe: {}}"))
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "at the next start only: identity") {
		t.Errorf("Reload: %v", err)
	}
}

// Certificates of the files named by the configuration in force are watched, those
// of earlier ones no longer.
func TestAReloadGoesOnWithItsCertificates(t *testing.T) {
	noLeaks(t)
	dir := t.TempDir()
	pair := writeCertificate(t, dir, "a")
	form := "loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: a, tls: {certificates: [%s]}}]\nservices: [{name: a, endpoints: [127.0.0.1:1]}]\n"
	r := start(t, fmt.Sprintf(form, pair))
	for range 5 {
		if err := r.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "one watcher", func() bool {
		return len(slices.DeleteFunc(ours(), func(g string) bool { return !strings.Contains(g, "EdgeCertificates).Run") })) == 1
	})
	if err := os.Remove(filepath.Join(dir, "a.key")); err != nil {
		t.Fatal(err)
	}
	if err := r.Reload(); err == nil || !strings.Contains(err.Error(), "a.key") {
		t.Errorf("Reload: %v", err)
	}
}
