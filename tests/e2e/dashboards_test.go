package e2e

import (
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/larboard-proxy/larboard/tests/deploy"
	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// TestDashboardsAndRulesHaveData: after a story like the demo's, with a real Consul and
// scraped by a real Prometheus, every panel and every rule of deploy/ shows something.
func TestDashboardsAndRulesHaveData(t *testing.T) {
	t.Parallel()
	expressions, err := deploy.Expressions("../../deploy")
	if err != nil {
		t.Fatal(err)
	}
	var rules []string
	for _, name := range deploy.RuleFiles() {
		path, err := filepath.Abs(filepath.Join("../../deploy/prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, path)
	}
	s := newStory(t)
	server := real.Prometheus(t, rules, s.admin...)
	s.tell()
	late := time.Now().Add(2 * patience) // for all of them
	for _, e := range expressions {
		if err := poll(time.Until(late), func() error { return hasData(server, e.Query) }); err != nil {
			t.Errorf("%s: %v: %s", e.Where, err, e.Query)
		}
	}
	s.load.endClean()
	t.Logf("%d queries and rules", len(expressions))
}

// hasData is nil where a query has at least one sample that is a number.
func hasData(server *real.PrometheusServer, query string) error {
	samples, err := server.Query(query)
	if err != nil {
		return err
	}
	for _, s := range samples {
		if v, err := strconv.ParseFloat(s.Value, 64); err == nil && !math.IsNaN(v) {
			return nil
		}
	}
	return fmt.Errorf("no data in %d series", len(samples))
}

// story is a mesh on Consul, whose admin addresses Prometheus scrapes: web calls api,
// which has two instances, calls by gRPC and db by TCP.
type story struct {
	*connect
	admin     []string
	web       *larboard
	api       [2]*larboard
	db, calls *larboard
	// Endpoints: one that breaks the rules of HTTP/2, one that always fails, one that does not.
	liar, bad, good string
	load            *traffic

	configuration string // of web
}

func newStory(t *testing.T) *story {
	t.Helper()
	s := &story{connect: newConnect(t, real.ConsulOptions{}), liar: liar(t), good: origin(t, named("good"))}
	s.bad = origin(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "bad", http.StatusInternalServerError) }))
	for i := range s.api { // nobody takes their spans
		s.api[i] = s.member("api", fmt.Sprint("api-", i+1), "http", origin(t, http.HandlerFunc(answerAs)), "tracing: {otlp: {endpoint: http://127.0.0.1:1, timeout: 1s}, sample: 100%}\n")
	}
	s.db = s.member("db", "db-1", "tcp", echo(t), "metrics: {series: 10}\n")
	s.calls = s.member("calls", "calls-1", "http", newCallee(t, "calls").address)
	s.configuration = s.common() + s.scraped() + s.caller()
	s.web = start(t, "web", s.configuration)
	awaitEndpoints(t, s.web, 9)
	return s
}

// scraped is the part of a configuration that Prometheus needs.
func (s *story) scraped() string {
	address := freeAddress(s.t)
	s.admin = append(s.admin, address)
	return fmt.Sprintf("admin: {address: %q, socket: admin.sock}\naccess_log: {path: /dev/null, format: json}\n", address)
}

func (s *story) member(service, id, protocol, workload string, more ...string) *larboard {
	s.t.Helper()
	return start(s.t, id, s.common()+s.scraped()+fmt.Sprintf(
		"identity: {consul: {}}\nworkload: {service: %s, address: %q, listen: 127.0.0.1:0, protocol: %s, intentions: true, register: {id: %s, check: {tcp: true, interval: 1s}}}\n",
		service, workload, protocol, id)+strings.Join(more, ""))
}

func (s *story) caller() string {
	return "identity: {consul: {service: web}}\n" +
		"rate_limit_service: 127.0.0.1:1\n" + // where nobody is
		fmt.Sprintf("tracing: {otlp: {endpoint: %q}, sample: 100%%}\n", "http://"+s.good) +
		fmt.Sprintf("metrics: {otlp: {endpoint: %q, interval: 1s}}\n", "http://"+s.good) +
		"upstreams: [{service: api, bind: 127.0.0.1:0}, {service: calls, bind: 127.0.0.1:0}, {service: db, bind: 127.0.0.1:0, protocol: tcp}]\n" +
		"listeners:\n- {name: liar, address: 127.0.0.1:0, direction: outbound, service: liar, max_connections: 100}\n" +
		"- {name: failing, address: 127.0.0.1:0, direction: outbound, routes: [{match: {path_prefix: /breaker}, service: broken}, {match: {path_prefix: /budget}, service: tired}, " +
		"{match: {path_prefix: /limit}, service: mixed, limits: [{name: one, rate: 1/s}, {shared: {domain: larboard, descriptors: [{key: path}]}}]}, {service: mixed}]}\n" +
		fmt.Sprintf("services:\n- {name: liar, protocol: http2, endpoints: [%q], ejection: {consecutive: 2}}\n", s.liar) +
		fmt.Sprintf("- {name: broken, endpoints: [%q], breaker: {failures: 3, open: 10m}}\n", s.bad) +
		fmt.Sprintf("- {name: tired, endpoints: [%q], retries: {on: 5xx, budget: {percent: 0, min: 0}}}\n", s.bad) +
		fmt.Sprintf("- {name: mixed, endpoints: [%q, %q], ejection: {consecutive: 3, time: 5m}}\n", s.bad, s.good)
}

// answerAs answers with the status that the path names.
func answerAs(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	if status, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/")); err == nil {
		w.WriteHeader(status)
	}
	_, _ = io.WriteString(w, "api")
}

// tell lets happen what dashboards and alerts are about. Requests for api go on.
func (s *story) tell() {
	s.t.Helper()
	s.load = send(s.t, load.Options{Addr: s.web.address("api"), Host: "api", Rate: 50})
	over2, calls := http2Client(s.t), newGRPCCaller(s.t, s.web.address("calls"))
	for range 20 {
		s.must(gotten(over2, "http://"+s.web.address("api")+"/200", http.StatusOK))
		s.must(gotten(over2, "http://"+s.web.address("api")+"/500", http.StatusInternalServerError))
		s.must(saidBack(calls, "hello"))
		if _, err := calls.say(s.t.Context(), "fail 5"); status.Code(err) != codes.NotFound {
			s.t.Errorf("gRPC: %v, want NotFound", err)
		}
	}
	s.stranger()
	s.hostile()
	s.failing()
	s.deny()
	s.reloads()
	s.api[1].kill()
	s.load.await(200)
}

func (s *story) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Error(err)
	}
}

// until does something again and again until a counter has risen.
func (s *story) until(p *larboard, metric string, do func() error) {
	s.t.Helper()
	eventually(s.t, patience, p.name+" counts "+metric, func() error {
		if err := do(); err != nil {
			return err
		}
		if p.scrape().sum(metric) == 0 {
			return errors.New("nothing is counted")
		}
		return nil
	})
}

// stranger speaks plain text to the mesh.
func (s *story) stranger() {
	s.t.Helper()
	s.until(s.api[0], "larboard_refused_total", func() error {
		c, err := net.Dial("tcp", s.api[0].address("inbound"))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: api\r\n\r\n")
		_, _ = io.Copy(io.Discard, c) // to the end, which may be a reset
		return nil
	})
}

// hostile is a client that breaks the rules of HTTP/2, and an endpoint that does.
func (s *story) hostile() {
	s.t.Helper()
	s.until(s.web, "larboard_http2_abuse_total", func() error {
		c, err := net.Dial("tcp", s.web.address("api"))
		if err != nil {
			return err
		}
		defer c.Close()
		go io.Copy(io.Discard, c)
		h := newIntruder(c)
		for n := 0; n < 2000 && h.err == nil; n++ {
			h.reset(h.open("GET", "/200"))
		}
		return nil
	})
	s.until(s.web, "larboard_upstream_http2_abuse_total", func() error {
		return gotten(http.DefaultClient, "http://"+s.web.address("liar")+"/", http.StatusBadGateway)
	})
}

// failing endpoints open their breaker, are ejected, or would be.
func (s *story) failing() {
	s.t.Helper()
	for path, metric := range map[string]string{"/breaker": "larboard_breaker_changes_total", "/": "larboard_ejections_total", "/budget": "larboard_retries_total", "/limit": "larboard_limited_total"} {
		s.until(s.web, metric, func() error { return sent("http://" + s.web.address("failing") + path) })
	}
	s.until(s.web, "larboard_ejections_capped_total", func() error { return sent("http://" + s.web.address("liar") + "/") })
}

// sent is nil where a GET is answered, whatever with.
func sent(url string) error {
	resp, err := http.Get(url)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return err
}

// deny takes a connection's permission away while it lives.
func (s *story) deny() {
	s.t.Helper()
	conn := echoed(s.t, s.web.address("db"))
	s.agent.Intend("db", real.Source{Name: "web", Action: "deny"})
	cut(s.t, conn, time.Now())
	eventually(s.t, patience, "the cut is counted", func() error {
		if s.db.scrape().sum("larboard_connections_cut_total") == 0 {
			return errors.New("nothing is counted")
		}
		return nil
	})
}

// reloads are one that is applied and one that is refused.
func (s *story) reloads() {
	s.t.Helper()
	for text, want := range map[string]int{s.configuration + "# as before\n": 200, "listener: []\n" + s.configuration: 422} {
		s.web.configure(text)
		if status, body := s.web.reload(); status != want {
			s.t.Errorf("reload: %d %s, want %d", status, body, want)
		}
	}
	s.web.configure(s.configuration)
}

// gotten is nil where a GET is answered with a status.
func gotten(c *http.Client, url string, want int) error {
	resp, err := c.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != want {
		return fmt.Errorf("%s: %s, want %d; %w", url, resp.Status, want, err)
	}
	return nil
}

// liar is an endpoint that promises to push, which no server may to a proxy that has
// forbidden it.
func liar(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				frames := http2.NewFramer(c, c)
				if _, err := io.ReadFull(c, make([]byte, len(http2.ClientPreface))); err != nil || frames.WriteSettings() != nil {
					return
				}
				for {
					f, err := frames.ReadFrame()
					if err != nil {
						return
					}
					if f.Header().Type == http2.FrameHeaders {
						_ = frames.WritePushPromise(http2.PushPromiseParam{StreamID: f.Header().StreamID, PromiseID: 2, EndHeaders: true}) // seen by its end
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}
