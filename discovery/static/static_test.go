package static

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/larboard-proxy/larboard/discovery"
)

func TestNewChecksAndCompletes(t *testing.T) {
	for name, c := range map[string]struct {
		endpoints []discovery.Endpoint
		err       string
	}{
		"ip":             {[]discovery.Endpoint{{Address: "127.0.0.1:80", Weight: 1}}, ""},
		"ipv6":           {[]discovery.Endpoint{{Address: "[::1]:80"}}, ""},
		"socket":         {[]discovery.Endpoint{{Address: "unix:///run/a"}}, ""},
		"none":           {nil, ""},
		"host name":      {[]discovery.Endpoint{{Address: "localhost:80"}}, "must be an IP address"},
		"no port":        {[]discovery.Endpoint{{Address: "127.0.0.1"}}, "want host:port"},
		"port 0":         {[]discovery.Endpoint{{Address: "127.0.0.1:0"}}, "from 1 to 65535"},
		"port too high":  {[]discovery.Endpoint{{Address: "127.0.0.1:65536"}}, "from 1 to 65535"},
		"relative path":  {[]discovery.Endpoint{{Address: "unix://run/a"}}, "absolute path"},
		"weight below 0": {[]discovery.Endpoint{{Address: "127.0.0.1:80", Weight: -1}}, "negative weight"},
		"same address":   {[]discovery.Endpoint{{Address: "127.0.0.1:80"}, {Address: "127.0.0.1:80"}}, "given twice"},
		"same id":        {[]discovery.Endpoint{{ID: "a", Address: "127.0.0.1:80"}, {ID: "a", Address: "127.0.0.1:81"}}, "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(c.endpoints)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Errorf("error %v, want one with %q", err, c.err)
			}
		})
	}
}

func TestSourceSendsOnceInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		given := []discovery.Endpoint{{Address: "127.0.0.1:2", Weight: 3}, {ID: "x", Address: "127.0.0.1:1"}}
		source, err := New(given)
		if err != nil {
			t.Fatal(err)
		}
		given[0].Address = "changed afterwards"
		updates := run(t, source)
		want := []discovery.Endpoint{
			{ID: "127.0.0.1:2", Address: "127.0.0.1:2", Weight: 3, Source: "static"},
			{ID: "x", Address: "127.0.0.1:1", Source: "static"},
		}
		if got := updates(); len(got) != 1 || !discovery.Equal(got[0].Endpoints, want) {
			t.Errorf("updates %+v, want one with %+v", got, want)
		}
	})
}

func TestRegistry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r Registry
		updates := run(t, r.Source("api"))
		if got := updates(); len(got) != 1 || len(got[0].Endpoints) != 0 {
			t.Fatalf("first update %+v, want an empty set", got)
		}
		register := func(service, id, address string) {
			t.Helper()
			if err := r.Register(service, discovery.Endpoint{ID: id, Address: address, Weight: 1}); err != nil {
				t.Fatal(err)
			}
		}
		register("other", "1", "127.0.0.1:9")
		register("api", "1", "127.0.0.1:1")
		register("api", "2", "127.0.0.1:2")
		register("api", "1", "127.0.0.1:3")
		got := updates()
		last := got[len(got)-1]
		if len(last.Endpoints) != 2 || last.Endpoints[0].Address != "127.0.0.1:3" || last.Endpoints[1].Address != "127.0.0.1:2" {
			t.Errorf("after three registrations: %+v", last)
		}
		if !r.Deregister("api", "1") || r.Deregister("api", "1") {
			t.Error("Deregister does not tell whether the endpoint was there")
		}
		got = updates()
		if last := got[len(got)-1]; len(last.Endpoints) != 1 || last.Index <= 3 {
			t.Errorf("after a deregistration: %+v", last)
		}
		if err := r.Register("api", discovery.Endpoint{Address: "api:80"}); err == nil {
			t.Error("a host name was registered")
		}
	})
}

// run starts a source; the returned function gives its updates so far. The source
// must end with its context.
func run(t *testing.T, source discovery.Source) func() []discovery.Update {
	ctx, cancel := context.WithCancel(t.Context())
	var updates []discovery.Update
	done := make(chan error, 1)
	go func() { done <- source.Run(ctx, func(u discovery.Update) { updates = append(updates, u) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
	return func() []discovery.Update {
		synctest.Wait()
		return updates
	}
}
