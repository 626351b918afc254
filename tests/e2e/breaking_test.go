package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// moody is a workload that fails when it is told to, and counts.
type moody struct {
	address string
	failing atomic.Bool
	served  atomic.Int64
	hung    chan struct{} // a request to /hang has come
}

func startMoody(t *testing.T, name string) *moody {
	m := &moody{hung: make(chan struct{}, 100)}
	m.address = origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.served.Add(1)
		if r.URL.Path == "/hang" {
			m.hung <- struct{}{}
			<-r.Context().Done()
			return
		}
		if m.failing.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, name)
	}))
	return m
}

// endpointState is what the admin interface says of one endpoint.
type endpointState struct {
	Address, State, Rotation string
	InRotation               bool `json:"in_rotation"`
	Breaker                  *struct {
		State        string
		Since, Until time.Time
		Failures     int
	}
	Ejection *struct {
		Ejected      bool
		Since, Until time.Time
		Cause        string
		Count        int
		Share        float64
	}
}

// endpointStates are by address.
func (p *larboard) endpointStates() map[string]endpointState {
	p.t.Helper()
	var v struct{ Endpoints []endpointState }
	p.view("/api/v1/endpoints", &v)
	all := map[string]endpointState{}
	for _, e := range v.Endpoints {
		all[e.Address] = e
	}
	return all
}

// metric is the sum of a metric's series with these labels.
func (p *larboard) metric(name string, labels ...string) float64 {
	p.t.Helper()
	return p.scrape().sum(name, labels...)
}

// A breaker opens, keeps everything from its endpoint, is changed by a reload, lets probes
// through, survives a client that leaves amid one, and closes.
func TestBreaker(t *testing.T) {
	m := startMoody(t, "m")
	configuration := func(open string) string {
		return fmt.Sprintf("listeners: [{name: web, address: 127.0.0.1:0, service: app}]\n"+
			"services: [{name: app, endpoints: [%q], breaker: {failures: 3, open: %s}}]\n", m.address, open)
	}
	p := start(t, "breaker", configuration("1h"))
	url := "http://" + p.address("web")
	state := func() string { return p.endpointStates()[m.address].Breaker.State }
	if s := state(); s != "closed" {
		t.Errorf("at first the breaker is %s", s)
	}
	m.failing.Store(true)
	for range 3 {
		if status, _, _ := get(t, url); status != 500 {
			t.Errorf("status %d, want the workload's 500", status)
		}
	}
	served := m.served.Load()
	status, body, header := get(t, url)
	if status != 503 || header.Get("X-Larboard-Reason") != "breaker_open" || !strings.HasPrefix(body, "breaker_open: ") || m.served.Load() != served {
		t.Errorf("%d %q, %d requests came through", status, body, m.served.Load()-served)
	}
	e := p.endpointStates()[m.address]
	if e.State != "open" || e.Breaker.State != "open" || e.Breaker.Failures != 3 || e.InRotation || !strings.HasPrefix(e.Rotation, "out: its breaker is open until ") ||
		e.Breaker.Until.Sub(e.Breaker.Since) != time.Hour || time.Since(e.Breaker.Since) > time.Minute {
		t.Errorf("%+v, %+v", e, e.Breaker)
	}
	if got := p.metric("larboard_breaker_state", `service="app"`, fmt.Sprintf("endpoint=%q", m.address)); got != 2 {
		t.Errorf("larboard_breaker_state is %v", got)
	}
	p.waitLog(`msg="breaker changed" service=app endpoint=` + m.address + ` from=closed to=open failures=3`)

	p.configure(configuration("200ms"))
	if status, body := p.reload(); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	eventually(t, patience, "a probe fails", func() error {
		if status, _, _ := get(t, url); status != 500 {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	if got := p.metric("larboard_breaker_changes_total", `to="open"`); got < 2 {
		t.Errorf("%v changes to open", got)
	}
	m.failing.Store(false)
	var probe *caller
	eventually(t, patience, "a probe hangs", func() error {
		probe = dialCaller(t, p.address("web"))
		if _, err := io.WriteString(probe.conn, "GET /hang HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
			return err
		}
		answered := make(chan error, 1)
		go func() {
			_, err := probe.in.ReadByte()
			answered <- err
		}()
		select {
		case <-m.hung:
			return nil
		case <-answered:
			return errors.New("not let through")
		}
	})
	if status, _, header := get(t, url); status != 503 || header.Get("X-Larboard-Reason") != "breaker_open" {
		t.Errorf("beside a probe: %d", status)
	}
	err := probe.conn.(*net.TCPConn).SetLinger(0) // its end is a reset, which nobody takes for a half-close
	if err = errors.Join(err, probe.conn.Close()); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "the place of the probe is free", func() error {
		if status, _, _ := get(t, url); status != 200 {
			return fmt.Errorf("status %d", status)
		}
		return nil
	})
	eventually(t, patience, "the breaker is closed", func() error { // the answer is there before it has counted
		if s := state(); s != "closed" {
			return errors.New(s)
		}
		return nil
	})
	p.waitLog("from=half-open to=closed")
}

// Ejection leaves an endpoint out that fails, keeps to its cap when all do, and lets the
// endpoint return.
func TestEjection(t *testing.T) {
	var all []*moody
	var addresses []string
	for i := range 4 {
		m := startMoody(t, fmt.Sprint(i))
		all, addresses = append(all, m), append(addresses, fmt.Sprintf("%q", m.address))
	}
	run := func(name, ejection string) (*larboard, string) {
		p := start(t, name, fmt.Sprintf("listeners: [{name: web, address: 127.0.0.1:0, service: app}]\n"+
			"services: [{name: app, endpoints: [%s], ejection: {%s}}]\n", strings.Join(addresses, ", "), ejection))
		return p, "http://" + p.address("web")
	}
	out := func(p *larboard) (n int) {
		for _, e := range p.endpointStates() {
			if e.Ejection.Ejected {
				n++
			}
		}
		return n
	}

	p, url := run("long", "time: 1h, max_time: 1h")
	all[1].failing.Store(true)
	failures := 0
	for range 100 {
		if status, _, _ := get(t, url); status == 500 {
			failures++
		}
	}
	if failures != 5 || out(p) != 1 {
		t.Errorf("%d of 100 requests failed and %d endpoints are out, want 5 and 1", failures, out(p))
	}
	e := p.endpointStates()[all[1].address]
	if e.State != "ejected" || e.InRotation || !strings.HasPrefix(e.Rotation, "out: ejected until ") || e.Ejection.Cause != "consecutive" || e.Ejection.Count != 1 ||
		e.Ejection.Share != 0 || e.Ejection.Until.Sub(e.Ejection.Since) != time.Hour {
		t.Errorf("%+v, %+v", e, e.Ejection)
	}
	if up := p.endpointStates()[all[0].address]; up.Rotation != "in: weight 1 of 3" || up.Ejection.Share != 1 {
		t.Errorf("%+v, %+v", up, up.Ejection)
	}
	p.waitLog(`msg="endpoint ejected" service=app endpoint=` + all[1].address + ` cause=consecutive count=1 for=1h0m0s`)
	for _, m := range all {
		m.failing.Store(true)
	}
	for range 100 {
		if status, _, header := get(t, url); status != 500 || header.Get("X-Larboard-Reason") != "" {
			t.Fatalf("%d %s: the cap should keep endpoints in", status, header.Get("X-Larboard-Reason"))
		}
	}
	if n := out(p); n != 2 {
		t.Errorf("%d of 4 are out, want half", n)
	}
	if n, ejections := p.metric("larboard_ejections_capped_total"), p.metric("larboard_ejections_total", `cause="consecutive"`); n == 0 || ejections != 2 || p.metric("larboard_ejected") != 2 {
		t.Errorf("%v capped, %v ejections", n, ejections)
	}
	p.waitLog("endpoint stays in: as many are out as may be")
	p.kill()

	for _, m := range all {
		m.failing.Store(false)
	}
	all[2].failing.Store(true)
	p, url = run("short", "time: 300ms, ramp: 300ms")
	eventually(t, patience, "an endpoint is ejected", func() error {
		if get(t, url); p.metric("larboard_ejections_total") == 0 {
			return errors.New("none")
		}
		return nil
	})
	all[2].failing.Store(false)
	served := all[2].served.Load()
	eventually(t, patience, "it returns", func() error {
		if get(t, url); all[2].served.Load() == served {
			return errors.New("it gets nothing")
		}
		return nil
	})
	p.waitLog(`msg="endpoint returns" service=app endpoint=` + all[2].address)
}

// A service of one endpoint keeps it, whatever it does; one of TCP counts connections that
// cannot be made.
func TestLoneEndpoint(t *testing.T) {
	m := startMoody(t, "m")
	m.failing.Store(true)
	dead := freeAddress(t)
	p := start(t, "lone", fmt.Sprintf("listeners:\n- {name: web, address: 127.0.0.1:0, service: app}\n- {name: raw, address: 127.0.0.1:0, protocol: tcp, service: raw}\n"+
		"services:\n- {name: app, endpoints: [%q], ejection: {consecutive: 1, max_percent: 99}}\n- {name: raw, endpoints: [%q], breaker: {failures: 1, open: 1h}}\n", m.address, dead))
	for range 20 {
		if status, _, header := get(t, "http://"+p.address("web")); status != 500 || header.Get("X-Larboard-Reason") != "" {
			t.Fatalf("%d %s", status, header.Get("X-Larboard-Reason"))
		}
	}
	if e := p.endpointStates()[m.address]; e.Ejection.Ejected || !e.InRotation || p.metric("larboard_ejections_capped_total", `service="app"`) == 0 {
		t.Errorf("%+v, %+v", e, e.Ejection)
	}
	conn, err := net.Dial("tcp", p.address("raw"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadAll(conn) // it is closed or reset
	if e := p.endpointStates()[dead]; e.Breaker.State != "open" || e.Breaker.Failures != 1 {
		t.Errorf("%+v, %+v", e, e.Breaker)
	}
}
