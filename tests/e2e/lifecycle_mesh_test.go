package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// staticMesh is sidecars that share a development authority, and no Consul: one
// that calls, and those in front of the instances of api.
type staticMesh struct {
	caller *larboard
	called []*larboard
	// api is where the caller's workload finds the service.
	api string
}

func newStaticMesh(t testing.TB, workloads ...string) staticMesh {
	t.Helper()
	state := filepath.Join(shortDir(t), "authority")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	m := staticMesh{}
	var endpoints []string
	for i, w := range workloads {
		p := start(t, fmt.Sprint("called ", i+1), identity("api")+fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", w))
		m.called, endpoints = append(m.called, p), append(endpoints, strconv.Quote(p.address("inbound")))
	}
	m.caller = start(t, "caller", identity("web")+fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%s]}]\n", strings.Join(endpoints, ", ")))
	m.api = m.caller.address("api")
	return m
}

func TestWorkloadCannotSpeakForItsProxy(t *testing.T) {
	var asked atomic.Int32
	m := newStaticMesh(t, origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-Larboard-Reason", "connect_failed")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "mine")
	})))
	status, body, header := get(t, "http://"+m.api+"/")
	if status != 503 || body != "mine" || header.Get("X-Larboard-Reason") != "" || asked.Load() != 1 {
		t.Errorf("got %d %q with reason %q after %d requests; want the workload's own 503, without a reason, after 1",
			status, body, header.Get("X-Larboard-Reason"), asked.Load())
	}
}

func TestDeadWorkloadIsSaidWithItsReason(t *testing.T) {
	w := startWorkload(t, "dead")
	m := newStaticMesh(t, w.address)
	w.kill()
	for range 2 {
		status, body, header := get(t, "http://"+m.api+"/")
		if status != 503 || header.Get("X-Larboard-Reason") != "connect_failed" || !strings.HasPrefix(body, "connect_failed: ") {
			t.Errorf("got %d %q with reason %q", status, body, header.Get("X-Larboard-Reason"))
		}
	}
	eventually(t, patience, "both are counted with their reason", func() error {
		if n := m.caller.scrape().sum("larboard_requests_total", `service="api"`, `reason="connect_failed"`); n != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// An instance that is ended before its requests are gives them to the others,
// where they may be repeated.
func TestRequestCutByAProxysEndIsRepeatedElsewhere(t *testing.T) {
	address, arrived := hanging(t)
	m := newStaticMesh(t, address, origin(t, named("ok")))
	results := make(chan error, 100)
	sent := 0
	eventually(t, patience, "a request hangs", func() error {
		if sent < cap(results) {
			sent++
			go func() { results <- oneRequest("http://" + m.api + "/") }()
		}
		select {
		case <-arrived:
			return nil
		default:
			return fmt.Errorf("%d sent", sent)
		}
	})
	m.called[0].signal(syscall.SIGTERM)
	m.called[0].waitLog("draining")
	m.called[0].signal(syscall.SIGTERM)
	for range sent {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
}
