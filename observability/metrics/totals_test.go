package metrics

import (
	"math"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

func TestBucketsHoldTheirDurations(t *testing.T) {
	check := func(d time.Duration) {
		b := bucketOf(d)
		if b < len(fineBounds) && int64(d) > fineBounds[b] || b > 0 && int64(d) <= fineBounds[b-1] {
			t.Errorf("%v in bucket %d", d, b)
		}
	}
	for i, b := range fineBounds {
		if i > 0 && b <= fineBounds[i-1] {
			t.Fatalf("bound %d is not above the one before", i)
		}
		for _, near := range []int64{b - 1, b, b + 1} {
			check(time.Duration(near))
		}
	}
	for shift := range 63 {
		for _, near := range []int64{-1, 0, 1} {
			check(time.Duration(int64(1)<<shift + near))
		}
	}
	check(0)
	check(math.MaxInt64)
	if bucketOf(-time.Second) != 0 {
		t.Error("a negative duration")
	}
}

func TestFoldKeepsBounds(t *testing.T) {
	for i, bound := range exportBounds {
		for _, tc := range []struct {
			d    time.Duration
			want int
		}{{time.Duration(bound * 1e9), i}, {time.Duration(bound*1e9) + 1, i + 1}} {
			var fine [fineBuckets]uint64
			fine[bucketOf(tc.d)]++
			if got := fold(&fine); got[tc.want] != 1 {
				t.Errorf("%v: %v", tc.d, got)
			}
		}
	}
}

func TestQuantiles(t *testing.T) {
	m := New(1)
	r := request()
	for i := 1; i <= 10000; i++ { // evenly from 1 µs to 10 ms
		r.Total = time.Duration(i) * time.Microsecond
		m.Observe(r)
	}
	got := m.Totals("api")
	for _, tc := range []struct {
		name      string
		got, want time.Duration
	}{{"p50", got.P50, 5 * time.Millisecond}, {"p99", got.P99, 9900 * time.Microsecond}, {"p10", got.Quantile(0.1), time.Millisecond}} {
		if diff := (tc.got - tc.want).Abs(); diff > tc.want/10 {
			t.Errorf("%s: %v, want about %v", tc.name, tc.got, tc.want)
		}
	}
	if q := m.Totals("nobody").P99; q != 0 {
		t.Errorf("of nothing: %v", q)
	}
	r.Service, r.Total = "slow", time.Hour
	m.Observe(r)
	if q := m.Totals("slow").P50; q != 10*time.Second {
		t.Errorf("above the last bound: %v", q)
	}
}

func TestTotals(t *testing.T) {
	m := New(2)
	r := request()
	m.Observe(r)
	before := m.Totals("api")
	r.Loop, r.Inbound, r.Status, r.Total = 1, true, 502, 80*time.Millisecond
	m.Observe(r)
	r.Service = "web"
	m.Observe(r)
	got := m.Totals("api")
	if got.Requests != 2 || got.Failures != 1 || got.BytesIn != 20 || got.BytesOut != 200 {
		t.Errorf("%+v", got)
	}
	since := got.Since(before)
	if since.Requests != 1 || since.Failures != 1 || since.BytesIn != 10 || since.P50 < 70*time.Millisecond || since.P50 > 90*time.Millisecond {
		t.Errorf("since: %d requests, %d failures, p50 %v", since.Requests, since.Failures, since.P50)
	}
	all := m.AllTotals()
	if len(all) != 2 || all[0].Service != "api" || all[1].Service != "web" || all[0].Requests != 2 {
		t.Errorf("%d services", len(all))
	}
}

func TestFailed(t *testing.T) {
	for _, tc := range []struct {
		name string
		r    observability.Record
		want bool
	}{
		{"plain", observability.Record{Status: 200}, false},
		{"not found", observability.Record{Status: 404}, false},
		{"server error passed on", observability.Record{Status: 500}, true},
		{"endpoint reset", observability.Record{Status: 502, Reason: policy.UpstreamReset, Side: policy.Upstream}, true},
		{"truncated after 200", observability.Record{Status: 200, Reason: policy.UpstreamTruncated, Side: policy.Upstream}, true},
		{"client went away", observability.Record{Reason: policy.ClientAborted, Side: policy.Downstream}, false},
		{"not allowed", observability.Record{Status: 403, Reason: policy.NotAllowed, Side: policy.Downstream}, false},
		{"internal", observability.Record{Reason: policy.Internal}, true},
		{"call that went well", observability.Record{Status: 200, GRPC: policy.GRPCOK}, false},
		{"call that the server failed", observability.Record{Status: 200, GRPC: policy.GRPCInternal}, true},
		{"call of something that is not there", observability.Record{Status: 200, GRPC: policy.GRPCNotFound}, false},
		{"call to no route", observability.Record{Status: 200, GRPC: policy.GRPCUnimplemented, Reason: policy.NoRoute, Side: policy.Downstream}, false},
		{"call that could not be made", observability.Record{Status: 200, GRPC: policy.GRPCUnavailable, Reason: policy.ConnectFailed, Side: policy.Upstream}, true},
	} {
		if got := Failed(&tc.r); got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}
