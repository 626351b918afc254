//go:build !race && !larboard_debug

package proxy

import (
	"io"
	"testing"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

// Exchanges with a line in a log of each format, captured fields, conditions and a sample
// allocate nothing on their loop. Nobody carries the lines away: what a goroutine does ten times a second is no
// part of an exchange.
func TestAccessLogsAllocateNothing(t *testing.T) {
	r := newRig(t, HTTP, nil, cannedOrigin(t, []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")))
	captures := accesslog.Captures{Request: []accesslog.Capture{accesslog.NewCapture("user-agent", 64)}, Response: []accesslog.Capture{accesslog.NewCapture("content-type", 64)}}
	var logs []*accesslog.Log
	add := func(o accesslog.Options) {
		t.Helper()
		o.Loops, o.Writer = 2, io.Discard
		l, err := accesslog.New(o)
		if err != nil {
			t.Fatal(err)
		}
		logs = append(logs, l)
	}
	for _, p := range template.Presets() {
		f, err := accesslog.Preset(p.Name, captures)
		if err != nil {
			t.Fatal(err)
		}
		add(accesslog.Options{Name: p.Name, Format: f})
		add(accesslog.Options{Name: p.Name + " to syslog", Format: f, Syslog: &accesslog.SyslogOptions{Network: "udp", Address: "127.0.0.1:1", Tag: "x"},
			When: &accesslog.Conditions{SkipPaths: []string{"/healthz"}, SkipAgents: []string{"x*"}, Sample: accesslog.Sample{Rate: 0.5}}})
	}
	set := new(accesslog.Set)
	set.Swap(logs)
	r.proxy.observers = []observability.Observer{set}
	r.allocatesNothing(t, "GET /a?b=c&token=d HTTP/1.1\r\nHost: api.example\r\nUser-Agent: test\r\nReferer: https://a.example/?x=1\r\n\r\n")
	if c := set.Counts()["json"]; c.Dropped < 5000 {
		t.Errorf("%+v", c)
	}
}
