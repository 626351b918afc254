package metrics

import (
	"fmt"
	"net/http/httptest"
	"runtime"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// request returns the record of a plain exchange.
func request() *observability.Record {
	return &observability.Record{
		Listener: "web", Route: "r", Service: "api", Endpoint: "10.0.0.1:80", Protocol: "http",
		Total: 3 * time.Millisecond, Status: 200, BytesIn: 10, BytesOut: 100, Start: time.Unix(1700000000, 0),
		Tries: []observability.Try{{Endpoint: "10.0.0.1:80", Total: 2 * time.Millisecond}},
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := New(1)
	r := request()
	r.GRPC = policy.GRPCOK
	m.Observe(r)
	m.Conn(0, "web", 1)
	m.UpstreamConn(0, "api", policy.None)
	if n := testing.AllocsPerRun(1000, func() {
		m.Observe(r)
		m.Conn(0, "web", 1)
		m.Conn(0, "web", -1)
		m.UpstreamConn(0, "api", policy.None)
	}); n != 0 {
		t.Fatalf("%v allocations an exchange", n)
	}
}

func TestOverflowAllocatesNothing(t *testing.T) {
	m := NewWithin(1, 1)
	m.Observe(request())
	r := request()
	r.Service, r.Endpoint = "stranger", "10.0.0.9:80"
	m.Observe(r)
	if n := testing.AllocsPerRun(1000, func() { m.Observe(r) }); n != 0 {
		t.Fatalf("%v allocations an exchange", n)
	}
}

func BenchmarkObserve(b *testing.B) {
	m := New(1)
	r := request()
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(r)
	}
}

func BenchmarkObserveManyServices(b *testing.B) {
	m := New(1)
	var rs [16]*observability.Record
	for i := range rs {
		rs[i] = request()
		rs[i].Service = "api" + string(rune('a'+i))
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(rs[i%len(rs)])
		i++
	}
}

// An inbound exchange has a source, and each counts at its attempts' endpoints.
func BenchmarkObserveInbound(b *testing.B) {
	m := New(1)
	r := request()
	r.Inbound, r.PeerID = true, "spiffe://example.org/ns/shop/sa/web"
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(r)
	}
}

// As many callers as no cache holds, most of which have no room.
func BenchmarkObserveManySources(b *testing.B) {
	m := New(1)
	var rs [10000]*observability.Record
	for i := range rs {
		rs[i] = request()
		rs[i].Inbound, rs[i].PeerID = true, fmt.Sprintf("spiffe://example.org/ns/shop/sa/web-%d", i)
		m.Observe(rs[i])
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(rs[i%len(rs)])
		i++
	}
}

// full is a Metrics whose tables are all at the limit.
func full() *Metrics {
	m := New(2)
	for i := range 2 * SeriesLimit {
		r := request()
		name := fmt.Sprintf("name-%d", i)
		r.Listener, r.Route, r.Service, r.Endpoint, r.Tries[0].Endpoint = name, name, name, name, name
		r.Inbound, r.PeerID = true, "spiffe://example.org/ns/shop/sa/"+name
		for r.Loop = range 2 {
			m.Observe(r)
			m.Conn(r.Loop, name, 1)
			m.UpstreamConn(r.Loop, name, policy.None)
		}
	}
	return m
}

// A scrape of tables at their limit, and how large it is.
func BenchmarkScrapeFull(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m := full()
	runtime.GC()
	runtime.ReadMemStats(&after)
	r := httptest.NewRequest("GET", "/metrics", nil)
	size := 0
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		m.Handler().ServeHTTP(w, r)
		size = w.Body.Len()
	}
	b.ReportMetric(float64(size), "bytes/scrape")
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/2, "bytes/loop")
}

// What a sweep takes of tables at their limit.
func BenchmarkSweepFull(b *testing.B) {
	m, live := full(), everything()
	for i := range 2 * SeriesLimit {
		name := fmt.Sprintf("name-%d", i)
		live.Listeners[name], live.Services[name] = true, true
		live.Routes[[2]string{name, name}], live.Endpoints[[2]string{name, name}] = true, true
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Sweep(live, func(int, func()) {})
	}
}
