package accesslog

import (
	"io"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/tracecontext"
	"github.com/larboard-proxy/larboard/policy"
)

// well is a record of an exchange that ran to its end.
func well() *observability.Record {
	r := full()
	r.Reason, r.Side, r.Err, r.Status, r.GRPC, r.Total, r.Path = policy.None, 0, nil, 200, policy.GRPCNone, 20*time.Millisecond, []byte("/v1/x?a=b")
	return r
}

func TestConditions(t *testing.T) {
	silent := &observability.Record{Protocol: "tcp", Listener: "redis", BytesOut: 7}
	for _, tc := range []struct {
		name   string
		when   Conditions
		record *observability.Record
		want   bool
	}{
		{"none", Conditions{}, well(), true},
		{"status in range", Conditions{Status: []StatusRange{{500, 599}}}, full(), true},
		{"status out of range", Conditions{Status: []StatusRange{{500, 599}, {404, 404}}}, well(), false},
		{"failed", Conditions{Failed: true}, full(), true},
		{"not failed", Conditions{Failed: true}, well(), false},
		{"slow", Conditions{SlowerThan: time.Second}, full(), true},
		{"fast", Conditions{SlowerThan: time.Second}, well(), false},
		{"a reason of those", Conditions{Reasons: []policy.Reason{policy.UpstreamClosed}}, full(), true},
		{"another reason", Conditions{Reasons: []policy.Reason{policy.UpstreamReset}}, full(), false},
		{"any will do", Conditions{Failed: true, SlowerThan: time.Millisecond}, well(), true},
		{"direction", Conditions{Direction: "inbound"}, well(), true},
		{"other direction", Conditions{Direction: "outbound"}, well(), false},
		{"listener", Conditions{Listeners: []string{"x", "web"}}, well(), true},
		{"other listener", Conditions{Listeners: []string{"x"}}, well(), false},
		{"service", Conditions{Services: []string{"api"}}, well(), true},
		{"other service", Conditions{Services: []string{"x"}}, well(), false},
		{"all must hold", Conditions{Failed: true, Services: []string{"x"}}, full(), false},
		{"path", Conditions{SkipPaths: []string{"/v1/x"}}, well(), false},
		{"path below", Conditions{SkipPaths: []string{"/v1/*"}}, well(), false},
		{"path begins alike", Conditions{SkipPaths: []string{"/v1"}}, well(), true},
		{"path with its query", Conditions{SkipPaths: []string{"/v1/x?a=b"}}, well(), true},
		{"agent", Conditions{SkipAgents: []string{"curl/*"}}, well(), false},
		{"other agent", Conditions{SkipAgents: []string{"kube-probe/*"}}, well(), true},
		{"nothing came", Conditions{SkipEmpty: true}, silent, false},
		{"something came", Conditions{SkipEmpty: true}, well(), true},
		{"no path", Conditions{SkipPaths: []string{"*"}, SkipAgents: []string{"*"}}, silent, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := tc.when.hold(tc.record, new(rand.PCG)); got != tc.want {
				t.Error(got)
			}
		})
	}
}

func TestSamples(t *testing.T) {
	const n = 100_000
	share := func(s Sample, change func(*observability.Record, *rand.PCG)) float64 {
		c, random, ids, held := Conditions{Sample: s}, rand.NewPCG(1, 2), rand.NewPCG(3, 4), 0
		for range n {
			r := well()
			change(r, ids)
			if c.hold(r, random) {
				held++
			}
		}
		return float64(held) / n
	}
	untraced := func(r *observability.Record, _ *rand.PCG) { r.Trace = observability.SpanContext{} }
	traced := func(r *observability.Record, ids *rand.PCG) {
		for i := range r.Trace.TraceID {
			r.Trace.TraceID[i] = byte(ids.Uint64())
		}
	}
	failing := func(r *observability.Record, _ *rand.PCG) { r.Status = 500 }
	for _, tc := range []struct {
		name   string
		sample Sample
		change func(*observability.Record, *rand.PCG)
		want   float64
	}{
		{"all", Sample{}, untraced, 1},
		{"whole", Sample{Rate: 1}, untraced, 1},
		{"a tenth", Sample{Rate: 0.1}, untraced, 0.1},
		{"a tenth of traces", Sample{Rate: 0.1}, traced, 0.1},
		{"a third, drawn", Sample{Rate: 1. / 3, Random: true}, traced, 1. / 3},
		{"failures always", Sample{Rate: 0.01, Failures: true}, failing, 1},
		{"failures, too", Sample{Rate: 0.1, Random: true}, failing, 0.1},
	} {
		if got := share(tc.sample, tc.change); got < tc.want*0.95 || got > tc.want*1.05 {
			t.Errorf("%s: %v of them", tc.name, got)
		}
	}
	// Traces that are recorded are those that are logged, at one rate.
	same, ids := Sample{Rate: 0.3}, rand.NewPCG(5, 6)
	for range 1000 {
		r := well()
		traced(r, ids)
		if same.draws(r, rand.NewPCG(1, 2)) != tracecontext.NewRatio(0.3).Chooses(r.Trace.TraceID) {
			t.Fatalf("%x is recorded and not logged, or the other way round", r.Trace.TraceID)
		}
	}
	// One trace is drawn everywhere or nowhere.
	s, r := Sample{Rate: 0.5}, well()
	first := s.draws(r, rand.NewPCG(1, 2))
	for seed := range uint64(100) {
		if s.draws(r, rand.NewPCG(seed, 2)) != first {
			t.Fatal("a trace is drawn by chance")
		}
	}
}

func TestSkippedLinesAreCountedAndAllocateNothing(t *testing.T) {
	l := open(t, Options{Writer: io.Discard, When: &Conditions{Failed: true, Listeners: []string{"web"}, SkipPaths: []string{"/healthz", "/v1/*"},
		SkipAgents: []string{"x*"}, SkipEmpty: true, Sample: Sample{Rate: 0.5}}})
	good, bad := well(), full()
	bad.Path = []byte("/other")
	l.Observe(good)
	bad.Trace = observability.SpanContext{}
	for range 100 {
		l.Observe(bad)
	}
	l.flush()
	if c := l.Counts(); c.Skipped+c.Written != 101 || c.Skipped < 20 || c.Written < 20 {
		t.Errorf("%+v", c)
	}
	if n := testing.AllocsPerRun(1000, func() { l.Observe(good); l.Observe(bad); l.flush() }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
