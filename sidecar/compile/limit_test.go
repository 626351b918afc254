package compile

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

const limited = `
listeners:
- name: in
  address: 127.0.0.1:1
  connection_rate: 9/s
  limits: [{name: whole, rate: 100/s}]
  routes:
  - {match: {path_prefix: /x}, service: a, limits: [{name: one, rate: 1/10s, burst: 5, by: {source: {v4: 24}}, keys: 7}, {rate: 2/m, by: {header: X-Key}}]}
  - {match: {path_prefix: /x}, service: b, limits: [{name: one, rate: 1/10s, burst: 5, by: {source: {v4: 24}}, keys: 7}]}
  - {service: b}
- {name: raw, address: 127.0.0.1:2, protocol: tcp, service: b, connection_rate: {rate: 3/s, by: source}}
- {name: also, address: 127.0.0.1:3, service: a}
- {name: free, address: 127.0.0.1:4, service: b}
services:
- {name: a, endpoints: [127.0.0.1:1], limits: [{rate: 50/s, by: {query: k}}]}
- {name: b, endpoints: [127.0.0.1:2]}
`

func TestRateLimits(t *testing.T) {
	registry := limit.NewRegistry()
	compile := func(text string) *Output {
		out, err := Compile(Input{Config: load(t, text), Limits: registry, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	out := compile(limited)
	var places []string
	for _, p := range out.Limits {
		d := p.Limit.Definition()
		places = append(places, fmt.Sprintf("%s: %s %.4g %d %d", p.Place, p.Limit.Name(), d.Rate, d.Burst, d.Keys))
	}
	want := `service a a.query: a.query 50 50 100000
connections of in: in.connections 9 9 100000
listener in whole: whole 100 100 100000
route in /x one: one 0.1 5 7
route in /x in.routes.0.header: in.routes.0.header 0.03333 2 100000
route in /x one (2): one 0.1 5 7
connections of raw: raw.connections 3 3 100000`
	if got := strings.Join(places, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	var steps []string
	for _, l := range out.Snapshot.Listeners {
		for _, r := range l.Routes {
			if s, ok := r.Steps[0].(*proxy.Limits); ok {
				steps = append(steps, l.Name+" "+s.String())
			} else {
				steps = append(steps, l.Name+" none")
			}
		}
	}
	want = `in a.query by query k, whole by all, one by source/24/64, in.routes.0.header by header x-key
in whole by all, one by source/24/64
in whole by all
also a.query by query k
free none`
	if got := strings.Join(steps, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if c := out.Snapshot.Listeners[1].ConnectionRate; c == nil || c.By != proxy.BySource || c.V4 != 32 || c.V6 != 64 {
		t.Errorf("%+v", c)
	}

	// What stays keeps its buckets once it has been in force; what changes begins anew.
	registry.Keep(out.Limits)
	again := compile(strings.Replace(limited, "name: whole, rate: 100/s", "name: whole, rate: 101/s", 1))
	for i, p := range again.Limits {
		if same := p.Limit == out.Limits[i].Limit; same != (p.Limit.Name() != "whole") {
			t.Errorf("%s: the same %v", p.Place, same)
		}
	}
}

func TestSharedLimitNeedsAService(t *testing.T) {
	c := load(t, "rate_limit_service: 127.0.0.1:1\nlisteners: [{name: in, address: 127.0.0.1:1, service: a, limits: [{shared: {descriptors: [path]}}]}]"+services)
	if _, err := Compile(Input{Config: c, Log: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), `limit "in.shared"`) {
		t.Errorf("%v", err)
	}
}
