package sidecar

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// scraped is what the metrics show of the name, a line for each series.
func (r *rig) scraped(name string) string {
	r.t.Helper()
	resp, err := http.Get("http://" + r.AdminAddr() + "/metrics")
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var lines strings.Builder
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, name) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// A reload takes away the series of what it removes, and nothing else.
func TestReloadsGiveUpSeries(t *testing.T) {
	const text = "admin: {address: 127.0.0.1:0}\nloops: 2\nlisteners:\n- {name: in, address: 127.0.0.1:0, routes: [%s{service: app}]}\n%s" +
		"services:\n- {name: app, endpoints: [%q]}\n%s"
	app := says(t, "app")
	r := start(t, fmt.Sprintf(text, "{match: {path_prefix: /old}, service: old}, ", "- {name: extra, address: 127.0.0.1:0, service: old}\n",
		app, fmt.Sprintf("- {name: old, endpoints: [%q]}\n", app)))
	get(t, r.address("in"))
	get(t, r.address("in")+"/old")
	get(t, r.address("extra"))
	eventually(t, "all are counted", func() bool {
		text := r.scraped("larboard_requests_total")
		return strings.Contains(text, `listener="extra"`) && strings.Contains(text, `service="old"`) && strings.Contains(text, `service="app"`) &&
			strings.Contains(r.scraped("larboard_route_requests_total"), `route="/old"`)
	})
	r.write(fmt.Sprintf(text, "", "", app, ""))
	if err := r.Reload(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "what was removed is not shown", func() bool {
		all := r.scraped("larboard_")
		return !strings.Contains(all, `"old"`) && !strings.Contains(all, `"/old"`) && !strings.Contains(all, `"extra"`)
	})
	if got := r.scraped("larboard_route_requests_total"); !strings.Contains(got, `listener="in",route="default"} 1`) {
		t.Errorf("what stays is counted as\n%s", got)
	}
}

// A connection that is kept for the next request is told, and one in use is not.
func TestEndpointsTellTheirIdleConnections(t *testing.T) {
	app := says(t, "app")
	r := start(t, fmt.Sprintf("admin: {address: 127.0.0.1:0}\nloops: 1\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [%q]}]\n", app))
	idle := func() int64 { return r.Endpoints()[0].Idle }
	if idle() != 0 {
		t.Errorf("%d before the first", idle())
	}
	get(t, r.address("in"))
	eventually(t, "a connection is kept", func() bool { return idle() == 1 })
	eventually(t, "the metric says so", func() bool {
		got := r.scraped("larboard_endpoint_connections")
		return strings.Contains(got, `state="idle"} 1`) && strings.Contains(got, `state="in_use"} 0`)
	})
	r.proxy.CloseIdle()
	eventually(t, "none is kept", func() bool { return idle() == 0 })
}
