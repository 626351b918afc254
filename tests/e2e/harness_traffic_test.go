package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// traffic is load that runs beside what a test does. Workloads answer with their
// name; answers are counted by it.
type traffic struct {
	t      testing.TB
	stop   chan struct{}
	done   chan struct{}
	result load.Result // read after done

	mu      sync.Mutex
	byName  map[string]int
	lastAt  map[string]time.Time
	answers int
}

// send starts load until end is called. Options need Addr; Rate is 200 a second
// where it is 0. It ends with the test at the latest.
func send(t testing.TB, o load.Options) *traffic {
	t.Helper()
	r := &traffic{t: t, stop: make(chan struct{}), done: make(chan struct{}),
		byName: map[string]int{}, lastAt: map[string]time.Time{}}
	if o.Rate == 0 {
		o.Rate = 200
	}
	o.Duration, o.Stop = time.Hour, r.stop
	check := o.Check
	o.Check = func(resp *http.Response, body []byte) error {
		r.count(string(body))
		if check != nil {
			return check(resp, body)
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.done)
		r.result = load.HTTP(ctx, o)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
	})
	return r
}

func (r *traffic) count(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.byName[name]++
	r.lastAt[name] = time.Now()
	r.answers++
}

// counts is a copy of the answers by name so far.
func (r *traffic) counts() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]int, len(r.byName))
	for name, n := range r.byName {
		all[name] = n
	}
	return all
}

// await waits for n answers more.
func (r *traffic) await(n int) {
	r.t.Helper()
	before := r.total()
	eventually(r.t, patience+time.Duration(n)*10*time.Millisecond, fmt.Sprint(n, " answers more"), func() error {
		if got := r.total() - before; got < n {
			return fmt.Errorf("%d", got)
		}
		return nil
	})
}

// pass lets the load run for a while: the time is what the claim is about.
func (r *traffic) pass(d time.Duration) {
	r.t.Helper()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.done:
		r.t.Fatal("the load ended by itself")
	}
}

func (r *traffic) total() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answers
}

// end stops the sending, waits for what is under way and returns the account.
func (r *traffic) end() load.Result {
	r.t.Helper()
	close(r.stop)
	<-r.done
	r.t.Logf("load: %v", r.result)
	return r.result
}

// endClean is end for traffic of which no request may have failed.
func (r *traffic) endClean() load.Result {
	r.t.Helper()
	result := r.end()
	mustBeClean(r.t, result)
	return result
}

func mustBeClean(t testing.TB, r load.Result) {
	t.Helper()
	if r.Failures() != 0 || r.Requests == 0 {
		t.Errorf("%v\n%s", r, strings.Join(r.Examples, "\n"))
	}
}

// samples are the metrics of one scrape, by series as written.
type samples map[string]float64

// scrape reads /metrics.
func (p *larboard) scrape() samples {
	p.t.Helper()
	status, body, err := p.get("/metrics")
	if err != nil || status != http.StatusOK {
		p.t.Fatalf("%s: GET /metrics: %d %v", p.name, status, err)
	}
	all, err := parseSamples(body)
	if err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
	return all
}

func parseSamples(metrics string) (samples, error) {
	all := samples{}
	for line := range strings.Lines(metrics) {
		line = strings.TrimSpace(line)
		cut := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || cut < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[cut+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("metrics: %q: %w", line, err)
		}
		all[line[:cut]] = value
	}
	return all, nil
}

// sum adds the series of a metric that have all of the labels, written as
// `service="api"`.
func (s samples) sum(metric string, labels ...string) float64 {
	total := 0.0
series:
	for series, value := range s {
		name, rest, _ := strings.Cut(series, "{")
		if name != metric {
			continue
		}
		for _, label := range labels {
			if !strings.Contains("{,"+rest, ","+label) && !strings.HasPrefix(rest, label) {
				continue series
			}
		}
		total += value
	}
	return total
}
