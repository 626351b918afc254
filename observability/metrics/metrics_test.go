package metrics

import (
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// request returns the record of a plain exchange.
func request() *observability.Record {
	return &observability.Record{
		Listener: "web", Route: "r", Service: "api", Endpoint: "10.0.0.1:80", Protocol: "http",
		Total: 3 * time.Millisecond, Status: 200, BytesIn: 10, BytesOut: 100,
	}
}

func TestObserveAllocatesNothing(t *testing.T) {
	m := New(1)
	r := request()
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
	m := newMetrics(1, 1)
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
