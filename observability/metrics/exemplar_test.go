package metrics

import (
	"fmt"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/larboard-proxy/larboard/observability"
)

// openMetrics reads m as a scraper that asks for OpenMetrics.
func openMetrics(t *testing.T, m *Metrics) string {
	t.Helper()
	r := httptest.NewRequest("GET", "/metrics", nil)
	r.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, r)
	if got := w.Header().Get("Content-Type"); w.Code != 200 || !strings.HasPrefix(got, "application/openmetrics-text") {
		t.Fatalf("status %d, %s", w.Code, got)
	}
	return w.Body.String()
}

// sampled is request in a trace that is kept; each number is another trace.
func sampled(n byte) *observability.Record {
	r := request()
	r.Inbound, r.PeerID = true, "spiffe://example.org/web"
	r.Trace = observability.SpanContext{TraceID: [16]byte{15: n}, SpanID: [8]byte{7: n}, Sampled: true}
	r.Tries[0].Span = [8]byte{0: 1, 7: n}
	return r
}

func TestExemplars(t *testing.T) {
	m := New(2)
	first, again, later, other, unsampled := sampled(1), sampled(2), sampled(3), sampled(4), sampled(5)
	again.Start = first.Start.Add(exemplarFor / 2)
	later.Loop, later.Start = 1, first.Start.Add(2*exemplarFor)
	other.Total = time.Hour
	unsampled.Trace.Sampled = false
	unsampled.Start = first.Start.Add(time.Hour)
	for _, r := range []*observability.Record{first, again, later, other, unsampled} {
		m.Observe(r)
	}
	text := openMetrics(t, m)
	for _, name := range []string{
		"larboard_request_duration_seconds", "larboard_route_duration_seconds",
		"larboard_source_duration_seconds", "larboard_endpoint_duration_seconds",
	} {
		found := regexp.MustCompile(name+`_bucket\{[^}]*le="([^"]+)"\} \d+ # \{(.*)\} (\S+) (\S+)`).FindAllStringSubmatch(text, -1)
		got := fmt.Sprint(found)
		want := map[string]string{"0.005": "3", "+Inf": "4"}
		if name == "larboard_endpoint_duration_seconds" {
			want = map[string]string{"0.0025": "3"} // the attempts were equally long
		}
		if len(found) != len(want) {
			t.Errorf("%s: %s", name, got)
			continue
		}
		for _, f := range found {
			if trace := fmt.Sprintf(`trace_id="%032s"`, want[f[1]]); !strings.Contains(f[2], trace) || !strings.Contains(f[2], "span_id=") {
				t.Errorf("%s, bucket %s: %s, want %s", name, f[1], f[2], trace)
			}
		}
	}
	if strings.Contains(plain(t, m), "# {") {
		t.Error("the text format has no exemplars")
	}
}

func plain(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

func TestExemplarsAllocateNothing(t *testing.T) {
	m := New(1)
	r := sampled(1)
	m.Observe(r)
	if n := testing.AllocsPerRun(1000, func() {
		r.Start = r.Start.Add(2 * exemplarFor)
		m.Observe(r)
	}); n != 0 {
		t.Fatalf("%v allocations an exchange", n)
	}
}

// What is read is one exemplar or none, never parts of two.
func TestExemplarsAreWhole(t *testing.T) {
	var e exemplars
	var writer sync.WaitGroup
	done := make(chan struct{})
	writer.Go(func() {
		defer close(done)
		for n := range 50000 {
			b := byte(n)
			start := time.Unix(int64(n)*10, 0)
			e.keep([16]byte{0: b, 15: b}, [8]byte{0: b, 7: b}, start, 0, 0)
		}
	})
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		var got [coarseBuckets]metricdata.Exemplar[float64]
		e.collect(&got)
		if x := got[0]; x.TraceID != nil {
			b := byte(x.Time.Unix() / 10)
			for _, is := range []byte{x.TraceID[0], x.TraceID[15], x.SpanID[0], x.SpanID[7]} {
				if is != b {
					t.Fatalf("torn: %x %x at %v", x.TraceID, x.SpanID, x.Time)
				}
			}
		}
	}
	writer.Wait()
}
