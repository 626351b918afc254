package compose

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/deploy"
	"github.com/larboard-proxy/larboard/tests/real"
)

// TestStack: the whole of deploy/compose comes up, its services call each other over mutual TLS,
// Consul, Prometheus and Jaeger know about it, and the loss of an instance costs nobody anything.
func TestStack(t *testing.T) {
	t.Parallel()
	s := start(t)
	s.more("web", 30)
	s.more("api-1", 10)
	s.more("api-2", 10)
	t.Run("identities", s.identities)
	t.Run("consul", s.registered)
	t.Run("jaeger", s.traced)
	t.Run("failures", s.failures)
	t.Run("manual", s.manual)
	t.Run("prometheus", s.measured)
}

// line is what is looked at of a line of an access log.
type line struct {
	Listener, Direction, Service string
	Status                       int
	Peer                         string `json:"peer_id"`
	Trace                        string `json:"trace_id"`
}

// lines are those of a proxy's access log.
func (s *stack) lines(service string) (all []line) {
	for text := range strings.Lines(s.Logs(service)) {
		var l line
		if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &l) == nil {
			all = append(all, l)
		}
	}
	return all
}

// Each callee has seen who calls, and whoever has no identity gets nothing.
func (s *stack) identities(t *testing.T) {
	for proxy, peer := range map[string]string{"api-1-larboard": "spiffe://shop.example/web", "api-2-larboard": "spiffe://shop.example/web", "stock-larboard": "spiffe://shop.example/api"} {
		eventually(t, proxy+" is called by "+peer, func() error {
			if !slices.ContainsFunc(s.lines(proxy), func(l line) bool { return l.Listener == "inbound" && l.Peer == peer && l.Status == 200 }) {
				return errors.New("no such line")
			}
			return nil
		})
		for _, l := range s.lines(proxy) {
			if l.Listener == "inbound" && l.Status == 200 && l.Peer != peer {
				t.Errorf("%s answered %+v", proxy, l)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	host := real.DockerRun(t, "inspect", "-f", "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", s.Container("stock"))
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+":20000/", nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp, err := http.DefaultClient.Do(req); err == nil {
		resp.Body.Close()
		t.Errorf("plain text gets %s", resp.Status)
	}
}

// passing are the proxies of a service that Consul would send others to, by their IDs.
func (s *stack) passing(service string) (ids []string, err error) {
	var all []struct {
		Service struct {
			ID, Address string
			Meta        map[string]string
		}
	}
	if err := get("http://"+s.consul+"/v1/health/connect/"+service+"?passing=1", &all); err != nil {
		return nil, err
	}
	for _, e := range all {
		if e.Service.Meta["spiffe_id"] != "spiffe://shop.example/"+service || e.Service.Address == "" {
			return nil, fmt.Errorf("%+v", e)
		}
		ids = append(ids, e.Service.ID)
	}
	slices.Sort(ids)
	return ids, nil
}

func (s *stack) awaitPassing(t *testing.T, service string, want ...string) {
	t.Helper()
	eventually(t, "Consul knows "+service, func() error {
		if got, err := s.passing(service); err != nil || !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q; %w", got, want, err)
		}
		return nil
	})
}

func (s *stack) registered(t *testing.T) {
	s.awaitPassing(t, "web", "web-sidecar-proxy")
	s.awaitPassing(t, "api", "api-1-sidecar-proxy", "api-2-sidecar-proxy")
	s.awaitPassing(t, "stock", "stock-sidecar-proxy")
}

// A trace that web's proxy names in its log is whole in Jaeger.
func (s *stack) traced(t *testing.T) {
	jaeger := &real.JaegerServer{Query: s.Address("jaeger", 16686)}
	lines := s.lines("web-larboard")
	at := slices.IndexFunc(lines, func(l line) bool { return l.Listener == "edge" && l.Status == 200 && l.Trace != "" })
	if at < 0 {
		t.Fatalf("no line of the edge with a trace among %d", len(lines))
	}
	eventually(t, "a trace in Jaeger", func() error {
		spans, err := jaeger.Trace(lines[at].Trace)
		var services []string
		for _, s := range spans {
			services = append(services, s.Service)
		}
		slices.Sort(services)
		if services = slices.Compact(services); err != nil || !slices.Equal(services, []string{"api", "stock", "web"}) {
			return fmt.Errorf("%d spans, of %q; %w", len(spans), services, err)
		}
		return nil
	})
}

// An instance is killed and comes back, and then is cut from its network and comes back, under
// load. Of all requests at least 99.9 % succeed, and once the others know, all of them.
func (s *stack) failures(t *testing.T) {
	const api2, its = "api-2", "api-2-larboard"
	workload, proxy := s.Container(api2), s.Container(its)
	began := s.seen()
	without := func(what string) {
		s.awaitPassing(t, "api", "api-1-sidecar-proxy")
		s.more("api-1", 10) // what was under way has ended
		before := s.seen()
		s.more("api-1", 120)
		now := s.seen()
		if now.Failed != before.Failed || now.By[api2] != before.By[api2] {
			t.Errorf("%s, and the others know: %+v, before %+v", what, now, before)
		}
	}
	back := func() {
		s.awaitPassing(t, "api", "api-1-sidecar-proxy", "api-2-sidecar-proxy")
		s.more(api2, 10)
	}

	real.DockerRun(t, "kill", proxy, workload)
	without("killed")
	real.DockerRun(t, "start", workload)
	real.DockerRun(t, "start", proxy)
	back()

	network := s.Project + "_default"
	real.DockerRun(t, "network", "disconnect", network, workload)
	without("cut from its network")
	real.DockerRun(t, "network", "connect", "--alias", api2, network, workload)
	back()

	ended := s.seen()
	requests, failed := ended.Requests-began.Requests, ended.Failed-began.Failed
	t.Logf("%d requests, %d failed", requests, failed)
	if requests < 500 || float64(failed) > 0.001*float64(requests) {
		t.Errorf("%d of %d requests failed, the last one: %s", failed, requests, ended.Last)
	}
}

// Prometheus scrapes all proxies, has taken the rules, and every dashboard shows something.
func (s *stack) measured(t *testing.T) {
	server := &real.PrometheusServer{Address: s.Address("prometheus", 9090)}
	eventually(t, "all targets are up", func() error {
		up, err := server.Query(`sum(up{job="larboard"})`)
		if err != nil || len(up) != 1 || up[0].Value != "4" {
			return fmt.Errorf("%v; %w", up, err)
		}
		return nil
	})
	all, err := deploy.Expressions(root + "/deploy")
	if err != nil {
		t.Fatal(err)
	}
	// What never happened here, such as a rejected certificate, has no series; most things did.
	for _, dashboard := range []string{"mesh.json", "service.json", "proxy.json", "recording.yaml"} {
		eventually(t, dashboard+" shows something", func() error {
			asked, shown := 0, 0
			for _, e := range all {
				if !strings.HasPrefix(e.Where, dashboard) {
					continue
				}
				asked++
				samples, err := server.Query(e.Query)
				if err != nil {
					return err
				}
				if slices.ContainsFunc(samples, func(x real.Sample) bool {
					v, err := strconv.ParseFloat(x.Value, 64)
					return err == nil && !math.IsNaN(v)
				}) {
					shown++
				}
			}
			if asked == 0 || shown < asked/2 {
				return fmt.Errorf("%d of %d queries have data", shown, asked)
			}
			t.Logf("%s: %d of %d queries have data", dashboard, shown, asked)
			return nil
		})
	}
}

// manual runs what the page shows, with this stack's ports, but for its end.
func (s *stack) manual(t *testing.T) {
	page, err := os.ReadFile(root + "/examples/manual/compose.md")
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer("127.0.0.1:8000", s.web, "127.0.0.1:8081", s.load, "127.0.0.1:8500", s.consul)
	want := map[string]string{"curl -s http://127.0.0.1:8000/": `"by":"web"`, "curl -s http://127.0.0.1:8081/": `"failed":`,
		"curl -s http://127.0.0.1:8500/v1/health/connect/api?passing": "api-1-sidecar-proxy", "logs stock-larboard": `"peer_id":"spiffe://shop.example/api"`}
	ran := 0
	for _, block := range regexp.MustCompile("(?ms)^```stack\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		for text := range strings.Lines(block[1]) {
			text = strings.TrimSpace(text)
			command, ours := strings.CutPrefix(text, "docker compose -f deploy/compose/docker-compose.yaml ")
			if command == "down -v" {
				continue
			}
			ran++
			said := ""
			if ours {
				said = s.Run(strings.Fields(command)...)
			} else if out, err := exec.CommandContext(t.Context(), "sh", "-c", ports.Replace(text)).CombinedOutput(); err != nil {
				t.Errorf("%s: %v: %s", text, err, out)
			} else {
				said = string(out)
			}
			if !strings.Contains(said, want[command]) {
				t.Errorf("%s: no %s in %.300s", text, want[command], said)
			}
		}
	}
	if ran < 8 {
		t.Errorf("only %d commands were found", ran)
	}
	s.awaitPassing(t, "api", "api-1-sidecar-proxy", "api-2-sidecar-proxy")
}
