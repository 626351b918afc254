package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// failingOrigin answers, and fails some of its requests: by an error, or by a reset.
type failingOrigin struct {
	address  string
	attempts *atomic.Int64 // of all origins of a test
	own      atomic.Int64
	failed   atomic.Int64
}

// startFailing fails percent of 100 requests, one of three by a reset.
func startFailing(t testing.TB, name string, attempts *atomic.Int64, percent int) *failingOrigin {
	t.Helper()
	o := &failingOrigin{attempts: attempts}
	o.address = origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		attempts.Add(1)
		o.own.Add(1)
		if rand.IntN(100) >= percent {
			_, _ = io.WriteString(w, name)
			return
		}
		switch o.failed.Add(1) % 3 {
		case 0:
			panic(http.ErrAbortHandler)
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		default:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = io.WriteString(w, "not now")
		}
	}))
	return o
}

// fourOrigins are the endpoints of a service, failing so many of 100 requests each.
func fourOrigins(t testing.TB, percent ...int) (all []*failingOrigin, list string, attempts *atomic.Int64) {
	t.Helper()
	attempts = new(atomic.Int64)
	var addresses []string
	for i, p := range percent {
		all = append(all, startFailing(t, fmt.Sprint("origin ", i), attempts, p))
		addresses = append(addresses, all[i].address)
	}
	return all, strings.Join(addresses, ", "), attempts
}

const retryErrors = "retries: {on: [connect_failure, refused_stream, reset, 5xx]}"

// underBudget watches that there are never more attempts than the budget allows, and returns
// the largest share of repeats.
func underBudget(t testing.TB, attempts *atomic.Int64, begun func() int64) (stop func() float64) {
	quit, done := make(chan struct{}), make(chan float64)
	began := time.Now()
	go func() {
		worst := 0.0
		for over := false; !over; {
			select {
			case <-quit:
				over = true
			case <-time.After(20 * time.Millisecond):
			}
			made := float64(attempts.Load()) // before the requests, which go on
			requests := float64(begun())
			most := 1.2*requests + 3*(10+time.Since(began).Seconds())
			if made > most {
				t.Errorf("%v attempts for %v requests, at most %v", made, requests, most)
				over = true
			}
			if requests > 1000 {
				worst = max(worst, made/requests)
			}
		}
		done <- worst
	}()
	return func() float64 {
		close(quit)
		return <-done
	}
}

// loadOf sends requests over conns connections, and watches the budget.
func loadOf(t testing.TB, p *larboard, attempts *atomic.Int64, requests, conns int) (r load.Result, worst float64) {
	t.Helper()
	var ended atomic.Int64
	stop := underBudget(t, attempts, func() int64 { return min(ended.Load()+int64(conns), int64(requests)) })
	r = load.HTTP(context.Background(), load.Options{Addr: p.address("web"), Requests: requests, Conns: conns,
		Check:     func(*http.Response, []byte) error { ended.Add(1); return nil },
		OnFailure: func(string, error) { ended.Add(1) }})
	return r, stop()
}

// TestRetriesHideAFailingEndpoint: one of four endpoints fails 30 % of its requests; clients
// hardly see it, and the endpoints never get more attempts than the budget allows. Without
// ejection the endpoint keeps its share of the traffic.
func TestRetriesHideAFailingEndpoint(t *testing.T) {
	requests := 8000
	if long() {
		requests = 100_000
	}
	for _, c := range []struct{ name, ejection string }{
		{"retries alone", ""},
		{"and ejection", "ejection: {interval: 1s, success_rate: {requests: 100}}"},
	} {
		t.Run(c.name, func(t *testing.T) {
			origins, list, attempts := fourOrigins(t, 30, 0, 0, 0)
			p := start(t, "proxy", fmt.Sprintf(`
listeners: [{name: web, address: 127.0.0.1:0, service: api}]
services:
- name: api
  endpoints: [%s]
  %s
  %s
`, list, retryErrors, c.ejection))
			r, worst := loadOf(t, p, attempts, requests, 32)
			m := p.scrape()
			t.Logf("%v\n%d attempts (%.4f a request, %.4f at worst); the failing endpoint had %d and failed %d; repeats made %v, over budget %v, spent %v; ejections %v",
				r, attempts.Load(), float64(attempts.Load())/float64(r.Requests), worst, origins[0].own.Load(), origins[0].failed.Load(),
				m.sum("larboard_retries_total", `result="made"`), m.sum("larboard_retries_total", `result="budget"`),
				m.sum("larboard_retries_total", `result="spent"`), m.sum("larboard_ejections_total"))
			allowed := requests / 10_000
			if !long() {
				allowed = 8 // the machine may be busy with other tests, so that a wait for the budget is too long
			}
			if r.Failures() > allowed {
				t.Errorf("%d of %d requests failed: %v", r.Failures(), r.Requests, r.Failed)
			}
			if origins[0].failed.Load() == 0 {
				t.Error("nothing failed")
			}
		})
	}
}

// TestBudgetHoldsTheStorm: every endpoint fails every request, so that each would be made
// three times; the budget lets a fifth of them be repeated. Clients get the endpoint's answer.
func TestBudgetHoldsTheStorm(t *testing.T) {
	requests := 5000
	if long() {
		requests = 100_000
	}
	for _, ejection := range []string{"", "ejection: {consecutive: 5, max_percent: 50}"} {
		_, list, attempts := fourOrigins(t, 100, 100, 100, 100)
		p := start(t, "proxy", fmt.Sprintf(`
listeners: [{name: web, address: 127.0.0.1:0, service: api}]
services:
- name: api
  endpoints: [%s]
  %s
  %s
`, list, retryErrors, ejection))
		began := time.Now()
		r, worst := loadOf(t, p, attempts, requests, 64)
		took := time.Since(began)
		m := p.scrape()
		t.Logf("%v in %v\n%d attempts (%.4f a request, %.4f at worst); repeats made %v, over budget %v, spent %v",
			r, took, attempts.Load(), float64(attempts.Load())/float64(r.Requests), worst,
			m.sum("larboard_retries_total", `result="made"`), m.sum("larboard_retries_total", `result="budget"`), m.sum("larboard_retries_total", `result="spent"`))
		if most := 1.2*float64(r.Requests) + 3*(10+took.Seconds()); float64(attempts.Load()) > most {
			t.Errorf("%d attempts, at most %v", attempts.Load(), most)
		}
		if made := m.sum("larboard_retries_total", `result="made"`); made < float64(r.Requests)/10 {
			t.Errorf("%v repeats: the budget is not used", made)
		}
		if n := m.sum("larboard_retries_active", `service="api"`); n != 0 {
			t.Errorf("%v repeats are thought to be under way", n)
		}
		status, body, header := get(t, "http://"+p.address("web")+"/")
		if own := header.Get("X-Larboard-Reason"); status < 500 || own == "no_healthy_endpoint" {
			t.Errorf("%d %q %s", status, body, own)
		}
	}
}

// TestRetriesAreSeen: by the admin interface and in the metrics; a reload changes them, and a
// route has its own.
func TestRetriesAreSeen(t *testing.T) {
	_, list, attempts := fourOrigins(t, 100, 100, 100, 100)
	file := func(retries string) string {
		return fmt.Sprintf(`
listeners:
- name: web
  address: 127.0.0.1:0
  routes:
  - {match: {path: /once}, service: api, retries: {attempts: 1}}
  - {service: api}
services:
- {name: api, endpoints: [%s], retries: {on: [reset, 5xx], %s}}
`, list, retries)
	}
	p := start(t, "proxy", file("attempts: 4, per_try_timeout: 2s, replay: 8KiB, backoff: {base: 1ms, max: 2ms}"))
	ask := func(path string) int64 {
		before := attempts.Load()
		get(t, "http://"+p.address("web")+path)
		return attempts.Load() - before
	}
	if n := ask("/"); n != 4 {
		t.Errorf("%d attempts of 4", n)
	}
	if n := ask("/once"); n != 1 {
		t.Errorf("%d attempts by a route that makes one", n)
	}
	var v struct {
		Services []struct {
			Retries struct {
				Attempts int
				On       []string
				PerTry   float64 `json:"per_try_seconds"`
				Replay   int     `json:"replay_bytes"`
				Percent  int     `json:"budget_percent"`
				Allowed  int
				Active   int
				Made     int
				Spent    int
			}
		}
	}
	p.view("/api/v1/services", &v)
	r := v.Services[0].Retries
	if fmt.Sprint(r.Attempts, r.On, r.PerTry, r.Replay, r.Percent, r.Allowed, r.Active, r.Made, r.Spent) != "4 [reset status] 2 8192 20 3 0 3 1" {
		t.Errorf("%+v", r)
	}
	m := p.scrape()
	for series, want := range map[string]float64{
		`larboard_retries_active{service="api"}`: 0, `larboard_retry_budget{service="api"}`: 3,
	} {
		if m[series] != want {
			t.Errorf("%s is %v, want %v", series, m[series], want)
		}
	}
	if made := m.sum("larboard_retries_total", `result="made"`); made != 3 {
		t.Errorf("%v repeats counted", made)
	}
	p.configure(file("attempts: 2"))
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if n := ask("/"); n != 2 {
		t.Errorf("%d attempts of 2", n)
	}
}
