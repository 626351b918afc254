package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// How many series there may be in TestSeriesAreBounded, and who asks.
const (
	seriesLimit   = 340 // 20 histograms
	distinctPaths = 10000
)

// distinctCallers is more than the series suffice for. Each costs a certificate and a
// handshake; the 10,000 of the long form are a matter of minutes.
func distinctCallers() int {
	if long() {
		return 10000
	}
	return 500
}

// 10,000 paths and hosts make no series at all, and callers as many as there is room for;
// the rest is counted together, the memory for it is bounded, and Prometheus takes what is
// shown.
func TestSeriesAreBounded(t *testing.T) {
	mesh := newAuthority(t, meshDomain)
	files := newSVIDFiles(t, mesh.svid("api"), mesh)
	admin := freeAddress(t)
	p := start(t, "api", fmt.Sprintf(`
admin: {address: %q, socket: admin.sock}
metrics: {series: %d}
listeners:
- name: web
  address: 127.0.0.1:0
  routes: [{match: {path_prefix: /v1}, service: api}, {service: api}]
- {name: mesh, address: 127.0.0.1:0, tls: {spiffe: {}}, service: api}
services: [{name: api, endpoints: [%q]}]
%s`, admin, seriesLimit, origin(t, named("api")), files.identity()))

	askEach(t, p.address("web"), 100)
	before, memory := p.series(), resident(t, p.pid())
	askEach(t, p.address("web"), distinctPaths)
	if now := p.series(); now != before {
		t.Errorf("%d series after %d paths and hosts, %d before", now, distinctPaths, before)
	}

	callers, address := distinctCallers(), p.address("mesh")
	var asking sync.WaitGroup
	for worker := range 4 {
		asking.Go(func() {
			for i := worker; i < callers; i += 4 {
				if status, _, err := ask(address, meshClient(mesh.svid(fmt.Sprintf("caller-%d", i)))); err != nil || status != 200 {
					t.Errorf("caller %d: %d %v", i, status, err)
					return
				}
			}
		})
	}
	asking.Wait()
	if t.Failed() {
		return
	}
	grown := resident(t, p.pid()) - memory
	t.Logf("%d callers: %d series, %d before; %d KiB more", callers, p.series(), before, grown>>10)
	if grown > 48<<20 {
		t.Errorf("%d KiB more memory", grown>>10)
	}
	eventually(t, patience, "all callers are counted", func() error {
		if got := p.scrape().sum("larboard_source_requests_total", `code_class="2xx"`); int(got) != callers+distinctPaths+100 {
			return fmt.Errorf("%v", got)
		}
		return nil
	})
	all := p.scrape()
	if own := all.sum("larboard_source_requests_total", `source="other"`); int(own) < callers-seriesLimit {
		t.Errorf("%v counted under other", own)
	}
	for _, metric := range []string{"larboard_source_requests_total", "larboard_source_duration_seconds"} {
		if all.sum("larboard_series_overflow_total", `metric="`+metric+`"`) == 0 {
			t.Errorf("no overflow of %s", metric)
		}
	}
	for series, n := range all {
		// What is counted under other comes on top: a label set, or one of a histogram.
		if strings.HasPrefix(series, "larboard_series{") && n > seriesLimit+17 {
			t.Errorf("%s is %v", series, n)
		}
	}
	judgeMetrics(t, p)
	prometheus := real.Prometheus(t, nil, admin)
	mustFind(t, prometheus, `up == 1`)
	mustFind(t, prometheus, fmt.Sprintf(`sum(larboard_source_requests_total) == %d`, callers+distinctPaths+100))
	mustFind(t, prometheus, fmt.Sprintf(`count(larboard_source_requests_total) <= %d`, seriesLimit+2))
	mustFind(t, prometheus, `scrape_samples_scraped < 5000`)
}

// The trace of a sampled request is found at the bucket that it fell into, in a Prometheus
// that keeps exemplars.
func TestExemplarsLeadToTraces(t *testing.T) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	admin, traces := freeAddress(t), origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	p := start(t, "api", fmt.Sprintf(`
admin: {address: %q, socket: admin.sock}
tracing: {otlp: "http://%s", trust: all}
listeners: [{name: web, address: 127.0.0.1:0, service: api}]
services: [{name: api, endpoints: [%q]}]
`, admin, traces, origin(t, named("api"))))
	prometheus := real.Prometheus(t, nil, admin)
	req, err := http.NewRequest("GET", "http://"+p.address("web"), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, metric := range []string{"request", "route", "source", "endpoint"} {
		metric = "larboard_" + metric + "_duration_seconds_bucket"
		eventually(t, patience, metric, func() error {
			found, err := prometheus.Exemplars(metric)
			if err == nil && (len(found) != 1 || found[0]["trace_id"] != trace || len(found[0]["span_id"]) != 16) {
				err = fmt.Errorf("%v", found)
			}
			return err
		})
	}
	judgeMetrics(t, p)
}

// askEach sends n requests of as many paths and hosts.
func askEach(t *testing.T, address string, n int) {
	t.Helper()
	var asking sync.WaitGroup
	for worker := range 4 {
		asking.Go(func() {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport, Timeout: patience}
			for i := worker; i < n; i += 4 {
				if err := askAs(client, address, i); err != nil {
					t.Errorf("request %d: %v", i, err)
					return
				}
			}
		})
	}
	asking.Wait()
}

func askAs(client *http.Client, address string, i int) error {
	prefix := ""
	if i%2 == 0 {
		prefix = "/v1"
	}
	req, err := http.NewRequest("GET", fmt.Sprintf("http://%s%s/items/%d?q=%d", address, prefix, i, i), nil)
	if err != nil {
		return err
	}
	req.Host = fmt.Sprintf("tenant-%d.example.com", i)
	req.Header.Set("User-Agent", fmt.Sprint("agent ", i))
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != 200 {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return err
}

// series is how many series of ours a scrape shows.
func (p *larboard) series() (n int) {
	p.t.Helper()
	for name := range p.scrape() {
		if strings.HasPrefix(name, "larboard_") {
			n++
		}
	}
	return n
}

// judgeMetrics has Prometheus' own tool read the text format and say what it thinks of it.
func judgeMetrics(t *testing.T, p *larboard) {
	t.Helper()
	_, text, err := p.get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool (of Debian's package prometheus): %v\n%s", err, out)
	}
}

// mustFind waits until Prometheus has series for the expression.
func mustFind(t *testing.T, p *real.PrometheusServer, expression string) {
	t.Helper()
	eventually(t, patience, expression, func() error {
		found, err := p.Query(expression)
		if err == nil && len(found) == 0 {
			err = fmt.Errorf("nothing")
		}
		return err
	})
}
