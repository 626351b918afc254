package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"github.com/larboard-proxy/larboard/tests/load"
)

// metricsCollector takes OTLP over HTTP and over gRPC, and keeps what came last.
type metricsCollector struct {
	collector.UnimplementedMetricsServiceServer

	mu       sync.Mutex
	requests int
	key      string // the header of the last one
	last     *collector.ExportMetricsServiceRequest
}

func (c *metricsCollector) take(key string, m *collector.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests++
	c.key, c.last = key, m
}

// Export implements the service over gRPC.
func (c *metricsCollector) Export(ctx context.Context, m *collector.ExportMetricsServiceRequest) (*collector.ExportMetricsServiceResponse, error) {
	head, _ := metadata.FromIncomingContext(ctx)
	c.take(strings.Join(head.Get("x-key"), ","), m)
	return &collector.ExportMetricsServiceResponse{}, nil
}

// ServeHTTP implements it over HTTP.
func (c *metricsCollector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	m := &collector.ExportMetricsServiceRequest{}
	if err == nil {
		err = proto.Unmarshal(body, m)
	}
	if err != nil || r.URL.Path != "/v1/metrics" {
		http.Error(w, fmt.Sprint(r.URL.Path, " ", err), http.StatusBadRequest)
		return
	}
	c.take(r.Header.Get("X-Key"), m)
}

func (c *metricsCollector) header() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.key
}

// counted is what the last message says of a counter, its series added up, and of whom.
func (c *metricsCollector) counted(metric string) (sum float64, service string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range c.last.GetResourceMetrics() {
		for _, a := range of.GetResource().GetAttributes() {
			if a.Key == "service.name" {
				service = a.Value.GetStringValue()
			}
		}
		for _, scope := range of.GetScopeMetrics() {
			for _, m := range scope.GetMetrics() {
				if m.GetName() == metric {
					for _, p := range m.GetSum().GetDataPoints() {
						sum += p.GetAsDouble()
					}
				}
			}
		}
	}
	return sum, service
}

const pushConfiguration = `
metrics: {otlp: {endpoint: "%s://%s", headers: {x-key: secret}, interval: %s, timeout: 2s}}
identity: {dev: {}}
workload: {service: shop, address: %q, listen: 127.0.0.1:0}
listeners: [{name: web, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: [%[4]q]}]
`

// A real server of OTLP's own definition receives what was counted: at each interval, and
// at the end what came after the last.
func TestMetricsAreSentByOTLP(t *testing.T) {
	for _, scheme := range []string{"http", "grpc"} {
		t.Run(scheme, func(t *testing.T) {
			c := &metricsCollector{}
			address := ""
			if scheme == "http" {
				address = origin(t, c)
			} else {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				s := grpc.NewServer()
				collector.RegisterMetricsServiceServer(s, c)
				go func() { _ = s.Serve(l) }() // ends with Stop
				t.Cleanup(s.Stop)
				address = l.Addr().String()
			}
			app := origin(t, named("app"))
			p := start(t, "shop", fmt.Sprintf(pushConfiguration, scheme, address, "100ms", app))
			get(t, "http://"+p.address("web"))
			eventually(t, patience, "a request is told", func() error {
				if n, service := c.counted("larboard_requests_total"); n != 1 || service != "shop" {
					return fmt.Errorf("%v of %q", n, service)
				}
				return nil
			})
			p.kill() // its word must not come after the next one's
			if key := c.header(); key != "secret" {
				t.Errorf("the header is %q", key)
			}

			p = start(t, "shop", fmt.Sprintf(pushConfiguration, scheme, address, "1h", app))
			for range 3 {
				get(t, "http://"+p.address("web"))
			}
			p.signal(syscall.SIGTERM)
			if code := p.exit(patience); code != 0 {
				t.Errorf("exit code %d", code)
			}
			if n, _ := c.counted("larboard_requests_total"); n != 3 {
				t.Errorf("%v requests told at the end", n)
			}
			if strings.Contains(p.log(), "secret") {
				t.Error("the log shows a header")
			}
		})
	}
}

// A collector that is away, and one that accepts connections and says nothing, fail no
// request, are complained of once, and hold up the end for moments.
func TestACollectorOfMetricsThatIsAwayHarmsNothing(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	for name, address := range map[string]string{"away": freeAddress(t), "silent": silent.Addr().String()} {
		for _, scheme := range []string{"http", "grpc"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				p := start(t, "shop", strings.Replace(fmt.Sprintf(pushConfiguration, scheme, address, "100ms", origin(t, named("app"))), "timeout: 2s", "timeout: 150ms", 1))
				traffic := send(t, load.Options{Addr: p.address("web")})
				eventually(t, patience, "several failures", func() error {
					if n := p.scrape().sum("larboard_metric_exports_total", `result="failed"`); n < 4 {
						return fmt.Errorf("%v", n)
					}
					return nil
				})
				traffic.await(100)
				traffic.endClean()
				if n := strings.Count(p.log(), "collector does not take them"); n != 1 {
					t.Errorf("said %d times", n)
				}
				began := time.Now()
				p.signal(syscall.SIGTERM)
				if code := p.exit(patience); code != 0 || time.Since(began) > claimed(time.Second) {
					t.Errorf("exit code %d after %v", code, time.Since(began))
				}
			})
		}
	}
}
