package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/metadata"

	"github.com/larboard-proxy/larboard/tests/real"
)

// traceFields are what a workload passes on.
var traceFields = []string{"traceparent", "tracestate", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "x-b3-flags"}

// tracedMesh is web's sidecar, api with a sidecar, and stock, which serves gRPC, with
// another; each sends its spans to Jaeger. web's sidecar knows an api, too, that is not there.
type tracedMesh struct {
	jaeger *real.JaegerServer
	entry  string // where web's workload finds api
}

func newTracedMesh(t *testing.T) tracedMesh {
	t.Helper()
	m := tracedMesh{jaeger: real.Jaeger(t)}
	state := filepath.Join(shortDir(t), "authority")
	// Nothing is recorded unless the caller wants it.
	member := func(service, collector, rest string) *larboard {
		return start(t, service, fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n"+
			"tracing: {service: %s, sample: 0%%, otlp: {endpoint: %q, interval: 100ms, timeout: 30s}}\n", state, service, service, collector)+rest)
	}
	stock := member("stock", "grpc://"+m.jaeger.GRPC,
		fmt.Sprintf("workload: {service: stock, address: %q, listen: 127.0.0.1:0}\n", newCallee(t, "stock").address))

	var calls *grpcCaller
	workload := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		md := metadata.MD{}
		for _, name := range traceFields {
			if v := r.Header.Values(name); len(v) > 0 {
				md[name] = v
			}
		}
		text, err := calls.say(metadata.NewOutgoingContext(r.Context(), md), "echo hello")
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_, _ = io.WriteString(w, text)
	}))
	api := member("api", "http://"+m.jaeger.HTTP, fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n"+
		"upstreams: [{service: stock, bind: 127.0.0.1:0, endpoints: [%q]}]\n", workload, stock.address("inbound")))
	calls = newGRPCCaller(t, api.address("stock"))

	web := member("web", "grpc://"+m.jaeger.GRPC, fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q, %q]}]\n",
		freeAddress(t), api.address("inbound")))
	m.entry = web.address("api")
	return m
}

// ask calls api with these header fields.
func (m *tracedMesh) ask(t *testing.T, fields map[string]string) {
	t.Helper()
	q, err := http.NewRequest(http.MethodGet, "http://"+m.entry+"/items?token=abc", nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, value := range fields {
		q.Header.Set(name, value)
	}
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(q)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(body) != "hello from stock" {
		t.Fatalf("%d %q", resp.StatusCode, body)
	}
}

// hop is one line of a trace as it should be.
type hop struct{ service, kind, name, listener, endpointID string }

const svc = "spiffe://mesh.test/ns/default/dc/dc1/svc/"

// hops are those from web to stock, each beneath the one before.
var hops = []hop{
	{"web", "server", "GET", "api", svc + "api"},
	{"web", "client", "GET", "api", svc + "api"},
	{"api", "server", "GET", "inbound", ""},
	{"api", "client", "GET", "inbound", ""},
	{"api", "server", "test.Calls/Say", "stock", svc + "stock"},
	{"api", "client", "test.Calls/Say", "stock", svc + "stock"},
	{"stock", "server", "test.Calls/Say", "inbound", ""},
	{"stock", "client", "test.Calls/Say", "inbound", ""},
}

// follow looks for the chain of hops beneath the caller's span, and returns the attempts
// that have failed beside it.
func follow(spans []real.JaegerSpan, caller string) (failed []real.JaegerSpan, err error) {
	parent, seen := caller, 0
	for _, h := range hops {
		next := ""
		for _, s := range spans {
			if s.Parent != parent {
				continue
			}
			seen++
			if s.Tags["error"] == "true" {
				failed = append(failed, s)
				continue
			}
			got := hop{s.Service, s.Tags["span.kind"], s.Name, s.Tags["larboard.listener"], s.Tags["larboard.endpoint_id"]}
			if got != h {
				return nil, fmt.Errorf("beneath %s is %+v, want %+v", parent, got, h)
			}
			next = s.SpanID
		}
		if next == "" {
			return nil, fmt.Errorf("nothing beneath %s, want %+v, of %d spans", parent, h, len(spans))
		}
		parent = next
	}
	if seen != len(spans) {
		return nil, fmt.Errorf("%d spans, %d of them in their place", len(spans), seen)
	}
	return failed, nil
}

// One trace goes from web over api to stock, whatever form the caller writes its context
// in, and shows every hop and every attempt.
func TestOneTraceInJaeger(t *testing.T) {
	t.Parallel()
	m := newTracedMesh(t)
	retries := 0
	for i, form := range []string{"w3c", "b3", "b3multi", "w3c", "b3", "b3multi"} {
		trace, span := fmt.Sprintf("%032x", 0xabcdef00+i), fmt.Sprintf("%016x", 0x1234500+i)
		m.ask(t, map[string]map[string]string{
			"w3c":     {"traceparent": "00-" + trace + "-" + span + "-01", "tracestate": "vendor=value"},
			"b3":      {"b3": trace + "-" + span + "-1"},
			"b3multi": {"x-b3-traceid": trace, "x-b3-spanid": span, "x-b3-sampled": "1"},
		}[form])
		var failed []real.JaegerSpan
		eventually(t, patience, "the trace of "+form+" is whole", func() error {
			spans, err := m.jaeger.Trace(trace)
			if err == nil {
				failed, err = follow(spans, span)
			}
			return err
		})
		for _, s := range failed {
			retries++
			want := map[string]string{"span.kind": "client", "larboard.reason": "connect_failed", "larboard.phase": "connect", "error.type": "connect_failed", "larboard.try": "1"}
			for key, value := range want {
				if s.Tags[key] != value {
					t.Errorf("%s of the failed attempt is %q, want %q", key, s.Tags[key], value)
				}
			}
		}
	}
	if retries == 0 {
		t.Error("no request has met the endpoint that is not there")
	}
	judgeTags(t, &m)
	// What callers do not want recorded is not, nor what they say nothing of, at 0 %.
	unwanted := fmt.Sprintf("%032x", 0xfedcba)
	m.ask(t, map[string]string{"traceparent": "00-" + unwanted + "-" + fmt.Sprintf("%016x", 1) + "-00"})
	m.ask(t, nil)
	last := fmt.Sprintf("%032x", 0xfedcbb)
	m.ask(t, map[string]string{"b3": last + "-" + fmt.Sprintf("%016x", 1) + "-1"})
	eventually(t, patience, "a later trace has come", func() error {
		spans, err := m.jaeger.Trace(last)
		if err == nil {
			_, err = follow(spans, fmt.Sprintf("%016x", 1))
		}
		return err
	})
	if spans, err := m.jaeger.Trace(unwanted); err != nil || len(spans) > 0 {
		t.Errorf("%d spans that nobody wanted, %v", len(spans), err)
	}
}

// judgeTags looks at what the spans of the first trace say.
func judgeTags(t *testing.T, m *tracedMesh) {
	t.Helper()
	spans, err := m.jaeger.Trace(fmt.Sprintf("%032x", 0xabcdef00))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []map[string]string{
		{"span.kind": "server", "larboard.listener": "api", "larboard.service": "api", "larboard.direction": "outbound", "http.request.method": "GET",
			"http.response.status_code": "200", "url.path": "/items", "url.query": "token=[redacted]", "url.scheme": "http", "network.protocol.version": "1.1",
			"client.address": "127.0.0.1", "user_agent.original": "Go-http-client/1.1", "server.address": "127.0.0.1"},
		{"span.kind": "server", "larboard.listener": "inbound", "larboard.peer_id": svc + "web", "url.scheme": "https"},
		{"span.kind": "server", "larboard.listener": "inbound", "larboard.peer_id": svc + "api", "rpc.system.name": "grpc",
			"rpc.method": "test.Calls/Say", "rpc.response.status_code": "OK"},
		{"span.kind": "client", "larboard.listener": "api", "larboard.endpoint_id": svc + "api", "http.response.status_code": "200",
			"network.peer.address": "127.0.0.1", "url.full": "https://" + m.entry + "/items?token=[redacted]"},
	} {
		if !slices.ContainsFunc(spans, func(s real.JaegerSpan) bool {
			for key, value := range want {
				if s.Tags[key] != value {
					return false
				}
			}
			return true
		}) {
			all, _ := json.MarshalIndent(spans, "", " ")
			t.Errorf("no span with %v among\n%s", want, all)
		}
	}
}

// A collector that is away, and one that never answers, cost spans, and no request.
func TestCollectorAway(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	silent := origin(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() { close(hang) })
	for name, collector := range map[string]string{
		"nobody there over HTTP": "http://" + freeAddress(t),
		"nobody there over gRPC": "grpc://" + freeAddress(t),
		"never answers":          "http://" + silent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := start(t, "proxy", fmt.Sprintf("tracing: {sample: 100%%, otlp: {endpoint: %q, interval: 100ms, timeout: 500ms}}\n"+
				"listeners: [{name: web, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q]}]\n", collector, origin(t, named("ok"))))
			client := &http.Client{Timeout: patience}
			t.Cleanup(client.CloseIdleConnections)
			sent := 0
			request := func() {
				sent++
				resp, err := client.Get("http://" + p.address("web") + "/")
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if body, err := io.ReadAll(resp.Body); err != nil || resp.StatusCode != http.StatusOK || string(body) != "ok" {
					t.Fatalf("request %d: %d %q %v", sent, resp.StatusCode, body, err)
				}
			}
			for range 300 {
				request()
			}
			eventually(t, patience, "spans are dropped and counted", func() error {
				request()
				if n := p.scrape().sum("larboard_spans_total", `result="dropped"`); n < 600 {
					return fmt.Errorf("%v", n)
				}
				return nil
			})
			if n := p.scrape().sum("larboard_spans_total", `result="exported"`); n != 0 {
				t.Errorf("%v spans exported, to nobody", n)
			}
			if n := strings.Count(p.log(), "collector does not take spans"); n != 1 {
				t.Errorf("the log says it %d times", n)
			}
		})
	}
}

// spanCounter is a collector over HTTP that is told of each batch.
func spanCounter(t *testing.T) (address string, batches chan int64) {
	t.Helper()
	batches = make(chan int64, 1000)
	return origin(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/v1/traces" && r.Header.Get("X-Key") == "abcdef" {
			batches <- r.ContentLength
		}
	})), batches
}

// A reload changes how many requests are recorded; what is left of spans is sent at the end;
// and the collector's key is shown nowhere.
func TestTracingLifecycle(t *testing.T) {
	t.Parallel()
	collector, batches := spanCounter(t)
	app := origin(t, named("ok"))
	configuration := func(sample string) string {
		return fmt.Sprintf("tracing: {sample: %s, otlp: {endpoint: \"http://%s\", headers: {x-key: abcdef}, interval: 1h}}\n"+
			"listeners: [{name: web, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q]}]\n", sample, collector, app)
	}
	p := start(t, "proxy", configuration("0%"))
	get(t, "http://"+p.address("web")+"/")
	p.configure(configuration("100%"))
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("reload: %d %s", status, body)
	}
	get(t, "http://"+p.address("web")+"/")
	for _, path := range []string{"/api/v1/config", "/metrics"} {
		if _, body, err := p.get(path); err != nil || strings.Contains(body, "abcdef") {
			t.Errorf("%s shows the key, or fails: %v", path, err)
		}
	}
	if n := len(batches); n != 0 {
		t.Errorf("%d batches before their time", n)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := len(batches); n != 1 {
		t.Errorf("%d batches at the end, want that of the request after the reload", n)
	}
}
