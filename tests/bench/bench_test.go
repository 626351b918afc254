//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain lets the test binary stand in for the bench binary's child roles.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == roleOrigin || os.Args[1] == roleLoad) {
		os.Exit(command(context.Background(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

func TestMedian(t *testing.T) {
	cases := []struct {
		name   string
		values []float64
		want   float64
	}{
		{"none", nil, math.NaN()},
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 3, 2}, 2.5},
		{"an outlier does not move it", []float64{1, 1, 1, 1, 1000}, 1},
		{"NaN is not hidden", []float64{1, math.NaN(), 2}, math.NaN()},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := median(c.values); got != c.want && !(math.IsNaN(got) && math.IsNaN(c.want)) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func TestSummarizeTakesRatiosRoundByRound(t *testing.T) {
	// The machine slows down threefold: each round says 0.5, while medians of
	// the two sides could pair a fast round with a slow one.
	got := summarize([]pair{{10, 5}, {30, 15}, {20, 12}})
	want := summary{Reference: 20, Subject: 12, Ratio: 0.5, RatioMin: 0.5, RatioMax: 0.6}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestConfidence(t *testing.T) {
	cases := []struct{ rounds, low, high int }{{5, 0, 0}, {6, 1, 6}, {9, 2, 8}, {20, 6, 15}, {100, 40, 61}} // as tabled for the sign test
	for _, c := range cases {
		values := make([]float64, c.rounds)
		for i := range values {
			values[i] = float64(c.rounds - i)
		}
		if low, high := confidence(values); low != float64(c.low) || high != float64(c.high) {
			t.Errorf("%d rounds: got %v..%v, want %d..%d", c.rounds, low, high, c.low, c.high)
		}
	}
}

func TestJudge(t *testing.T) {
	cases := []struct {
		name   string
		line   line
		judged bool
		want   string
		gated  int
	}{
		{"met", line{Target: 0.85, summary: summary{Ratio: 0.85}}, true, met, 0},
		{"missed", line{Target: 0.85, summary: summary{Ratio: 0.851}}, true, missed, 1},
		{"no number is no success", line{Target: 0.85, summary: summary{Ratio: math.NaN()}}, true, missed, 1},
		{"not measured", line{Target: 0.85, Error: "gone"}, true, unmeasured, 1},
		{"a tail beside others", line{Target: 1.15, Rate: 1, Disturbed: 2, Rounds: []pair{{1, 1}}, summary: summary{Ratio: 1}}, true, beside, 1},
		{"CPU beside others", line{Target: 1.15, Disturbed: 2, Rounds: []pair{{1, 1}}, summary: summary{Ratio: 1}}, true, met, 0},
		{"within its limit", line{Limit: 32, summary: summary{Subject: 31, Ratio: 2}}, true, met, 0},
		{"over its limit", line{Limit: 32, summary: summary{Subject: 33, Ratio: 0.1}}, true, missed, 1},
		{"noise run", line{Target: 0.85, summary: summary{Ratio: 2}}, false, unjudged, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.line.judge(c.judged)
			r := report{Scenarios: []line{c.line}}
			if c.line.Verdict != c.want || r.exitCode(true) != c.gated {
				t.Errorf("verdict %q, exit %d; want %q, %d", c.line.Verdict, r.exitCode(true), c.want, c.gated)
			}
			if c.want == missed && r.exitCode(false) != 0 {
				t.Error("a missed target fails without -gate")
			}
		})
	}
}

func TestParseProc(t *testing.T) {
	if got, err := parseSchedstat([]byte("687588 12 1\n")); err != nil || got != 687588 {
		t.Errorf("schedstat: %v, %v", got, err)
	}
	if _, err := parseSchedstat([]byte("687588\n")); err == nil {
		t.Error("schedstat: a short line was taken")
	}
	if got, err := parseRollup([]byte("5-7 ---p 0 0 0 [rollup]\nRss:  1640 kB\nPss:   204 kB\nPss_Anon: 96 kB\n"), "Pss:"); err != nil || got != 204<<10 {
		t.Errorf("pss: %v, %v", got, err)
	}
	if _, err := parseRollup([]byte("Rss: 1 kB\n"), "Pss:"); err == nil {
		t.Error("pss: taken from nowhere")
	}
	stat := []byte("cpu 1 2 3 400 5 6 7 8\ncpu1 1 2 3 40 5 6 7 8\ncpu11 1 2 3 99 9 6 7 8\n")
	if got, err := parseIdle(stat, 1); err != nil || got != 58*tick {
		t.Errorf("idle: %v, %v", got, err)
	}
	if _, err := parseIdle(stat, 2); err == nil {
		t.Error("idle: of a CPU that is not there")
	}
}

func TestProcOfThisProcess(t *testing.T) {
	before, err := cpuTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for sum, end := 0, time.Now().Add(50*time.Millisecond); time.Now().Before(end); sum++ {
		runtime.KeepAlive(sum)
	}
	after, err := cpuTime(os.Getpid())
	if err != nil || after <= before {
		t.Errorf("cpu time went from %v to %v, %v", before, after, err)
	}
	if pss, err := writtenBytes(os.Getpid()); err != nil || pss < 1<<20 {
		t.Errorf("memory %d, %v", pss, err)
	}
	if _, err := cpuTime(-1); err == nil {
		t.Error("cpu time of no process")
	}
}

func TestEdgesTellForeignTime(t *testing.T) {
	start := edge{at: time.Unix(0, 0)}
	end := edge{at: time.Unix(2, 0), proxy: time.Second, ours: 2 * time.Second, idle: 1500 * time.Millisecond}
	proxy, elapsed, foreign := end.between(start, 2)
	if proxy != time.Second || elapsed != 2*time.Second || foreign != 0.25 {
		t.Errorf("proxy %v, elapsed %v, foreign %v", proxy, elapsed, foreign)
	}
}

// TestLoadAgainstOrigin runs every kind of load against the own origin, with
// no proxy between; the origin's own CPU stands in for the proxy's.
func TestLoadAgainstOrigin(t *testing.T) {
	origin, err := startProcess(firstCPU(t), "origin", os.Args[0], roleOrigin)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.stop()
	var addrs originAddrs
	if err := origin.decode(t.Context(), 10*time.Second, &addrs); err != nil {
		t.Fatal(err)
	}
	base := loadSpec{Addr: addrs.HTTP, HTTP: true, Size: smallBody, Conns: 8, Window: 100 * time.Millisecond,
		Watch: watched{Proxies: []int{origin.pid()}, Origin: os.Getpid(), CPUs: []int{firstCPU(t)}}}
	cases := []struct {
		name   string
		change func(*loadSpec)
	}{
		{"keep-alive", func(*loadSpec) {}},
		{"large", func(s *loadSpec) { s.Size = largeBody }},
		{"new connections", func(s *loadSpec) { s.NewConn = true }},
		{"ping-pong", func(s *loadSpec) { s.HTTP, s.Addr, s.Size = false, addrs.Echo, message }},
		{"a connection for each message", func(s *loadSpec) { s.HTTP, s.Addr, s.Size, s.NewConn = false, addrs.Echo, message, true }},
		{"open loop", func(s *loadSpec) { s.Rate = 500 }},
		{"HTTP/2", func(s *loadSpec) { s.Addr, s.Streams = addrs.H2, 16 }},
		{"HTTP/2, more than a window", func(s *loadSpec) { s.Addr, s.Streams, s.Size = addrs.H2, 4, 300<<10 }},
		{"gRPC", func(s *loadSpec) { s.Addr, s.Streams, s.GRPC = addrs.H2, 8, true }},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			spec := base
			c.change(&spec)
			r := loadOnce(t, spec)
			if r.Requests == 0 || r.Failed != 0 || r.CPU <= 0 || r.Elapsed < spec.Window || r.P99 < r.P50 || r.P50 <= 0 || r.User != 0 {
				t.Errorf("got %+v", r)
			}
		})
	}
}

func TestIdleConnectionsAreHeld(t *testing.T) {
	o, addrs, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- o.serve(ctx) }()
	in, tell := io.Pipe()
	out, printed := io.Pipe()
	done := make(chan error, 1)
	spec, _ := json.Marshal(loadSpec{Addr: addrs.HTTP, HTTP: true, Size: smallBody, Conns: 50, Idle: true})
	go func() { done <- runLoad(string(spec), in, printed) }()

	results := json.NewDecoder(out)
	expect := func(open, closed int) {
		t.Helper()
		var r loadResult
		if err := results.Decode(&r); err != nil || r.Requests != open || r.Failed != closed {
			t.Errorf("got %+v, %v; want %d open, %d closed", r, err, open, closed)
		}
	}
	expect(50, 0)
	tell.Write([]byte{'\n'})
	expect(50, 0)
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	o.close()
	tell.Write([]byte{'\n'})
	expect(0, 50)
	tell.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestClientRefusesWrongAnswers(t *testing.T) {
	want := body(4)
	cases := []struct {
		name, answer, problem string
	}{
		{"good", "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd", ""},
		{"status", "HTTP/1.1 503 No\r\nContent-Length: 4\r\n\r\nabcd", "status line"},
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcd", "content length 5"},
		{"no length", "HTTP/1.1 200 OK\r\nA: b\r\n\r\nabcd", "no content length"},
		{"body", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcx", "wrong body"},
		{"excess", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcde", "wrong body"},
	}
	for _, c := range cases {
		for _, step := range []int{1, 7, len(c.answer)} {
			conn := client{http: true, want: want}
			complete, err := feedAll(&conn, []byte(c.answer), step)
			if c.problem == "" && (err != nil || !complete) {
				t.Errorf("%s by %d bytes: %v, %v", c.name, step, complete, err)
			}
			if c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem)) && step == len(c.answer) {
				t.Errorf("%s by %d bytes: got error %v, want %q", c.name, step, err, c.problem)
			}
			if c.problem != "" && err == nil {
				t.Errorf("%s by %d bytes: taken", c.name, step)
			}
		}
	}
}

func feedAll(c *client, answer []byte, step int) (complete bool, err error) {
	for len(answer) > 0 && err == nil {
		n := min(step, len(answer))
		complete, err = c.feed(answer[:n])
		answer = answer[n:]
	}
	return complete, err
}

func TestBulkIsReceivedAndChecked(t *testing.T) {
	o, addrs, err := newOrigin()
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	served := make(chan error, 1)
	go func() { served <- o.serve(ctx) }()
	spec := loadSpec{Addr: addrs.Bulk, Bulk: true, Conns: 2, Window: 200 * time.Millisecond,
		Watch: watched{Proxies: []int{os.Getpid()}, Origin: os.Getpid(), CPUs: []int{firstCPU(t)}}}
	r, err := readBulk(spec)
	if err != nil || r.Requests == 0 || r.CPU <= 0 {
		t.Errorf("got %+v, %v", r, err)
	}
	cancel()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if _, err := (&bulkReader{fd: -1}).receive(make([]byte, bulkChecked), body(bulkPeriod)); err == nil {
		t.Error("a dead connection was read")
	}
}

func TestConfigurationsAreComplete(t *testing.T) {
	s := site{Origin: originAddrs{HTTP: "127.0.0.1:1", Echo: "127.0.0.1:2", Bulk: "127.0.0.1:11", H2: "127.0.0.1:12"}, FDs: 99, WantMutual: true, WantH2: true,
		H2: "127.0.0.1:13", H2Down: "127.0.0.1:14", H2TLS: "127.0.0.1:15",
		HTTP: "127.0.0.1:3", HTTPS: "127.0.0.1:4", TCP: "127.0.0.1:5", Bulk: "127.0.0.1:6", Mutual: "127.0.0.1:7",
		Sinks: sinkAddrs{Syslog: "/run/syslog", OTLP: "http://127.0.0.1:16", Hanging: "127.0.0.1:17"}, Dir: "/run",
		Near: "127.0.0.1:8", Far: "127.0.0.1:9", Agent: "127.0.0.1:10"}
	h2 := []string{s.Origin.HTTP, s.Origin.H2, s.H2, s.H2Down, s.H2TLS}
	one := append(h2, s.Origin.Echo, s.Origin.Bulk, s.HTTP, s.HTTPS, s.TCP, s.Bulk, s.Mutual)
	far, near := []string{s.Far, s.Origin.HTTP}, []string{s.Near, s.Far}
	cases := []struct {
		contender contender
		want      [][]string // by part
	}{
		{haproxy("haproxy", "haproxy", "", false), [][]string{one}},
		{larboard("larboard", "larboard"), [][]string{one}},
		{haproxyPair("haproxy", false), [][]string{far, near}},
		{netHTTP("bench"), [][]string{h2}},
		{larboardPair("larboard-pair", "larboard"), [][]string{far, near}},
		{larboardFull("larboard-full", "larboard", larboardSinks), [][]string{{s.HTTP, s.Origin.HTTP, s.Sinks.OTLP, "/run/access.log"}}},
		{larboardFull("larboard-broken", "larboard", larboardBroken), [][]string{{s.HTTP, s.Origin.HTTP, s.Sinks.Hanging}}},
		{haproxy("haproxy-httplog", "haproxy", "\n    log {{.Sinks.Syslog}} local0", false), [][]string{append(one, s.Sinks.Syslog)}},
		{larboardConsul("larboard"), [][]string{{s.Agent, s.HTTP}}},
	}
	for _, c := range cases {
		for i, p := range c.contender.parts {
			file, err := p.writeConfig(t.TempDir(), &s)
			if err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(text, []byte("@")) {
				t.Errorf("%s: left unfilled:\n%s", p.name, text)
			}
			for _, part := range c.want[i] {
				if !bytes.Contains(text, []byte(part)) {
					t.Errorf("%s: %s is missing in\n%s", p.name, part, text)
				}
			}
		}
	}
}

func TestEveryScenarioHasItsSides(t *testing.T) {
	known := map[string]bool{"": true}
	for _, name := range []string{"haproxy", "haproxy-auto", "haproxy-forced", "haproxy-pair", "haproxy-httplog", "larboard", "larboard-full", "larboard-broken", "larboard-pair", "net-http"} {
		c, err := (&bench{}).contender(t.Context(), name)
		if err != nil || c.name != name {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
		known[name] = true
	}
	for _, name := range []string{"query", "consul-pair", "ghostunnel-pair", "larboard-consul"} {
		known[name] = true // which build what they need
	}
	names := map[string]bool{}
	for _, s := range scenarios {
		if !known[s.against] || !known[s.with] || names[s.name] || s.target == 0 && s.limit == 0 && s.against != "net-http" {
			t.Errorf("scenario %+v", s)
		}
		names[s.name] = true
	}
	if _, err := (&bench{}).contender(t.Context(), "nobody"); err == nil {
		t.Error("an unknown contender was found")
	}
}

func TestQuantile(t *testing.T) {
	values := []float64{5, 1, 4, 2, 3}
	for q, want := range map[float64]float64{0: 1, 0.2: 1, 0.5: 3, 0.99: 5, 1: 5} {
		if got := quantile(values, q); got != want {
			t.Errorf("%v: got %v, want %v", q, got, want)
		}
	}
	if !math.IsNaN(quantile(nil, 0.5)) {
		t.Error("a quantile of nothing")
	}
}

func TestFlags(t *testing.T) {
	for _, args := range [][]string{{"-rounds", "0"}, {"-run", "("}, {"-output", "xml"}, {"extra"}, {"-noise", "-baseline", "x"}, {"-seconds", "0"}} {
		if _, err := parseFlags(args, io.Discard); err == nil {
			t.Errorf("%v: taken", args)
		}
	}
	o, err := parseFlags([]string{"--output", "json", "-short", "-run", "^http-"}, io.Discard)
	if err != nil || o.rounds != 2 || o.round != 500*time.Millisecond || !o.run.MatchString("http-64") || o.run.MatchString("idle-plain") {
		t.Errorf("got %+v, %v", o, err)
	}
}

func TestFailedRequestsVoidAWindow(t *testing.T) {
	if err := (loadResult{Requests: 10000, Failed: 10}).check(); err != nil {
		t.Error(err)
	}
	if err := (loadResult{Requests: 10000, Failed: 11, Example: "reset"}).check(); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("got %v", err)
	}
	if err := (loadResult{}).check(); err == nil {
		t.Error("a window without a request was taken")
	}
}

func TestRepeaterGivesUpInTime(t *testing.T) {
	cpu := firstCPU(t)
	origin, err := startProcess(cpu, "origin", os.Args[0], roleOrigin)
	if err != nil {
		t.Fatal(err)
	}
	defer origin.stop()
	var addrs originAddrs
	if err := origin.decode(t.Context(), 10*time.Second, &addrs); err != nil {
		t.Fatal(err)
	}
	// No share is below zero: every window counts as disturbed.
	l := &line{}
	r := repeater{bench: &bench{self: os.Args[0], loadCPU: cpu}, line: l, limit: -1, spare: 1}
	spec := loadSpec{Addr: addrs.HTTP, HTTP: true, Size: smallBody, Conns: 2, Window: 100 * time.Millisecond,
		Watch: watched{Proxies: []int{origin.pid()}, Origin: os.Getpid(), CPUs: []int{cpu}}}
	if _, err := r.window(t.Context(), spec); err != nil || r.spare != 0 || l.Disturbed != 1 {
		t.Errorf("spare %d, disturbed %d, %v", r.spare, l.Disturbed, err)
	}
}

func TestProcessThatFailsSaysWhy(t *testing.T) {
	p, err := startProcess(firstCPU(t), "load", os.Args[0], roleLoad, "{")
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	var r loadResult
	if err := p.decode(t.Context(), 10*time.Second, &r); err == nil || !strings.Contains(err.Error(), "unexpected end of JSON") {
		t.Errorf("got %v", err)
	}
	p, err = startProcess(firstCPU(t), "origin", os.Args[0], roleOrigin)
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	ctx, cancel := context.WithCancel(t.Context())
	var addrs originAddrs
	if err := p.decode(ctx, 10*time.Second, &addrs); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := p.decode(ctx, 10*time.Second, &addrs); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func firstCPU(t *testing.T) int {
	t.Helper()
	cpus, err := allowedCPUs()
	if err != nil {
		t.Fatal(err)
	}
	return cpus[0]
}

func loadOnce(t *testing.T, spec loadSpec) loadResult {
	t.Helper()
	argument, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(firstCPU(t), "load", os.Args[0], roleLoad, string(argument))
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	var r loadResult
	if err := p.decode(t.Context(), 20*time.Second, &r); err != nil {
		t.Fatal(err)
	}
	return r
}
