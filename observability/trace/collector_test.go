package trace

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	coltracepb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/larboard-proxy/larboard/observability/otlp"
	"github.com/larboard-proxy/larboard/policy"
)

// service takes spans over gRPC. The first calls are refused.
type service struct {
	coltracepb.UnimplementedTraceServiceServer
	refuse atomic.Int64
	spans  atomic.Int64
	key    atomic.Value
}

func (s *service) Export(ctx context.Context, q *coltracepb.ExportTraceServiceRequest) (*coltracepb.ExportTraceServiceResponse, error) {
	md, _ := metadata.FromIncomingContext(ctx)
	if v := md.Get("x-key"); len(v) > 0 {
		s.key.Store(v[0])
	}
	if s.refuse.Add(-1) >= 0 {
		return nil, status.Error(codes.Unavailable, "not now")
	}
	s.add(q)
	return &coltracepb.ExportTraceServiceResponse{}, nil
}

func (s *service) add(q *coltracepb.ExportTraceServiceRequest) {
	for _, r := range q.ResourceSpans {
		for _, scope := range r.ScopeSpans {
			s.spans.Add(int64(len(scope.Spans)))
		}
	}
}

// ServeHTTP takes spans over HTTP.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.key.Store(r.Header.Get("X-Key") + " " + r.URL.Path)
	if s.refuse.Add(-1) >= 0 {
		http.Error(w, "not now", http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(r.Body)
	var q coltracepb.ExportTraceServiceRequest
	if err != nil || proto.Unmarshal(body, &q) != nil {
		http.Error(w, "what", http.StatusBadRequest)
		return
	}
	s.add(&q)
}

func tracerTo(t *testing.T, c otlp.Collector) *Tracer {
	t.Helper()
	c.Headers, c.Timeout = map[string]string{"x-key": "secret"}, 20*time.Second
	tr, err := New(Options{Loops: 1, Collector: c, Interval: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// arrive waits until n spans have been taken.
func (s *service) arrive(t *testing.T, n int64) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); s.spans.Load() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d spans of %d", s.spans.Load(), n)
		}
	}
}

// Both protocols; a collector that is busy is asked again.
func TestProtocols(t *testing.T) {
	overHTTP := &service{}
	server := httptest.NewServer(overHTTP)
	t.Cleanup(server.Close)

	overGRPC := &service{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	calls := grpc.NewServer()
	coltracepb.RegisterTraceServiceServer(calls, overGRPC)
	go calls.Serve(l)
	t.Cleanup(calls.Stop)

	for _, tc := range []struct {
		name string
		to   otlp.Collector
		at   *service
		key  string
	}{
		{"HTTP", otlp.Collector{Address: server.Listener.Addr().String()}, overHTTP, "secret /v1/traces"},
		{"HTTP, another path", otlp.Collector{Address: server.Listener.Addr().String(), Path: "/a/b"}, overHTTP, "secret /a/b"},
		{"gRPC", otlp.Collector{GRPC: true, Address: l.Addr().String()}, overGRPC, "secret"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.at.refuse.Store(1)
			tc.at.spans.Store(0)
			tr := tracerTo(t, tc.to)
			stop := run(tr)
			tr.Observe(full())
			tc.at.arrive(t, 3)
			tr.Observe(full()) // what is left when the end comes
			if err := stop(); err != nil {
				t.Error(err)
			}
			if exported, dropped := tr.Counts(); tc.at.spans.Load() != 6 || exported != 6 || dropped != 0 || tc.at.key.Load() != tc.key {
				t.Errorf("%d arrived of %d, %d dropped, %q", tc.at.spans.Load(), exported, dropped, tc.at.key.Load())
			}
		})
	}
}

// What clients send need not be UTF-8, which the protocol demands of each text: one request must
// not cost the spans of all that are sent with it.
func TestNotUTF8(t *testing.T) {
	at := &service{}
	server := httptest.NewServer(at)
	t.Cleanup(server.Close)
	r := full()
	r.UserAgent, r.RequestID, r.Authority = []byte("curl\xff"), []byte("\xc3"), []byte("a\x80b")
	r.Method, r.Path, r.PeerID = []byte("GE\xe9"), []byte("/\xf0\x28?q=\xff"), "spiffe://a/\xff"
	call := full()
	call.GRPC, call.Path = policy.GRPCUnavailable, []byte("/a.B/\xffC")
	tr := tracerTo(t, otlp.Collector{Address: server.Listener.Addr().String()})
	stop := run(tr)
	tr.Observe(r)
	tr.Observe(call)
	tr.Observe(full())
	if err := stop(); err != nil {
		t.Error(err)
	}
	if exported, dropped := tr.Counts(); at.spans.Load() != 9 || exported != 9 || dropped != 0 {
		t.Errorf("%d arrived of %d, %d dropped", at.spans.Load(), exported, dropped)
	}
}
