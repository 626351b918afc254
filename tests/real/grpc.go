package real

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// interopTime is what one case of the interop client gets; the slowest takes three
// seconds on an idle machine.
const interopTime = 2 * time.Minute

// InteropServer starts a gRPC server with interop's test service, reflection and the
// health service, and returns its address. It ends with the test.
func InteropServer(t testing.TB) string {
	t.Helper()
	log := filepath.Join(shortTempDir(t), "server.log")
	p, err := startProcess(Tool(t, "grpc-interop-server"), log)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	for deadline := time.Now().Add(startTime); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		text, err := os.ReadFile(log)
		if address, _, whole := strings.Cut(string(text), "\n"); err == nil && whole {
			return address
		}
	}
	t.Fatalf("grpc-interop-server printed no address within %v", startTime)
	return ""
}

// InteropCases are those cases of grpc-go's interop client that a server without
// Google's credentials can answer. The others are compute_engine_creds,
// service_account_creds, jwt_token_creds, per_rpc_creds, oauth2_auth_token,
// google_default_credentials and compute_engine_channel_credentials: they want tokens
// that only Google's servers issue, and say nothing of what lies between.
func InteropCases() []string {
	return []string{"empty_unary", "large_unary", "client_streaming", "server_streaming", "ping_pong", "empty_stream",
		"timeout_on_sleeping_server", "cancel_after_begin", "cancel_after_first_response", "status_code_and_message",
		"special_status_message", "custom_metadata", "unimplemented_method", "unimplemented_service", "pick_first_unary",
		"orca_per_rpc", "orca_oob", "rpc_soak", "channel_soak"}
}

// Interop runs one case of grpc-go's interop client over cleartext against an address;
// nil: it passed. The client is a process of its own, from the path of the tool
// grpc-interop-client.
func Interop(t testing.TB, client, address, name string) error {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("interop: %w", err)
	}
	// Its own bounds, of a second for a call and ten for all of a soak, are for a machine that
	// does nothing else.
	args := []string{"--server_host", host, "--server_port", port, "--test_case", name,
		"--soak_per_iteration_max_acceptable_latency_ms", "30000", "--soak_overall_timeout_seconds", "60"}
	if strings.HasPrefix(name, "orca_") { // whose reports are seen by a balancer of the client's own
		args = append(args, "--service_config_json", `{"loadBalancingConfig": [{"test_backend_metrics_load_balancer": {}}]}`)
	}
	out := Run(t, interopTime, client, args...)
	if out.Code != 0 {
		return errors.New(tail(out.Stdout+out.Stderr, 5))
	}
	return nil
}
