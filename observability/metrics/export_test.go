package metrics

import (
	"fmt"
	"maps"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
)

// scrape reads m as Prometheus does and returns its own families by name.
func scrape(t *testing.T, m *Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(families, func(name string, _ *dto.MetricFamily) bool { return !strings.HasPrefix(name, "larboard_") })
	return families
}

// series returns the values of a family by their labels, which are sorted by name.
func series(f *dto.MetricFamily) map[string]float64 {
	values := make(map[string]float64)
	for _, metric := range f.GetMetric() {
		var labels []string
		for _, l := range metric.GetLabel() {
			labels = append(labels, l.GetName()+"="+l.GetValue())
		}
		slices.Sort(labels)
		value := metric.GetCounter().GetValue() + metric.GetGauge().GetValue()
		if h := metric.GetHistogram(); h != nil {
			value = float64(h.GetSampleCount())
		}
		values[strings.Join(labels, " ")] = value
	}
	return values
}

// exercise makes every metric appear.
func exercise(m *Metrics) {
	for loop := range m.shards {
		m.Observe(request())
		r := request()
		r.Loop, r.Inbound, r.Status = loop, true, 503
		r.Reason, r.Side, r.Endpoint, r.Total = policy.NoEndpoints, policy.Upstream, "", 20*time.Second
		m.Observe(r)
		r = request()
		r.Loop, r.Listener, r.Service, r.Endpoint, r.Tries, r.GRPC = loop, "calls", "stock", "", nil, policy.GRPCUnavailable
		m.Observe(r)
		m.Conn(loop, "web", 1)
		m.Conn(loop, "web", 1)
		m.Conn(loop, "web", -1)
		m.Refused(loop, "web", policy.TLSExpired)
		m.Cut(loop, "web", policy.NotAllowed)
		m.HTTP2Abuse(loop, "web", policy.HTTP2RapidReset)
		m.UpstreamAbuse(loop, "api", policy.UpstreamResetStorm)
		m.Retry(loop, "api", retry.Reset, retry.Made)
		m.Retry(loop, "api", retry.Status, retry.OverBudget)
		m.UpstreamConn(loop, "api", policy.None)
		m.UpstreamConn(loop, "api", policy.ConnectFailed)
		m.Limited(loop, "web", "per-client")
		m.Quota(loop, "over_limit")
	}
	m.Reloaded(true)
	m.Reloaded(false)
	for _, i := range Instruments() {
		if i >= EndpointUp && i < Series {
			m.Register(i, func(emit Emit) { emit(1.5, slices.Repeat([]string{"x"}, len(i.Info().Labels))...) })
		}
	}
}

func TestScrape(t *testing.T) {
	m := New(2)
	exercise(m)
	families := scrape(t, m)
	for _, tc := range []struct {
		name string
		want map[string]float64
	}{
		{"larboard_requests_total", map[string]float64{
			"code_class=2xx direction=outbound listener=web reason=none service=api":        2,
			"code_class=2xx direction=outbound listener=calls reason=none service=stock":    2,
			"code_class=5xx direction=inbound listener=web reason=no_endpoints service=api": 2}},
		{"larboard_request_duration_seconds", map[string]float64{"direction=outbound service=api": 2, "direction=inbound service=api": 2, "direction=outbound service=stock": 2}},
		{"larboard_grpc_requests_total", map[string]float64{"grpc_status=UNAVAILABLE listener=calls service=stock": 2}},
		{"larboard_bytes_total", map[string]float64{"direction=in service=api": 40, "direction=out service=api": 400,
			"direction=in service=stock": 20, "direction=out service=stock": 200}},
		{"larboard_connections_total", map[string]float64{"listener=web": 4}},
		{"larboard_connections_active", map[string]float64{"listener=web": 2}},
		{"larboard_refused_total", map[string]float64{"listener=web reason=tls_expired": 2}},
		{"larboard_connections_cut_total", map[string]float64{"listener=web reason=not_allowed": 2}},
		{"larboard_upstream_http2_abuse_total", map[string]float64{"reason=upstream_reset_storm service=api": 2}},
		{"larboard_retries_total", map[string]float64{"cause=reset result=made service=api": 2, "cause=status result=budget service=api": 2}},
		{"larboard_http2_abuse_total", map[string]float64{"listener=web reason=http2_rapid_reset": 2}},
		{"larboard_limited_total", map[string]float64{"limit=per-client listener=web": 2}},
		{"larboard_quota_requests_total", map[string]float64{"result=over_limit": 2}},
		{"larboard_upstream_connections_total", map[string]float64{
			"outcome=established service=api": 2, "outcome=connect_failed service=api": 2}},
		{"larboard_endpoint_requests_total", map[string]float64{
			"endpoint=10.0.0.1:80 outcome=ok service=api": 2, "endpoint=10.0.0.1:80 outcome=failed service=api": 0}},
		{"larboard_config_reloads_total", map[string]float64{"result=applied": 1, "result=refused": 1}},
		{"larboard_endpoint_up", map[string]float64{"endpoint=x service=x": 1.5}},
		{"larboard_access_log_dropped_total", map[string]float64{"": 1.5}},
		{"larboard_engine_loop_lag_seconds", map[string]float64{"loop=x": 1.5}},
	} {
		if got := series(families[tc.name]); !maps.Equal(got, tc.want) {
			t.Errorf("%s:\ngot  %v\nwant %v", tc.name, got, tc.want)
		}
	}
}

func TestHistogramBuckets(t *testing.T) {
	m := New(1)
	exercise(m)
	for _, metric := range scrape(t, m)["larboard_request_duration_seconds"].GetMetric() {
		h, inbound := metric.GetHistogram(), metric.GetLabel()[0].GetValue() == "inbound"
		value := 0.003
		if inbound {
			value = 20
		}
		if h.GetSampleSum() != value {
			t.Errorf("sum %v, want %v", h.GetSampleSum(), value)
		}
		for _, b := range h.GetBucket() {
			want := uint64(0)
			if b.GetUpperBound() >= value {
				want = 1
			}
			if b.GetCumulativeCount() != want {
				t.Errorf("inbound %v: le %v: %d", inbound, b.GetUpperBound(), b.GetCumulativeCount())
			}
		}
	}
}

// Every instrument appears under the name, kind and labels of the table, and
// Prometheus' own linter has nothing to say.
func TestNamesAreThoseOfTheTable(t *testing.T) {
	m := New(1)
	exercise(m)
	families := scrape(t, m)
	var list []*dto.MetricFamily
	for _, i := range Instruments() {
		info := i.Info()
		f := families[info.Name]
		if f == nil {
			t.Errorf("%s is not shown", info.Name)
			continue
		}
		list = append(list, f)
		delete(families, info.Name)
		if kind := strings.ToLower(f.GetType().String()); kind != info.Kind.String() {
			t.Errorf("%s is a %s, want %s", info.Name, kind, info.Kind)
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		want := slices.Clone(info.Labels)
		slices.Sort(want)
		slices.Sort(labels)
		if !slices.Equal(labels, want) {
			t.Errorf("%s has labels %v, want %v", info.Name, labels, want)
		}
		if f.GetHelp() != info.Help {
			t.Errorf("%s: help %q", info.Name, f.GetHelp())
		}
	}
	for name := range families {
		t.Errorf("%s is not in the table", name)
	}
	problems, err := promlint.NewWithMetricFamilies(list).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestSeriesLimit(t *testing.T) {
	const limit, services = 2 * histogramWeight, 100
	m := NewWithin(2, limit)
	for loop := range 2 {
		for i := range services {
			r := request()
			r.Loop, r.Service, r.Endpoint, r.GRPC = loop, fmt.Sprintf("s%d", (i+loop*50)%services), fmt.Sprint(i), policy.GRPCOK
			r.Route, r.Inbound, r.PeerID, r.Tries[0].Endpoint = r.Service, true, "spiffe://example.org/"+r.Service, r.Endpoint
			m.Observe(r)
			m.Conn(loop, r.Service, 1)
			m.Refused(loop, r.Service, policy.TLSExpired)
			m.Cut(loop, r.Service, policy.NotAllowed)
			m.HTTP2Abuse(loop, r.Service, policy.HTTP2RapidReset)
			m.UpstreamAbuse(loop, r.Service, policy.UpstreamResetStorm)
			m.UpstreamConn(loop, r.Service, policy.None)
			m.Limited(loop, r.Service, "x")
			m.Quota(loop, r.Service)
		}
	}
	families := scrape(t, m)
	sizes, overflow := series(families["larboard_series"]), series(families["larboard_series_overflow_total"])
	for _, i := range []Instrument{
		Requests, RequestDuration, RouteRequests, RouteDuration, SourceRequests, SourceDuration, Bytes, Connections, Refused, Cut,
		HTTP2Abuse, UpstreamAbuse, UpstreamConnections, EndpointRequests, EndpointDuration, GRPCRequests, Limited, QuotaRequests,
	} {
		name, others := i.Info().Name, 1 // label sets under Other
		if i == Bytes || i == EndpointRequests {
			others = 2
		}
		got := series(families[name])
		weight := 1
		if i.Info().Kind == Histogram {
			weight = histogramWeight
		}
		if n := len(got) - others; n*weight != limit {
			t.Errorf("%s has %d series beside %d of others, want %d", name, n*weight, others, limit)
		}
		if sizes["metric="+name] != float64(len(got)*weight) {
			t.Errorf("larboard_series of %s is %v", name, sizes["metric="+name])
		}
		if overflow["metric="+name] == 0 {
			t.Errorf("%s has no overflow", name)
		}
		sum, hasOther := 0.0, false
		for labels, v := range got {
			sum += v
			hasOther = hasOther || strings.Contains(labels, "="+Other)
		}
		if name != "larboard_bytes_total" && sum != 2*services || !hasOther {
			t.Errorf("%s: sum %v, other %v", name, sum, hasOther)
		}
	}
}

func TestForgottenEndpointsMakeRoom(t *testing.T) {
	m := NewWithin(2, 2*histogramWeight)
	for i := range 100 {
		for loop := range 2 {
			r := request()
			r.Loop, r.Endpoint, r.Tries[0].Endpoint = loop, fmt.Sprint(i), fmt.Sprint(i)
			m.Observe(r)
			if i > 0 {
				m.ForgetEndpoint(loop, "api", fmt.Sprint(i-1))
				m.ForgetEndpoint(loop, "api", "never seen")
			}
		}
	}
	late := request() // under way when its endpoint left
	late.Endpoint, late.Tries[0].Endpoint, late.EndpointLeft = "98", "98", true
	m.Observe(late)
	got := m.EndpointTotals("api")
	if len(got) != 1 || got[0] != (EndpointTotals{"99", 2, 0}) {
		t.Errorf("%+v", got)
	}
	if users := m.admissions.endpoints.users; len(users) != 1 {
		t.Errorf("admitted: %v", users)
	}
	if users := m.admissions.endpointTimes.users; len(users) != 1 {
		t.Errorf("admitted to the histogram: %v", users)
	}
}

func TestLabelsAreCleanAndUnique(t *testing.T) {
	m := New(1)
	for _, service := range []string{"a\xff", "a\xfe", "a\ufffd", "a\x00", "a\n", "a\u009b", strings.Repeat("ä", 1000), strings.Repeat("ä", 1001), "q\"\n\\"} {
		r := request()
		r.Service = service
		m.Observe(r)
	}
	m.Register(EndpointUp, func(emit Emit) {
		emit(1, "s", "e\xff")
		emit(0, "s", "e\xfe")
	})
	families := scrape(t, m)
	if got := series(families["larboard_requests_total"]); len(got) != 3 {
		t.Errorf("%d series: %v", len(got), got)
	}
	if got := series(families["larboard_endpoint_up"]); len(got) != 1 {
		t.Errorf("%d series: %v", len(got), got)
	}
}

func TestCallbacksAreBounded(t *testing.T) {
	m := New(1)
	for _, i := range []Instrument{EndpointUp, EnginePanics} {
		m.Register(i, func(emit Emit) {
			for n := range 3 * SeriesLimit {
				emit(1, slices.Repeat([]string{fmt.Sprint(n)}, len(i.Info().Labels))...)
			}
		})
	}
	families := scrape(t, m)
	if got := len(series(families["larboard_endpoint_up"])); got != SeriesLimit {
		t.Errorf("gauge: %d series", got)
	}
	panics := series(families["larboard_engine_panics_total"])
	if len(panics) != SeriesLimit+1 || panics["loop=other"] != 2*SeriesLimit {
		t.Errorf("counter: %d series, other %v", len(panics), panics["loop=other"])
	}
}

// Scrapes, totals and sweeps run beside two loops that count, meet new labels and forget
// old ones.
func TestConcurrentScrapes(t *testing.T) {
	const each = 20000
	m := New(2)
	m.Register(DiscoveryAge, func(emit Emit) { emit(1, "api") })
	var loops, readers sync.WaitGroup
	var posted [2]chan func()
	for loop := range 2 {
		posted[loop] = make(chan func(), 1)
		loops.Go(func() {
			r := sampled(1)
			r.Loop = loop
			for i := range each {
				if i%100 == 0 {
					m.ForgetEndpoint(loop, "api", r.Endpoint)
					r.Endpoint, r.Tries[0].Endpoint, r.PeerID = fmt.Sprint(i), fmt.Sprint(i), "spiffe://example.org/"+fmt.Sprint(i)
				}
				r.Start = r.Start.Add(time.Millisecond)
				select {
				case f := <-posted[loop]:
					f()
				default:
				}
				m.Observe(r)
				m.Conn(loop, "web", 1)
				m.Conn(loop, "web", -1)
			}
		})
	}
	done := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			last := uint64(0)
			for {
				select {
				case <-done:
					return
				default:
				}
				scrape(t, m)
				m.Sweep(everything(), func(loop int, f func()) {
					select {
					case posted[loop] <- f:
					default: // the loop has ended, or has one to do
					}
				})
				n := m.Totals("api").Requests
				if n < last {
					t.Errorf("the count went from %d to %d", last, n)
				}
				last = n
				m.EndpointTotals("api")
			}
		})
	}
	loops.Wait()
	close(done)
	readers.Wait()
	if got := m.Totals("api").Requests; got != 2*each {
		t.Errorf("%d counted, want %d", got, 2*each)
	}
	if got := series(scrape(t, m)["larboard_connections_active"])["listener=web"]; got != 0 {
		t.Errorf("%v active", got)
	}
}

func TestProgrammersErrorsPanic(t *testing.T) {
	for name, f := range map[string]func(*Metrics){
		"histogram callback": func(m *Metrics) { m.Register(RequestDuration, func(Emit) {}) },
		"label values": func(m *Metrics) {
			m.Register(EndpointUp, func(emit Emit) { emit(1, "only one") })
			m.collect(EndpointUp)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f(New(1))
		})
	}
}
