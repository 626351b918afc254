package metrics

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

// all is live that exercise and request name.
func everything() *Live {
	return &Live{
		Listeners: map[string]bool{"web": true, "calls": true},
		Services:  map[string]bool{"api": true, "stock": true},
		Routes:    map[[2]string]bool{{"web", "r"}: true, {"calls", "r"}: true},
		Endpoints: map[[2]string]bool{{"api", "10.0.0.1:80"}: true},
	}
}

// sweep runs what is posted at once: the loops of these tests are the test itself.
func sweep(m *Metrics, live *Live, times int) {
	for range times {
		m.Sweep(live, func(_ int, f func()) { f() })
	}
}

// shown are all series of m but those of the metrics about metrics.
func shown(t *testing.T, m *Metrics) map[string]float64 {
	all := map[string]float64{}
	for name, f := range scrape(t, m) {
		if !strings.HasPrefix(name, "larboard_series") {
			for labels, v := range series(f) {
				all[name+" "+labels] = v
			}
		}
	}
	return all
}

func TestWhatIsLiveStays(t *testing.T) {
	m := New(2)
	exercise(m)
	before := shown(t, m)
	sweep(m, everything(), sourceSweeps)
	if after := shown(t, m); !maps.Equal(before, after) {
		t.Errorf("got  %v\nwant %v", after, before)
	}
}

func TestWhatIsGoneGoes(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Live)
		gone   func(labels string) bool
	}{
		"listener": {func(l *Live) { delete(l.Listeners, "calls"); delete(l.Routes, [2]string{"calls", "r"}) },
			func(labels string) bool { return strings.Contains(labels, "listener=calls") }},
		"route": {func(l *Live) { delete(l.Routes, [2]string{"web", "r"}) },
			func(labels string) bool { return strings.Contains(labels, "listener=web route=r") }},
		"service": {func(l *Live) { delete(l.Services, "api"); clear(l.Endpoints) },
			func(labels string) bool { return strings.Contains(labels, "service=api") }},
		"endpoint": {func(l *Live) { clear(l.Endpoints) },
			func(labels string) bool { return strings.Contains(labels, "endpoint=10.0.0.1:80") }},
	} {
		t.Run(name, func(t *testing.T) {
			m := New(2)
			exercise(m)
			m.Conn(0, "calls", 1)
			m.Conn(1, "calls", 1)
			m.Conn(1, "calls", -1)
			want := shown(t, m)
			live := everything()
			tc.change(live)
			maps.DeleteFunc(want, func(labels string, _ float64) bool {
				return tc.gone(labels) && !strings.HasPrefix(labels, "larboard_connections_")
			})
			sweep(m, live, 1)
			if got := shown(t, m); !maps.Equal(got, want) {
				t.Errorf("got  %v\nwant %v", got, want)
			}
			m.Conn(0, "calls", -1)
			sweep(m, live, 1)
			if got := shown(t, m)["larboard_connections_active listener=calls"]; got != 0 {
				t.Errorf("%v connections of a listener that has none", got)
			}
			// What is counted later begins anew, in memory that nothing else writes to.
			m.Observe(request())
			if got, want := m.Totals("api").Requests, want["larboard_request_duration_seconds direction=outbound service=api"]+
				want["larboard_request_duration_seconds direction=inbound service=api"]+1; float64(got) != want {
				t.Errorf("%d requests of the service, want %v", got, want)
			}
		})
	}
}

// A source that one loop still sees keeps its series on all, or its counters would fall.
func TestSourcesUnseenForLongGo(t *testing.T) {
	m := New(2)
	r := request()
	r.Inbound, r.PeerID = true, "spiffe://example.org/web"
	both := func(id string, status int) {
		r.PeerID, r.Status = id, status
		for r.Loop = range 2 {
			m.Observe(r)
		}
	}
	both("spiffe://example.org/web", 200)
	both("spiffe://example.org/web", 500)
	both("spiffe://example.org/batch", 200)
	sources := func() []string {
		f := scrape(t, m)
		got := slices.Sorted(maps.Keys(series(f["larboard_source_requests_total"])))
		times := len(series(f["larboard_source_duration_seconds"]))
		return append(got, fmt.Sprint(times, " histograms"))
	}
	sweep(m, everything(), sourceSweeps)
	r.Loop, r.PeerID, r.Status = 1, "spiffe://example.org/web", 200
	m.Observe(r)
	sweep(m, everything(), 1)
	if got := sources(); len(got) != 3 || got[2] != "1 histograms" || !strings.Contains(got[1], "code_class=5xx") {
		t.Errorf("left: %q", got)
	}
	sweep(m, everything(), sourceSweeps)
	if got := sources(); len(got) != 1 {
		t.Errorf("left: %q", got)
	}
	if n := len(m.admissions.sources.users) + len(m.admissions.sourceTimes.users); n != 0 {
		t.Errorf("%d keys are still admitted", n)
	}
}

// What found no room gets it once there is some, though its counters are at hand.
func TestRoomIsUsedAfterASweep(t *testing.T) {
	m := NewWithin(1, 1)
	r := request()
	r.Inbound = true
	for _, id := range []string{"spiffe://example.org/first", "spiffe://example.org/second"} {
		r.PeerID = id
		m.Observe(r)
	}
	count := func() map[string]float64 { return series(scrape(t, m)["larboard_source_requests_total"]) }
	if got := count(); got["code_class=2xx service=other source=other"] != 1 {
		t.Errorf("%v", got)
	}
	for range sourceSweeps + 1 {
		r.PeerID = "spiffe://example.org/second"
		m.Observe(r)
		sweep(m, everything(), 1)
	}
	m.Observe(r)
	if got := count(); got["code_class=2xx service=api source=spiffe://example.org/second"] != 1 {
		t.Errorf("%v", got)
	}
}

// 10,000 sources on two loops: what is shown stays under the limit, what is held is
// bounded, the sum is right, and those who are refused cost no allocation.
func TestManySources(t *testing.T) {
	const sources = 10000
	m := New(2)
	r := request()
	r.Inbound, r.Reason = true, policy.None
	ids := make([]string, sources)
	for i := range ids {
		ids[i] = fmt.Sprintf("spiffe://example.org/ns/shop/sa/workload-%d", i)
	}
	all := func() {
		for _, r.PeerID = range ids {
			for r.Loop = range 2 {
				m.Observe(r)
			}
		}
	}
	all()
	if n := testing.AllocsPerRun(1, all); n != 0 {
		t.Errorf("%v allocations for %d exchanges", n, 2*sources)
	}
	families := scrape(t, m)
	got := series(families["larboard_source_requests_total"])
	sum := 0.0
	for _, v := range got {
		sum += v
	}
	if len(got) != SeriesLimit+1 || sum != 3*2*sources {
		t.Errorf("%d series, sum %v", len(got), sum)
	}
	if n := len(series(families["larboard_source_duration_seconds"])); n != SeriesLimit/histogramWeight+1 {
		t.Errorf("%d histograms", n)
	}
	for _, s := range m.shards {
		if n := len(s.sources.byKey) + len(s.sourceTimes.byKey); n > SeriesLimit+SeriesLimit/histogramWeight+2 {
			t.Errorf("a loop holds %d", n)
		}
	}
}
