package consul_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/tests/real"
)

// block returns the first code block of a language in the manual's page on Consul.
func block(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../examples/manual/consul.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), "```"+language+"\n")
	text, _, ended := strings.Cut(rest, "```")
	if !found || !ended {
		t.Fatalf("the page has no %s block", language)
	}
	return text
}

// TestRealManual does what the manual says: the token's rules and the sidecar's
// registration, with a listener of ours as the sidecar.
func TestRealManual(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	sidecar, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer sidecar.Close()
	address := sidecar.Addr().(*net.TCPAddr)

	var registration map[string]any
	if err := json.Unmarshal([]byte(strings.ReplaceAll(block(t, "json"), "10.0.0.7:20000", address.String())), &registration); err != nil {
		t.Fatal(err)
	}
	registration["Address"], registration["Port"] = "127.0.0.1", address.Port
	if err := agent.Call(http.MethodPut, "/v1/agent/service/register", registration, nil); err != nil {
		t.Fatal(err)
	}
	token := agent.NewToken("larboard", block(t, "hcl"))
	w := watchService(t, "api", consul.Options{Address: agent.Address, Token: token}, consul.Health{Connect: true})
	w.untilIDs("api-1-sidecar")
	u, _ := w.set.Snapshot("api")
	if e := u.Endpoints[0]; e.Address != address.String() || e.Identity.String() != "spiffe://example.org/api" || e.IdentityPath != "/ns/default/dc/dc1/svc/api" {
		t.Errorf("endpoint %+v", e)
	}
}
