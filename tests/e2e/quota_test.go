package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// rateLimitService is one of Envoy's protocol, which counts up to a limit for each value of the key
// tenant, and can be made to hang and to refuse.
type rateLimitService struct {
	ratelimitv3.UnimplementedRateLimitServiceServer
	limit int
	reset time.Duration
	mode  atomic.Value // fine, hangs, refuses
	asked atomic.Int64

	mu   sync.Mutex
	seen map[string]int
}

func (s *rateLimitService) ShouldRateLimit(ctx context.Context, q *ratelimitv3.RateLimitRequest) (*ratelimitv3.RateLimitResponse, error) {
	s.asked.Add(1)
	switch s.mode.Load() {
	case "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	case "refuses":
		return nil, status.Error(codes.Unavailable, "not today")
	}
	r := &ratelimitv3.RateLimitResponse{OverallCode: ratelimitv3.RateLimitResponse_OK}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range q.Descriptors {
		one := &ratelimitv3.RateLimitResponse_DescriptorStatus{Code: ratelimitv3.RateLimitResponse_OK}
		for _, e := range d.Entries {
			if e.Key != "tenant" {
				continue
			}
			key := q.Domain + " " + e.Value
			one.CurrentLimit = &ratelimitv3.RateLimitResponse_RateLimit{RequestsPerUnit: uint32(s.limit), Unit: ratelimitv3.RateLimitResponse_RateLimit_HOUR}
			one.DurationUntilReset = durationpb.New(s.reset)
			if s.seen[key] += int(q.HitsAddend); s.seen[key] > s.limit {
				one.Code, r.OverallCode = ratelimitv3.RateLimitResponse_OVER_LIMIT, ratelimitv3.RateLimitResponse_OVER_LIMIT
			} else {
				one.LimitRemaining = uint32(s.limit - s.seen[key])
			}
		}
		r.Statuses = append(r.Statuses, one)
	}
	return r, nil
}

// serve runs the service on a Unix socket until the function that it returns, or the test, ends it.
func (s *rateLimitService) serve(t *testing.T, socket string) (stop func()) {
	t.Helper()
	if s.seen == nil {
		s.seen = map[string]int{}
		s.mode.Store("fine")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	ratelimitv3.RegisterRateLimitServiceServer(server, s)
	done := make(chan struct{})
	go func() {
		_ = server.Serve(l)
		close(done)
	}()
	stop = sync.OnceFunc(func() {
		server.Stop()
		<-done
	})
	t.Cleanup(stop)
	return stop
}

// Two proxies share the limits of one service.
func TestSharedRateLimit(t *testing.T) {
	socket := filepath.Join(shortDir(t), "limits.sock")
	s := &rateLimitService{limit: 4, reset: time.Hour}
	s.serve(t, socket)
	configuration := fmt.Sprintf(`
rate_limit_service: {address: "unix://%s", timeout: 10s, on_failure: deny, remember: 1h}
rate_limit_fields: always
listeners:
- name: in
  address: 127.0.0.1:0
  service: app
  limits:
  - {name: own, rate: 1000/h}
  - name: tenants
    shared: {domain: shop, descriptors: [path, [{key: tenant, header: X-Tenant}, method]]}
services: [{name: app, endpoints: [%q]}]
`, socket, origin(t, named("app")))
	one, two := start(t, "one", configuration), start(t, "two", configuration)
	for i, c := range []struct {
		p      *larboard
		tenant string
		want   int
		says   string
	}{
		{one, "blue", 200, `"tenants";r=3;t=3600`}, {two, "blue", 200, `"tenants";r=2;t=3600`}, {one, "green", 200, `"tenants";r=3;t=3600`},
		{two, "blue", 200, `"tenants";r=1;t=3600`}, {one, "blue", 200, `"tenants";r=0;t=3600`},
		{one, "blue", 429, `"tenants";r=0;t=3600`}, {two, "blue", 429, `"tenants";r=0;t=3600`}, {two, "green", 200, `"tenants";r=2;t=3600`},
		{one, "", 200, `"own";r=`}, // asks about the path alone, which has no limit
	} {
		fields := ""
		if c.tenant != "" {
			fields = "X-Tenant: " + c.tenant + "\r\n"
		}
		resp := answer(t, c.p.address("in"), "/x", fields)
		if got := resp.Header.Get("Ratelimit"); resp.StatusCode != c.want || !strings.HasPrefix(got, c.says) {
			t.Errorf("%d: %d %q, want %d %q", i, resp.StatusCode, got, c.want, c.says)
		}
		if c.want == 429 && (resp.Header.Get("Retry-After") != "3600" || resp.Header.Get("X-Larboard-Reason") != "rate_limited") {
			t.Errorf("%d: %v", i, resp.Header)
		}
	}
	// What is over its limit is not asked about again.
	before := s.asked.Load()
	for range 20 {
		if resp := answer(t, one.address("in"), "/x", "X-Tenant: blue\r\n"); resp.StatusCode != 429 {
			t.Errorf("status %d", resp.StatusCode)
		}
	}
	if n := s.asked.Load() - before; n != 0 {
		t.Errorf("asked %d times about what is known", n)
	}
	m := one.scrape()
	if ok, over, known := m.sum("larboard_quota_requests_total", `result="ok"`), m.sum("larboard_quota_requests_total", `result="over_limit"`), m.sum("larboard_quota_requests_total", `result="known"`); ok != 4 || over != 1 || known != 20 {
		t.Errorf("counted %v ok, %v over, %v known; want 4, 1, 20", ok, over, known)
	}
	if n := m.sum("larboard_limited_total", `limit="tenants"`, `listener="in"`); n != 21 {
		t.Errorf("%v limited, want 21", n)
	}
}

// A service that is not there, does not answer, or refuses, costs no more than it may, and what it
// comes to is as configured; it is used again when it is back.
func TestRateLimitServiceThatFails(t *testing.T) {
	for _, c := range []struct {
		onFailure string
		want      int
	}{{"allow", 200}, {"deny", 503}} {
		t.Run(c.onFailure, func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(shortDir(t), "limits.sock")
			p := start(t, "proxy", fmt.Sprintf(`
rate_limit_service: {address: "unix://%s", timeout: 300ms, on_failure: %s}
listeners: [{name: in, address: 127.0.0.1:0, service: app, limits: [{name: tenants, shared: {descriptors: [path]}}, {name: own, rate: 1000000/h}]}]
services: [{name: app, endpoints: [%q]}]
`, socket, c.onFailure, origin(t, named("app"))))
			in := p.address("in")
			fails := func(how, result string) {
				t.Helper()
				for range 5 {
					begin := time.Now()
					resp := answer(t, in, "/", "")
					if resp.StatusCode != c.want || c.want == 503 && resp.Header.Get("X-Larboard-Reason") != "quota_unavailable" {
						t.Errorf("%s: %d %v", how, resp.StatusCode, resp.Header)
					}
					if took := time.Since(begin); took > claimed(400*time.Millisecond) {
						t.Errorf("%s: a request took %v", how, took)
					}
				}
				if n := p.scrape().sum("larboard_quota_requests_total", `result="`+result+`"`); n < 1 {
					t.Errorf("%s: %v counted as %s", how, n, result)
				}
			}
			answers := func(s *rateLimitService) {
				t.Helper()
				eventually(t, patience, "the service is asked and answers", func() error {
					before := s.asked.Load()
					if resp := answer(t, in, "/", ""); resp.StatusCode != 200 || s.asked.Load() == before {
						return fmt.Errorf("status %d, asked %d times", resp.StatusCode, s.asked.Load()-before)
					}
					return nil
				})
			}
			fails("absent", "error")
			p.waitLog("rate limit service does not answer")
			s := &rateLimitService{limit: 1 << 30, reset: time.Hour}
			stop := s.serve(t, socket)
			answers(s)
			p.waitLog("rate limit service answers again")
			s.mode.Store("hangs")
			fails("slow", "timeout")
			s.mode.Store("refuses")
			fails("refusing", "error")
			s.mode.Store("fine")
			answers(s)
			stop()
			fails("gone", "error")
			s.serve(t, socket)
			answers(s)
			if c.want == 503 { // what failed took nothing from the proxy's own limit
				var v struct {
					RateLimits []struct {
						Name    string
						Allowed int
					} `json:"rate_limits"`
				}
				p.view("/api/v1/limits", &v)
				ok := p.scrape().sum("larboard_quota_requests_total", `result="ok"`)
				if len(v.RateLimits) != 1 || float64(v.RateLimits[0].Allowed) != ok {
					t.Errorf("own: %+v, and %v passed", v.RateLimits, ok)
				}
			}
		})
	}
}

// Another service takes over at a reload, without a request that fails.
func TestRateLimitServiceChangesAtReload(t *testing.T) {
	dir := shortDir(t)
	services := map[string]*rateLimitService{}
	for _, name := range []string{"a", "b"} {
		services[name] = &rateLimitService{limit: 1 << 30, reset: time.Hour}
		services[name].serve(t, filepath.Join(dir, name))
	}
	app := origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	configuration := func(service string) string {
		return fmt.Sprintf("%s\nlisteners: [{name: in, address: 127.0.0.1:0, service: app%s}]\nservices: [{name: app, endpoints: [%q]}]\n", service,
			map[bool]string{true: ", limits: [{shared: {descriptors: [path]}}]"}[service != ""], app)
	}
	at := func(name string) string {
		return fmt.Sprintf("rate_limit_service: {address: \"unix://%s\", timeout: 10s, on_failure: deny}", filepath.Join(dir, name))
	}
	p := start(t, "proxy", configuration(at("a")))
	in := p.address("in")
	for i, name := range []string{"a", "b", "", "a"} {
		text := ""
		if name != "" {
			text = at(name)
		}
		p.configure(configuration(text))
		if status, body := p.reload(); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
		before := map[string]int64{"a": services["a"].asked.Load(), "b": services["b"].asked.Load()}
		for range 5 {
			if resp := answer(t, in, "/", ""); resp.StatusCode != 200 {
				t.Errorf("%d: status %d", i, resp.StatusCode)
			}
		}
		for other, s := range services {
			if n := s.asked.Load() - before[other]; (n == 5) != (other == name) || n != 0 && other != name {
				t.Errorf("%d: %s was asked %d times", i, other, n)
			}
		}
	}
}
