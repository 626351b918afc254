package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// grpcMesh is a gRPC server behind two sidecars with mutual TLS between them; limits are
// added to what the caller's sidecar knows of the service.
func grpcMesh(t testing.TB, server, limits string) (caller, called *larboard) {
	t.Helper()
	mesh := newAuthority(t, meshDomain)
	called = start(t, "api", newSVIDFiles(t, mesh.svid("api"), mesh).identity()+
		fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", server))
	caller = start(t, "web", newSVIDFiles(t, mesh.svid("web"), mesh).identity()+
		fmt.Sprintf("upstreams: [{service: api, bind: 127.0.0.1:0}]\nservices: [{name: api, endpoints: [%q], tls: {spiffe: {ids: [%q]}}%s}]\n",
			called.address("inbound"), svcID(meshDomain, "api"), limits))
	return caller, called
}

// TestGRPCInterop: grpc-go's interop client and server with two sidecars between them,
// and as few connections between these as one. With one stream on it the sidecar can
// pass on one call at a time, which is not for the cases of ORCA: the stream of reports
// stays open beside their calls.
func TestGRPCInterop(t *testing.T) {
	client, server := real.Tool(t, "grpc-interop-client"), real.InteropServer(t)
	for _, c := range []struct {
		name, limits string
		without      []string
	}{
		{"no limit", "", nil},
		{"one connection", ", max_connections: 1", nil},
		{"one connection of one stream", ", max_connections: 1, http2: {max_streams: 1}", []string{"orca_per_rpc", "orca_oob"}},
		{"eight connections of one stream", ", max_connections: 8, http2: {max_streams: 1}", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			caller, called := grpcMesh(t, server, c.limits)
			for _, name := range real.InteropCases() {
				if slices.Contains(c.without, name) {
					continue
				}
				t.Run(name, func(t *testing.T) {
					if err := real.Interop(t, client, caller.address("api"), name); err != nil {
						t.Error(err)
					}
				})
			}
			for _, p := range []*larboard{caller, called} {
				eventually(t, patience, p.name+" has nothing under way", func() error {
					if now := p.engineState(); now.tasks != 0 {
						return fmt.Errorf("%+v", now)
					}
					return nil
				})
			}
		})
	}
}

// TestGHZ: calls in parallel over several connections, through both sidecars; none fails.
func TestGHZ(t *testing.T) {
	caller, _ := grpcMesh(t, real.InteropServer(t), "")
	out := real.Run(t, 4*patience, real.Tool(t, "ghz"), "--insecure", "--call", "grpc.testing.TestService/UnaryCall",
		"--data", `{"response_size": 1000, "payload": {"body": "`+strings.Repeat("A", 1000)+`"}}`,
		"--total", "4000", "--concurrency", "100", "--connections", "4", caller.address("api"))
	if out.Code != 0 || !strings.Contains(out.Stdout, "[OK]   4000 responses") {
		t.Errorf("exit code %d\n%s%s", out.Code, out.Stdout, out.Stderr)
	}
}
