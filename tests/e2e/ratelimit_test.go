package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// answer asks for a path with these fields ("Name: value\r\n") over a connection of its own.
func answer(t testing.TB, address, path, fields string) *http.Response {
	t.Helper()
	c := dialCaller(t, address)
	defer c.conn.Close()
	if err := c.conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c.conn, "GET "+path+" HTTP/1.1\r\nHost: app\r\n"+fields+"\r\n"); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(c.in, nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// Limits of a listener, a route and a service hold at once, and what they refuse is told in answers,
// metrics, the access log and the admin API.
func TestRateLimitsOfEveryPlace(t *testing.T) {
	app := origin(t, named("app"))
	p := start(t, "proxy", fmt.Sprintf(`
access_log: {path: stdout, format: json}
rate_limit_fields: always
listeners:
- name: web
  address: 127.0.0.1:0
  limits: [{name: whole, rate: 8/h}]
  routes:
  - {match: {path_prefix: /search}, service: app, limits: [{name: by-key, rate: 2/h, by: {header: X-Api-Key}}]}
  - {service: app}
- {name: other, address: 127.0.0.1:0, service: app}
services:
- {name: app, endpoints: [%q], limits: [{name: capacity, rate: 10/h}]}
`, app))
	web, other := p.address("web"), p.address("other")
	ask := func(address, path, fields string, status int, says string) {
		t.Helper()
		resp := answer(t, address, path, fields)
		if got := resp.Header.Get("Ratelimit"); resp.StatusCode != status || !strings.HasPrefix(got, says) {
			t.Errorf("%s %s: %d %q, want %d %q", path, strings.TrimSpace(fields), resp.StatusCode, got, status, says)
		}
		if after, _ := strconv.Atoi(resp.Header.Get("Retry-After")); (status == 429) != (after > 0) {
			t.Errorf("%s: retry after %d", path, after)
		}
	}
	ask(web, "/search/a", "X-Api-Key: a\r\n", 200, `"by-key";r=1;t=`)
	ask(web, "/search/b", "X-Api-Key: a\r\n", 200, `"by-key";r=0;t=`)
	ask(web, "/search/c", "X-Api-Key: a\r\n", 429, `"by-key";r=0;t=`)
	ask(web, "/search/d", "X-Api-Key: b\r\n", 200, `"by-key";r=1;t=`)
	for i := range 5 { // what by-key has refused was taken from nobody else
		ask(web, "/", "", 200, fmt.Sprintf(`"whole";r=%d;t=`, 4-i))
	}
	ask(web, "/", "", 429, `"whole";r=0;t=`)
	ask(other, "/", "", 200, `"capacity";r=1;t=`)
	ask(other, "/", "", 200, `"capacity";r=0;t=`)
	ask(other, "/", "", 429, `"capacity";r=0;t=`)

	m := p.scrape()
	for series, want := range map[string]float64{
		`larboard_limited_total{limit="by-key",listener="web"}`: 1, `larboard_limited_total{limit="whole",listener="web"}`: 1,
		`larboard_limited_total{limit="capacity",listener="other"}`: 1,
		`larboard_limit_keys{limit="by-key"}`:                       2, `larboard_limit_keys{limit="whole"}`: 1, `larboard_limit_evicted_total{limit="by-key"}`: 0,
	} {
		if got, there := m[series]; got != want || !there {
			t.Errorf("%s is %v (%v), want %v", series, got, there, want)
		}
	}
	eventually(t, patience, "the records of the three that were refused", func() error { // which come after the answers
		if n := p.scrape().sum("larboard_requests_total", `reason="rate_limited"`, `code_class="4xx"`); n != 3 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	eventually(t, patience, "the access log names the limit", func() error {
		if n := strings.Count(p.stdout.String(), `limit \"by-key\"`); n != 1 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	var v struct {
		RateLimits []struct {
			Place, Name           string
			Keys, Allowed, Denied int
		} `json:"rate_limits"`
	}
	p.view("/api/v1/limits", &v)
	if got := fmt.Sprint(v.RateLimits); got != "[{service app capacity capacity 1 10 1} {listener web whole whole 1 8 1} {route web /search by-key by-key 2 3 1}]" {
		t.Errorf("/api/v1/limits: %s", got)
	}
}

// Buckets live on over a reload that does not change their limit, and begin anew with one that does.
func TestRateLimitsOutliveReloads(t *testing.T) {
	configuration := func(rate, other string) string {
		return fmt.Sprintf("%s\nlisteners: [{name: in, address: 127.0.0.1:0, service: app, limits: [{name: mine, rate: %s}%s]}]\nservices: [{name: app, endpoints: [%q]}]\n",
			"timeouts: {connect: 2s}", rate, other, origin(t, named("app")))
	}
	p := start(t, "proxy", configuration("2/h", ""))
	in := p.address("in")
	statuses := func() (all []int) {
		for range 3 {
			all = append(all, answer(t, in, "/", "").StatusCode)
		}
		return all
	}
	for i, c := range []struct{ configuration, want string }{
		{"", "[200 200 429]"},
		{configuration("2/h", ""), "[429 429 429]"},                          // another endpoint
		{configuration("2/h", ", {name: also, rate: 1/h}"), "[429 429 429]"}, // which loses nothing to mine
		{configuration("3/h", ""), "[200 200 200]"},
		{configuration("2/h", ""), "[200 200 429]"},
	} {
		if c.configuration != "" {
			p.configure(c.configuration)
			if status, body := p.reload(); status != 200 {
				t.Fatalf("reload: %d %s", status, body)
			}
		}
		if got := fmt.Sprint(statuses()); got != c.want {
			t.Errorf("%d: %s, want %s", i, got, c.want)
		}
	}
}

// A caller is known by what it has proven, whatever proxy it comes from.
func TestRateLimitByIdentity(t *testing.T) {
	state := filepath.Join(shortDir(t), "authority")
	identity := func(service string) string {
		return fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", state, service)
	}
	called := start(t, "called", identity("api")+fmt.Sprintf(
		"workload: {service: api, address: %q, listen: 127.0.0.1:0, limits: [{rate: 2/h, by: identity}]}\n", origin(t, named("api"))))
	upstream := fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]\n", called.address("inbound"))
	var callers []string
	for i, service := range []string{"web", "web", "shop"} {
		callers = append(callers, start(t, fmt.Sprint("caller ", i), identity(service)+upstream).address("api"))
	}
	for i, c := range []struct{ caller, want int }{{0, 200}, {1, 200}, {0, 429}, {1, 429}, {2, 200}, {2, 200}, {2, 429}} {
		resp := answer(t, callers[c.caller], "/", "")
		if resp.StatusCode != c.want {
			t.Errorf("%d: caller %d got %d, want %d", i, c.caller, resp.StatusCode, c.want)
		}
		if c.want == 429 && (resp.Header.Get("X-Larboard-Reason") != "rate_limited" || resp.Header.Get("Retry-After") == "" ||
			!strings.HasPrefix(resp.Header.Get("Ratelimit"), `"inbound.identity";r=0`)) {
			t.Errorf("%d: %v", i, resp.Header)
		}
	}
	if n := called.scrape().sum("larboard_limited_total", `listener="inbound"`, `limit="inbound.identity"`); n != 3 {
		t.Errorf("%v counted, want 3", n)
	}
}

// gRPC clients see a status, and go on over the connection that they have.
func TestRateLimitOfCalls(t *testing.T) {
	p := start(t, "proxy", fmt.Sprintf(
		"listeners: [{name: in, address: 127.0.0.1:0, service: calls, limits: [{name: calls, rate: 2/h}]}]\nservices: [{name: calls, endpoints: [%q]}]\n",
		newCallee(t, "a").address))
	c := newGRPCCaller(t, p.address("in"))
	for i := range 4 {
		var header, trailer metadata.MD
		text, err := c.say(t.Context(), "echo hello", grpc.Header(&header), grpc.Trailer(&trailer))
		if i < 2 {
			if err != nil || text != "hello from a" {
				t.Errorf("%d: %q, %v", i, text, err)
			}
			continue
		}
		mustFail(t, err, codes.ResourceExhausted, "rate_limited: ")
		told := metadata.Join(header, trailer)
		if got := told.Get("ratelimit"); len(got) != 1 || !strings.HasPrefix(got[0], `"calls";r=0;t=`) || len(told.Get("retry-after")) != 1 {
			t.Errorf("%d: %v", i, told)
		}
	}
	if n := c.dials.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	eventually(t, patience, "two calls are counted", func() error {
		if n := p.scrape().sum("larboard_grpc_requests_total", `grpc_status="RESOURCE_EXHAUSTED"`); n != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
}

// flood asks over n connections, each as fast as it is answered, until stopped.
type flood struct {
	mu       sync.Mutex
	allowed  []span // in no order
	refused  []span
	failures []error
}

// span is one exchange, from before it was sent to after it was answered.
type span struct{ sent, answered time.Time }

func (f *flood) run(address string, stop <-chan struct{}) {
	err := func() error {
		conn, err := net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		defer conn.Close()
		in := bufio.NewReader(conn)
		for {
			select {
			case <-stop:
				return nil
			default:
			}
			s := span{sent: time.Now()}
			conn.SetDeadline(s.sent.Add(patience))
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
				return err
			}
			resp, err := http.ReadResponse(in, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if err != nil {
				return err
			}
			s.answered = time.Now()
			f.mu.Lock()
			switch resp.StatusCode {
			case 200:
				f.allowed = append(f.allowed, s)
			case 429:
				f.refused = append(f.refused, s)
			default:
				err = fmt.Errorf("status %d", resp.StatusCode)
			}
			f.mu.Unlock()
			if err != nil {
				return err
			}
		}
	}()
	if err != nil {
		f.mu.Lock()
		f.failures = append(f.failures, err)
		f.mu.Unlock()
	}
}

// Two loops let pass what the limit says, and nothing else, for as long as they are asked too much. What
// is claimed for 60 seconds is held by the clock of the client, whose idea of when the proxy decided is
// as good as the time of an answer: the bounds below are exact whatever the machine does.
func TestRateLimitIsExactOnTwoLoops(t *testing.T) {
	const (
		rate        = 200
		burst       = 1000 // five seconds: nothing is lost while the machine does something else
		connections = 32
	)
	p := start(t, "proxy", fmt.Sprintf(
		"loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: app, limits: [{rate: %d/s, burst: %d}]}]\nservices: [{name: app, endpoints: [%q]}]\n",
		rate, burst, origin(t, named("app"))))
	var f flood
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range connections {
		clients.Go(func() { f.run(p.address("in"), stop) })
	}
	eventually(t, patience, "the burst is used up", func() error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if len(f.refused) == 0 {
			return fmt.Errorf("%d allowed", len(f.allowed))
		}
		return nil
	})
	timer := time.NewTimer(either(3*time.Second, 60*time.Second)) // what the claim is about
	<-timer.C
	m := p.scrape()
	close(stop)
	clients.Wait()
	for _, err := range f.failures {
		t.Error(err)
	}
	for loop := range 2 {
		if n := m.sum("larboard_engine_connections", fmt.Sprintf(`loop="%d"`, loop)); n < 2 {
			t.Errorf("loop %d has %v connections", loop, n)
		}
	}
	// The earliest and the latest that the proxy can have begun, and the last moment at which the bucket
	// was known to be empty.
	begin, began, end, empty := f.allowed[0].sent, f.allowed[0].answered, time.Time{}, time.Time{}
	for _, s := range f.allowed {
		begin, began = earliest(begin, s.sent), earliest(began, s.answered)
		end = latest(end, s.answered)
	}
	for _, s := range f.refused {
		empty = latest(empty, s.sent)
	}
	until := 0
	for _, s := range f.allowed {
		if !s.sent.After(empty) {
			until++
		}
	}
	most := burst + rate*end.Sub(begin).Seconds()
	least := burst + rate*empty.Sub(began).Seconds()
	t.Logf("%d allowed, %d refused in %v; %.1f at most, %.1f at least", len(f.allowed), len(f.refused), end.Sub(begin), most, least)
	if n := float64(len(f.allowed)); n > most*1.001+2 {
		t.Errorf("%v allowed, where %.1f may be", n, most)
	}
	if n := float64(until); n < least*0.99-2 {
		t.Errorf("%v allowed, where %.1f should be", n, least)
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// Keys that never come twice fill the table to its bound and the memory to what the manual says.
func TestRateLimitMemoryOfManyKeys(t *testing.T) {
	const (
		megabytes = 64  // what they may take, the collector's share included
		batch     = 100 // requests that are sent at once
		clients   = 4
	)
	bound, keys := 20_000, 26_000
	if long() {
		bound, keys = 100_000, 1_000_000
	}
	p := start(t, "proxy", fmt.Sprintf(
		"listeners: [{name: in, address: 127.0.0.1:0, service: app, limits: [{name: keys, rate: 1/h, by: {header: x-key}, keys: %d}]}]\nservices: [{name: app, endpoints: [%q]}]\n",
		bound, origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))))
	padding := strings.Repeat("x", 200) // the table keeps none of it
	ask := func(c *caller, from, to int) error {
		for ; from < to; from += batch {
			var out bytes.Buffer
			for i := from; i < from+batch; i++ {
				fmt.Fprintf(&out, "HEAD / HTTP/1.1\r\nHost: app\r\nX-Key: %s%d\r\n\r\n", padding, i)
			}
			c.conn.SetDeadline(time.Now().Add(patience))
			if _, err := c.conn.Write(out.Bytes()); err != nil {
				return err
			}
			for range batch {
				resp, err := http.ReadResponse(c.in, &http.Request{Method: "HEAD"})
				if err != nil {
					return err
				}
				if resp.StatusCode != 200 {
					return fmt.Errorf("status %d for a key that is new", resp.StatusCode)
				}
			}
		}
		return nil
	}
	askAll := func(from, to int) {
		t.Helper()
		var asking sync.WaitGroup
		for i := range clients {
			c, part := dialCaller(t, p.address("in")), (to-from)/clients
			asking.Go(func() {
				if err := ask(c, from+i*part, from+(i+1)*part); err != nil {
					t.Error(err)
				}
			})
		}
		asking.Wait()
	}
	askAll(0, 2000)
	before := p.vitals()
	askAll(2000, keys)
	after := p.vitals()
	t.Logf("before %v, after %d keys %v", before, keys, after)
	if grown := after.memory - before.memory; grown > megabytes<<20 {
		t.Errorf("%.1f MiB more, %d MiB may be", mib(grown), megabytes)
	}
	m := p.scrape()
	n, evicted := m[`larboard_limit_keys{limit="keys"}`], m[`larboard_limit_evicted_total{limit="keys"}`]
	if n < float64(bound) || n > float64(bound+64) || n+evicted != float64(keys) {
		t.Errorf("%v keys are kept and %v were given up; want %d of %d kept", n, evicted, bound, keys)
	}
}

// Connections above the rate are closed before anything else: before a TLS handshake, and whatever is
// spoken.
func TestConnectionRate(t *testing.T) {
	cert, key := pki.Write(t, filepath.Join(shortDir(t), "site"), pki.SelfSigned(t, "localhost"))
	p := start(t, "proxy", fmt.Sprintf(`
listeners:
- {name: http, address: 127.0.0.1:0, service: app, connection_rate: 3/h}
- {name: tls, address: 127.0.0.1:0, service: app, connection_rate: {rate: 3/h, by: source}, tls: {certificates: [{cert: %q, key: %q}]}}
- {name: tcp, address: 127.0.0.1:0, protocol: tcp, service: app, connection_rate: {rate: 1/h, burst: 3, by: source}}
services: [{name: app, endpoints: [%q]}]
`, cert, key, origin(t, named("app"))))
	for _, listener := range []string{"http", "tls", "tcp"} {
		address, open := p.address(listener), 0
		for range 6 {
			conn, err := net.DialTimeout("tcp", address, patience)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(patience))
			if listener == "tls" { // who is heard has a certificate to refuse
				var refused *tls.CertificateVerificationError
				if errors.As(tls.Client(conn, &tls.Config{ServerName: "localhost"}).Handshake(), &refused) {
					open++
				}
				continue
			}
			_, _ = io.WriteString(conn, "GET / HTTP/1.1\r\nHost: app\r\n\r\n")
			if n, _ := conn.Read(make([]byte, 100)); n > 0 {
				open++
			}
		}
		if open != 3 {
			t.Errorf("%s: %d connections were heard, want 3", listener, open)
		}
		eventually(t, patience, "they are counted", func() error {
			m := p.scrape()
			limited := m.sum("larboard_limited_total", fmt.Sprintf(`listener="%s"`, listener), fmt.Sprintf(`limit="%s.connections"`, listener))
			refused := m.sum("larboard_refused_total", fmt.Sprintf(`listener="%s"`, listener), `reason="connection_rate"`)
			if limited != 3 || refused != 3 {
				return fmt.Errorf("%v limited, %v refused", limited, refused)
			}
			return nil
		})
	}
	p.waitLog("reason=connection_rate")
}
