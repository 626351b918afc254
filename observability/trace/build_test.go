package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// full is a request that an endpoint has failed and another has answered.
func full() *observability.Record {
	return &observability.Record{
		Listener: "web", Route: "api.example/v1", Service: "api", Endpoint: "10.0.0.2:80", Protocol: "http", Inbound: true,
		Start: start, Total: 30 * time.Millisecond, RequestHead: time.Millisecond,
		Method: []byte("GET"), Authority: []byte("api.example:8080"), Path: []byte("/v1/a?b=c&token=abc&d"), UserAgent: []byte("curl/8"), Version: "1.1",
		RequestID: []byte("f00"), Status: 200, Attempts: 2, TLS: true,
		Client: netip.MustParseAddrPort("192.0.2.1:1234"), PeerID: "spiffe://a/web", EndpointID: "spiffe://a/api",
		Trace: observability.SpanContext{TraceID: [16]byte{1, 15: 2}, SpanID: [8]byte{3}, Parent: [8]byte{4}, Sampled: true},
		Tries: []observability.Try{
			{Endpoint: "10.0.0.1:80", Span: [8]byte{5}, Reason: policy.ConnectFailed, Phase: policy.PhaseConnect, Side: policy.Upstream,
				Start: time.Millisecond, Connect: time.Millisecond, Total: 2 * time.Millisecond},
			{Endpoint: "10.0.0.2:80", EndpointID: "spiffe://a/api", Span: [8]byte{6}, Status: 200,
				Start: 4 * time.Millisecond, Connect: time.Millisecond, Head: 10 * time.Millisecond, Total: 20 * time.Millisecond},
		},
	}
}

// text is all that matters of a span, one thing a line.
func text(s tracetest.SpanStub) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s<-%s +%v..%v %v %s\n", s.SpanKind, s.Name, s.SpanContext.SpanID().String()[:2], s.Parent.SpanID().String()[:2],
		s.StartTime.Sub(start), s.EndTime.Sub(start), s.Status.Code, s.Status.Description)
	var all []string
	for _, a := range s.Attributes {
		all = append(all, "  "+string(a.Key)+"="+a.Value.String())
	}
	slices.Sort(all)
	for _, e := range s.Events {
		line := fmt.Sprintf("  at +%v %s", e.Time.Sub(start), e.Name)
		for _, a := range e.Attributes {
			line += " " + string(a.Key) + "=" + a.Value.String()
		}
		all = append(all, line)
	}
	return b.String() + strings.Join(all, "\n") + "\n"
}

func spans(t *testing.T, r *observability.Record) tracetest.SpanStubs {
	t.Helper()
	e := &taken{}
	tr := open(t, e, Options{})
	tr.Observe(r)
	tr.flush(t.Context())
	return e.spans
}

func compare(t *testing.T, got tracetest.SpanStubs, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d spans, want %d", len(got), len(want))
	}
	for i := range want {
		if text(got[i]) != want[i] {
			t.Errorf("span %d:\n%swant\n%s", i, text(got[i]), want[i])
		}
	}
}

func TestSpansOfARequest(t *testing.T) {
	got := spans(t, full())
	compare(t, got,
		`client GET 05<-03 +1ms..3ms Error no connection to the endpoint could be made
  error.type=connect_failed
  http.request.method=GET
  larboard.direction=inbound
  larboard.endpoint=10.0.0.1:80
  larboard.listener=web
  larboard.phase=connect
  larboard.reason=connect_failed
  larboard.route=api.example/v1
  larboard.service=api
  larboard.side=upstream
  larboard.try=1
  network.peer.address=10.0.0.1
  network.peer.port=80
  server.address=api.example
  server.port=8080
  url.full=http://api.example:8080/v1/a?b=c&token=[redacted]&d
`, `client GET 06<-03 +4ms..24ms Unset 
  http.request.method=GET
  http.request.resend_count=1
  http.response.status_code=200
  larboard.direction=inbound
  larboard.endpoint=10.0.0.2:80
  larboard.endpoint_id=spiffe://a/api
  larboard.listener=web
  larboard.route=api.example/v1
  larboard.service=api
  larboard.try=2
  network.peer.address=10.0.0.2
  network.peer.port=80
  server.address=api.example
  server.port=8080
  url.full=https://api.example:8080/v1/a?b=c&token=[redacted]&d
  at +5ms connected
  at +14ms response head
`, `server GET api.example/v1 03<-04 +0s..30ms Unset 
  client.address=192.0.2.1
  client.port=1234
  http.request.method=GET
  http.response.status_code=200
  larboard.attempts=2
  larboard.direction=inbound
  larboard.endpoint=10.0.0.2:80
  larboard.endpoint_id=spiffe://a/api
  larboard.listener=web
  larboard.peer_id=spiffe://a/web
  larboard.request_id=f00
  larboard.route=api.example/v1
  larboard.service=api
  network.protocol.version=1.1
  server.address=api.example
  server.port=8080
  url.path=/v1/a
  url.query=b=c&token=[redacted]&d
  url.scheme=https
  user_agent.original=curl/8
`)
	for _, s := range got {
		if s.SpanContext.TraceID() != (trace.TraceID{1, 15: 2}) || s.Parent.TraceID() != s.SpanContext.TraceID() || !s.SpanContext.IsSampled() {
			t.Errorf("%s: %v beneath %v", s.Name, s.SpanContext, s.Parent)
		}
		if remote := s.SpanKind == trace.SpanKindServer; s.Parent.IsRemote() != remote {
			t.Errorf("%s: its parent is remote: %v", s.Name, s.Parent.IsRemote())
		}
		if name, _ := s.Resource.Set().Value("service.name"); name.AsString() != "web" {
			t.Errorf("resource %v", s.Resource)
		}
	}
}

func TestSpansOfACall(t *testing.T) {
	r := full()
	r.Method, r.Path, r.Authority, r.Trace.Parent, r.Route = []byte("POST"), []byte("/shop.v1.Stock/Count"), []byte("[2001:db8::1]"), [8]byte{}, "default"
	r.GRPC, r.Version, r.Protocol = policy.GRPCUnavailable, "2", "http2"
	r.Tries = r.Tries[1:]
	r.Tries[0].GRPC, r.Tries[0].Reused = policy.GRPCUnavailable, true
	got := spans(t, r)
	for i, s := range got {
		all := text(s)
		for _, want := range []string{" shop.v1.Stock/Count ", " Error ", "rpc.system.name=grpc\n", "rpc.method=shop.v1.Stock/Count\n",
			"rpc.response.status_code=UNAVAILABLE\n", "error.type=UNAVAILABLE\n", "server.address=2001:db8::1\n"} {
			if !strings.Contains(all, want) {
				t.Errorf("span %d without %q:\n%s", i, want, all)
			}
		}
		if strings.Contains(all, "http.request.method") || strings.Contains(all, "connected\n") {
			t.Errorf("span %d:\n%s", i, all)
		}
	}
	// A trace that begins here.
	if got[1].Parent.IsValid() {
		t.Errorf("parent %v", got[1].Parent)
	}
}

func TestSpanOfATunnel(t *testing.T) {
	r := &observability.Record{
		Listener: "redis", Service: "redis", Endpoint: "10.0.0.2:6379", Protocol: "tcp", Detected: "opaque", BytesIn: 10, BytesOut: 20,
		Start: start, Total: time.Second, Attempts: 2, Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Trace: observability.SpanContext{TraceID: [16]byte{1}, SpanID: [8]byte{3}, Sampled: true},
		Tries: []observability.Try{
			{Endpoint: "10.0.0.1:6379", Reason: policy.ConnectTimeout, Phase: policy.PhaseConnect, Side: policy.Upstream, Connect: 100 * time.Millisecond},
			{Endpoint: "10.0.0.2:6379", Reason: policy.TunnelIdle, Phase: policy.PhaseBody, Start: 100 * time.Millisecond, Connect: time.Millisecond, Total: time.Second},
		},
		Reason: policy.TunnelIdle, Side: policy.Internally,
	}
	compare(t, spans(t, r), `server tcp redis 03<-00 +0s..1s Error `+policy.TunnelIdle.Info().Sentence+`
  client.address=192.0.2.1
  client.port=1234
  error.type=tunnel_idle
  larboard.attempts=2
  larboard.bytes_in=10
  larboard.bytes_out=20
  larboard.detected=opaque
  larboard.direction=outbound
  larboard.endpoint=10.0.0.2:6379
  larboard.listener=redis
  larboard.reason=tunnel_idle
  larboard.service=redis
  larboard.side=internal
  network.transport=tcp
  at +100ms connect failed larboard.try=1 larboard.endpoint=10.0.0.1:6379 larboard.reason=connect_timeout
  at +101ms connected larboard.try=2 larboard.endpoint=10.0.0.2:6379
`)
}

// What is an error on which side is what the conventions say.
func TestStatusOfSpans(t *testing.T) {
	for _, tc := range []struct {
		name            string
		change          func(r *observability.Record, t *observability.Try)
		server, attempt codes.Code
		errorType       string // of the server span, or else of the attempt's
	}{
		{"ok", func(*observability.Record, *observability.Try) {}, codes.Unset, codes.Unset, ""},
		{"404", func(r *observability.Record, t *observability.Try) { r.Status, t.Status = 404, 404 }, codes.Unset, codes.Error, "404"},
		{"500", func(r *observability.Record, t *observability.Try) { r.Status, t.Status = 500, 500 }, codes.Error, codes.Error, "500"},
		{"not found by gRPC", func(r *observability.Record, t *observability.Try) {
			r.GRPC, t.GRPC = policy.GRPCNotFound, policy.GRPCNotFound
		}, codes.Unset, codes.Error, "NOT_FOUND"},
		{"reset", func(r *observability.Record, t *observability.Try) {
			r.Status, r.Reason, r.Side, t.Status, t.Reason, t.Side = 502, policy.UpstreamReset, policy.Upstream, 0, policy.UpstreamReset, policy.Upstream
		}, codes.Error, codes.Error, "upstream_reset"},
		{"the client has left", func(r *observability.Record, t *observability.Try) {
			r.Status, r.Reason, r.Side, t.Status, t.Reason, t.Side = 0, policy.ClientAborted, policy.Downstream, 0, policy.ClientAborted, policy.Downstream
		}, codes.Unset, codes.Unset, ""},
	} {
		r := full()
		r.Tries = r.Tries[1:]
		tc.change(r, &r.Tries[0])
		got := spans(t, r)
		if got[1].Status.Code != tc.server || got[0].Status.Code != tc.attempt {
			t.Errorf("%s: server %v, attempt %v", tc.name, got[1].Status, got[0].Status)
		}
		kind := ""
		for _, s := range got {
			for _, a := range s.Attributes {
				if a.Key == "error.type" {
					kind = a.Value.AsString()
				}
			}
		}
		if kind != tc.errorType {
			t.Errorf("%s: error.type %q", tc.name, kind)
		}
	}
}

func TestHostileValuesAreBounded(t *testing.T) {
	r := full()
	r.Method, r.Path = []byte(strings.Repeat("X", 5000)), []byte("/"+strings.Repeat("p", 60000))
	r.UserAgent, r.Authority, r.RequestID = []byte(strings.Repeat("u", 5000)), []byte(strings.Repeat("a", 5000)), []byte(strings.Repeat("i", 5000))
	for range 10 {
		r.Tries = append(r.Tries, r.Tries...)
		r.Tries = r.Tries[:min(len(r.Tries), 1000)]
	}
	got := spans(t, r)
	if len(got) != 1+triesLimit {
		t.Errorf("%d spans", len(got))
	}
	for _, s := range got {
		if !strings.HasPrefix(s.Name, "HTTP") {
			t.Errorf("name %q", s.Name)
		}
		for _, a := range s.Attributes {
			if n := len(a.Value.String()); n > targetLimit+valueLimit+10 {
				t.Errorf("%s: %d bytes", a.Key, n)
			}
		}
	}
}

func TestNotSampledIsNoSpan(t *testing.T) {
	r := full()
	r.Trace.Sampled = false
	if got := spans(t, r); len(got) != 0 {
		t.Errorf("%d spans", len(got))
	}
}

// BenchmarkBuild is what a sampled exchange with two attempts costs beside the loops, up
// to the encoding.
func BenchmarkBuild(b *testing.B) {
	tr := open(b, &taken{}, Options{})
	x := &item{}
	x.keep(full())
	b.ReportAllocs()
	for b.Loop() {
		tr.builder.build(x)
		tr.batch = tr.batch[:0]
	}
}

// A password that a client sends with the host is in no span.
func TestNoUserInformation(t *testing.T) {
	r := full()
	r.Authority = []byte("ann:hunter2@api.example:8080")
	for _, s := range spans(t, r) {
		if all := text(s); strings.Contains(all, "hunter2") || strings.Contains(all, "ann") {
			t.Error(all)
		}
	}
}
