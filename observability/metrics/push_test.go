package metrics

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	pb "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/larboard-proxy/larboard/observability/otlp"
)

const patience = 60 * time.Second

// receiver is a collector that is not ours, over HTTP and over gRPC.
type receiver struct {
	collector.UnimplementedMetricsServiceServer
	otlp.Collector

	mu    sync.Mutex
	got   []*collector.ExportMetricsServiceRequest
	keys  []string // the header x-key of each
	fault error    // what is answered in place of taking it
}

func (r *receiver) take(key string, m *collector.ExportMetricsServiceRequest) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fault != nil {
		return r.fault
	}
	r.got, r.keys = append(r.got, m), append(r.keys, key)
	return nil
}

func (r *receiver) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fault = err
}

func (r *receiver) requests() []*collector.ExportMetricsServiceRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// Export implements the service over gRPC.
func (r *receiver) Export(ctx context.Context, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	head, _ := metadata.FromIncomingContext(ctx)
	return &collector.ExportMetricsServiceResponse{}, r.take(strings.Join(head.Get("x-key"), ","), m)
}

// ServeHTTP implements it over HTTP.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err == nil && req.Header.Get("Content-Encoding") == "gzip" {
		var z *gzip.Reader
		if z, err = gzip.NewReader(bytes.NewReader(body)); err == nil {
			body, err = io.ReadAll(z)
		}
	}
	m := &collector.ExportMetricsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	if err == nil && req.URL.Path != "/v1/metrics" {
		err = fmt.Errorf("path %s", req.URL.Path)
	}
	if err == nil {
		err = r.take(req.Header.Get("X-Key"), m)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
	}
}

// newReceiver serves one of http, https, grpc and grpcs.
func newReceiver(t *testing.T, scheme string) *receiver {
	r := &receiver{}
	r.Timeout, r.Headers = patience, map[string]string{"x-key": "secret"}
	// The certificate of httptest serves gRPC, too.
	s := httptest.NewUnstartedServer(r)
	if strings.HasSuffix(scheme, "s") {
		s.StartTLS()
		pool := x509.NewCertPool()
		pool.AddCert(s.Certificate())
		r.TLS = &tls.Config{RootCAs: pool, ServerName: "example.com"}
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	r.Address = s.Listener.Addr().String()
	if r.GRPC = strings.HasPrefix(scheme, "grpc"); !r.GRPC {
		return r
	}
	var o []grpc.ServerOption
	if r.TLS != nil {
		o = append(o, grpc.Creds(credentials.NewServerTLSFromCert(&s.TLS.Certificates[0])))
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(o...)
	collector.RegisterMetricsServiceServer(g, r)
	go func() { _ = g.Serve(l) }() // ends with Stop
	t.Cleanup(g.Stop)
	r.Address = l.Addr().String()
	return r
}

// push runs what sends m to c, until end is called.
func push(t *testing.T, m *Metrics, c otlp.Collector, every time.Duration, log io.Writer) (end func()) {
	t.Helper()
	p, err := m.NewPush(PushOptions{Collector: c, Interval: every, Resource: map[string]string{"service.name": "web"},
		Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Error("Run does not return")
		}
	}
	t.Cleanup(end)
	return end
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// What a collector receives is what a scrape shows: the same metrics, series and values,
// with exemplars, and Go's and the process's.
func TestPush(t *testing.T) {
	for _, scheme := range []string{"http", "https", "grpc", "grpcs"} {
		t.Run(scheme, func(t *testing.T) {
			r := newReceiver(t, scheme)
			m := New(2)
			end := push(t, m, r.Collector, time.Hour, io.Discard)
			exercise(m)
			m.Observe(sampled(7))
			want := map[string]int{}
			for name, f := range scrape(t, m) {
				want[name] = len(f.GetMetric())
			}
			end() // and what has been counted meanwhile is sent
			got := r.requests()
			if len(got) != 1 || r.keys[0] != "secret" {
				t.Fatalf("%d requests with the header %q", len(got), r.keys)
			}
			resource := got[0].ResourceMetrics[0]
			if a := resource.Resource.Attributes; len(a) != 1 || a[0].Key != "service.name" || a[0].Value.GetStringValue() != "web" {
				t.Errorf("of %v", a)
			}
			all := map[string]*pb.Metric{}
			for _, s := range resource.ScopeMetrics {
				for _, one := range s.Metrics {
					all[one.Name] = one
				}
			}
			for name, n := range want {
				one := all[name]
				if points := len(one.GetSum().GetDataPoints()) + len(one.GetGauge().GetDataPoints()) + len(one.GetHistogram().GetDataPoints()); points != n {
					t.Errorf("%s has %d points, a scrape shows %d", name, points, n)
				}
			}
			for _, name := range []string{"go_goroutines", "process_resident_memory_bytes", "process_start_time_seconds"} {
				if p := all[name].GetGauge().GetDataPoints(); len(p) != 1 || p[0].GetAsDouble() <= 0 {
					t.Errorf("%s is %v", name, p)
				}
			}
			sum := 0.0
			for _, p := range all["larboard_requests_total"].GetSum().DataPoints {
				sum += p.GetAsDouble()
			}
			if s := all["larboard_requests_total"].GetSum(); sum != 7 || !s.IsMonotonic || s.AggregationTemporality != pb.AggregationTemporality_AGGREGATION_TEMPORALITY_CUMULATIVE {
				t.Errorf("%v requests, %v", sum, s)
			}
			exemplars := 0
			for _, p := range all["larboard_request_duration_seconds"].GetHistogram().DataPoints {
				for _, x := range p.Exemplars {
					if exemplars++; x.TraceId[15] != 7 || x.SpanId[7] != 7 || x.GetAsDouble() != 0.003 {
						t.Errorf("exemplar %v", x)
					}
				}
			}
			if exemplars != 1 {
				t.Errorf("%d exemplars", exemplars)
			}
		})
	}
}

// buffer is a log that is read while it is written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// exports are the values of larboard_metric_exports_total.
func exports(t *testing.T, m *Metrics) (exported, failed float64) {
	all := series(scrape(t, m)["larboard_metric_exports_total"])
	return all["result=exported"], all["result=failed"]
}

// A collector that refuses is told of once, however long it does; each failure counts.
func TestPushToACollectorThatRefuses(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		t.Run(scheme, func(t *testing.T) {
			var log buffer
			m, r := New(1), newReceiver(t, scheme)
			r.fail(fmt.Errorf("out of space"))
			push(t, m, r.Collector, 5*time.Millisecond, &log)
			eventually(t, "several failures", func() bool { _, failed := exports(t, m); return failed >= 5 })
			if n := strings.Count(log.String(), "does not take them"); n != 1 || !strings.Contains(log.String(), "out of space") {
				t.Errorf("said %d times:\n%s", n, log.String())
			}
			r.fail(nil)
			eventually(t, "success", func() bool { exported, _ := exports(t, m); return exported >= 2 })
			if n := strings.Count(log.String(), "takes them again"); n != 1 {
				t.Errorf("said %d times:\n%s", n, log.String())
			}
			r.fail(fmt.Errorf("out of space"))
			eventually(t, "the next failure is said", func() bool { return strings.Count(log.String(), "does not take them") == 2 })
		})
	}
}

// A collector that accepts connections and never answers holds nothing up, the end least.
func TestPushToACollectorThatHangs(t *testing.T) {
	for _, grpc := range []bool{false, true} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		m := New(1)
		end := push(t, m, otlp.Collector{GRPC: grpc, Address: l.Addr().String(), Timeout: 20 * time.Millisecond}, time.Millisecond, io.Discard)
		eventually(t, "failures", func() bool { _, failed := exports(t, m); return failed >= 2 })
		m.Observe(request())
		end()
		if exported, _ := exports(t, m); exported != 0 {
			t.Errorf("%v were taken", exported)
		}
	}
}
