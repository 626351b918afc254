package compile

import (
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability/tracecontext"
)

// Whose contexts count follows from who may come: mesh callers and the own workload, unless
// the file says otherwise.
func TestTracing(t *testing.T) {
	const section = "tracing: {otlp: \"http://127.0.0.1:4318\", sample: 50%, propagate: [w3c, b3multi]%s}\n"
	const sidecar = "identity: {dev: {}}\nworkload: {service: web, address: 127.0.0.1:1, listen: 127.0.0.1:0}\n" +
		"upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [127.0.0.1:2]}]\n"
	const edge = "listeners: [{name: edge, address: 127.0.0.1:0, service: a%s}, {name: tcp, address: 127.0.0.1:0, protocol: tcp, service: a}]" + services
	with := func(text, more string) string { return strings.Replace(text, "%s", more, 1) }
	for _, tc := range []struct {
		name, text string
		trust      map[string]bool
	}{
		{"sidecar", with(section, "") + sidecar, map[string]bool{"inbound": true, "api": true}},
		{"edge", with(section, "") + with(edge, ""), map[string]bool{"edge": false, "tcp": false}},
		{"edge that believes all", with(section, ", trust: all") + with(edge, ""), map[string]bool{"edge": true, "tcp": true}},
		{"edge, said for the listener", with(section, "") + with(edge, ", trust_traces: true"), map[string]bool{"edge": true, "tcp": false}},
		{"edge, excepted", with(section, ", trust: all") + with(edge, ", trust_traces: false"), map[string]bool{"edge": false, "tcp": true}},
	} {
		for _, l := range compiled(t, tc.text, none()).Snapshot.Listeners {
			if l.Tracing == nil || l.Tracing.Trust != tc.trust[l.Name] || l.Tracing.Sample != tracecontext.NewRatio(0.5) ||
				l.Tracing.Propagate != tracecontext.W3C|tracecontext.B3Multi {
				t.Errorf("%s: %s: %+v", tc.name, l.Name, l.Tracing)
			}
		}
	}
	for _, l := range compiled(t, sidecar, none()).Snapshot.Listeners {
		if l.Tracing != nil {
			t.Errorf("without the section: %+v", l.Tracing)
		}
	}
}
