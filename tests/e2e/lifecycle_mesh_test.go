package e2e

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// pair is two sidecars that share a development authority, and no Consul: what
// calls and what is called.
type pair struct {
	caller, called *larboard
	// api is where the caller's workload finds the service.
	api string
}

func startPair(t testing.TB, workload string) pair {
	t.Helper()
	state := filepath.Join(shortDir(t), "authority")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: pair.test, state: %q, id: \"spiffe://pair.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	called := start(t, "called", identity("api")+fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", workload))
	caller := start(t, "caller", identity("web")+fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]\n", called.address("inbound")))
	return pair{caller: caller, called: called, api: "http://" + caller.address("api")}
}

func TestWorkloadCannotSpeakForItsProxy(t *testing.T) {
	var asked atomic.Int32
	p := startPair(t, origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.Header().Set("X-Larboard-Reason", "connect_failed")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, "mine")
	})))
	status, body, header := get(t, p.api+"/")
	if status != 503 || body != "mine" || header.Get("X-Larboard-Reason") != "" || asked.Load() != 1 {
		t.Errorf("got %d %q with reason %q after %d requests; want the workload's own 503, without a reason, after 1",
			status, body, header.Get("X-Larboard-Reason"), asked.Load())
	}
}

func TestDeadWorkloadIsSaidWithItsReason(t *testing.T) {
	w := startWorkload(t, "dead")
	p := startPair(t, w.address)
	w.kill()
	for range 2 {
		status, body, header := get(t, p.api+"/")
		if status != 503 || header.Get("X-Larboard-Reason") != "connect_failed" || !strings.HasPrefix(body, "connect_failed: ") {
			t.Errorf("got %d %q with reason %q", status, body, header.Get("X-Larboard-Reason"))
		}
	}
	if n := p.caller.scrape().sum("larboard_requests_total", `service="api"`, `reason="connect_failed"`); n != 2 {
		t.Errorf("%v requests counted with connect_failed, want 2", n)
	}
}
