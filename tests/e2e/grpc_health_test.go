package e2e

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// serveGRPC runs server until the test ends and returns its address.
func serveGRPC(t testing.TB, server *grpc.Server) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	return l.Addr().String()
}

// healthServer is a workload with nothing but a health service.
func healthServer(t testing.TB) (*grpc.Server, *health.Server, string) {
	t.Helper()
	states := health.NewServer()
	states.SetServingStatus("shop.v1.Stock", healthpb.HealthCheckResponse_SERVING)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, states)
	return server, states, serveGRPC(t, server)
}

// mustBeUp waits until the one endpoint of a service is up (1) or down (0).
func mustBeUp(t testing.TB, p *larboard, service string, want float64) {
	t.Helper()
	eventually(t, patience, fmt.Sprintf("larboard_endpoint_up is %v", want), func() error {
		if got := p.scrape().sum("larboard_endpoint_up", `service="`+service+`"`); got != want {
			return fmt.Errorf("it is %v", got)
		}
		return nil
	})
}

// An endpoint goes down and comes up with what its own gRPC health service says.
func TestGRPCHealthCheck(t *testing.T) {
	t.Parallel()
	server, states, address := healthServer(t)
	p := start(t, "proxy", fmt.Sprintf(`
listeners: [{name: web, address: 127.0.0.1:0, service: stock}]
services: [{name: stock, endpoints: [%q], health: {grpc: {service: shop.v1.Stock}, interval: 100ms, rise: 1, fall: 1}}]
`, address))
	up := func(want float64) { t.Helper(); mustBeUp(t, p, "stock", want) }
	up(1)
	states.SetServingStatus("shop.v1.Stock", healthpb.HealthCheckResponse_NOT_SERVING)
	up(0)
	states.SetServingStatus("shop.v1.Stock", healthpb.HealthCheckResponse_SERVING)
	up(1)
	states.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING) // another than asked about
	up(1)
	server.Stop()
	up(0)
}

// The check goes through the endpoint's sidecar, as mutual TLS, to the workload itself.
func TestGRPCHealthCheckThroughTheMesh(t *testing.T) {
	t.Parallel()
	server, states, address := healthServer(t)
	m := newStaticMesh(t, address)
	text, err := os.ReadFile(m.caller.file)
	if err != nil {
		t.Fatal(err)
	}
	upstream, described := fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]", m.called[0].address("inbound")), `
upstreams: [{service: api, bind: 127.0.0.1:0}]
services: [{name: api, endpoints: [%q], tls: {spiffe: {}}, health: {grpc: {service: shop.v1.Stock}, interval: 100ms, rise: 1, fall: 1}}]`
	checked := strings.Replace(string(text), upstream, fmt.Sprintf(described, m.called[0].address("inbound")), 1)
	if checked == string(text) {
		t.Fatalf("no %s in\n%s", upstream, text)
	}
	m.caller.configure(checked)
	if status, body := m.caller.reload(); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	eventually(t, patience, "a check has succeeded", func() error {
		if _, body, err := m.caller.get("/api/v1/endpoints"); err != nil || !strings.Contains(body, "status SERVING") {
			return fmt.Errorf("%v in %s", err, body)
		}
		return nil
	})
	states.SetServingStatus("shop.v1.Stock", healthpb.HealthCheckResponse_NOT_SERVING)
	mustBeUp(t, m.caller, "api", 0)
	states.SetServingStatus("shop.v1.Stock", healthpb.HealthCheckResponse_SERVING)
	mustBeUp(t, m.caller, "api", 1)
	server.Stop()
	mustBeUp(t, m.caller, "api", 0)
}
