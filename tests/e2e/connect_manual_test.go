package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// snippet is the first block of a language under a heading of the manual's page on
// Consul.
func snippet(t testing.TB, heading, language string) string {
	t.Helper()
	page, err := os.ReadFile("../../examples/manual/consul.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, rest, has := strings.Cut(section, "```"+language+"\n")
	text, _, ended := strings.Cut(rest, "```")
	if !found || !has || !ended {
		t.Fatalf("the page has no %s block under %q", language, heading)
	}
	return text
}

// replaced puts what a test has in the place of a snippet's addresses; each must be
// there.
func replaced(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("the snippet has no %q:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// explained asks the admin interface what becomes of a caller.
func explained(p *larboard, caller string) (allowed bool, rule string) {
	p.t.Helper()
	var v struct {
		Destinations []struct {
			Verdict struct {
				Allowed bool
				Rule    string
			}
		}
	}
	p.view("/api/v1/intentions?caller="+caller, &v)
	if len(v.Destinations) != 1 {
		p.t.Fatalf("%s shows %d destinations", p.name, len(v.Destinations))
	}
	return v.Destinations[0].Verdict.Allowed, v.Destinations[0].Verdict.Rule
}

// TestConnectManual does what the manual says about Consul's mesh, in a Consul that
// denies by default, beginning with a token that has too few rights.
func TestConnectManual(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	weak := agent.NewToken("weak", `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`)
	token := agent.NewToken("api", snippet(t, "Consul's mesh", "hcl"))
	dir := shortDir(t)
	writeFile(t, dir, "consul.token", weak)
	api := launchIn(t, dir, "api", replaced(t, snippet(t, "Consul's mesh", "yaml"),
		"127.0.0.1:8500", agent.Address, "127.0.0.1:8000", origin(t, named("api")), "0.0.0.0:20000", "127.0.0.1:0", "127.0.0.1:5432", "127.0.0.1:0"))
	api.waitLog("permission refused: the token needs service:write for the service whose certificate it is")
	api.waitLog("permission refused: the token needs intentions:read and service:write for the destination")
	if api.ready() == nil {
		t.Error("ready without identity")
	}
	writeFile(t, dir, "consul.token", token)
	api.waitReady()

	caller := func(service string) *larboard {
		own := agent.NewToken(service, fmt.Sprintf(`service %q { policy = "write" }`, service))
		return start(t, service, fmt.Sprintf(`
consul: {address: %q, token: %q}
identity: {consul: {service: %s}}
upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [%q]}]
`, agent.Address, own, service, api.address("inbound")))
	}
	web, batch := caller("web"), caller("batch")
	answer := func(p *larboard) string {
		status, _, header := get(t, "http://"+p.address("api"))
		return fmt.Sprint(status, " ", header.Get("X-Larboard-Reason"))
	}
	becomes := func(p *larboard, want string) {
		t.Helper()
		eventually(t, patience, p.name+" gets "+want, func() error {
			if got := answer(p); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
	becomes(web, "403 intention_denied")
	api.waitLog("default deny: no intention names the caller")

	file := writeFile(t, dir, "intentions.hcl", snippet(t, "Intentions", "hcl"))
	command := exec.CommandContext(t.Context(), real.Tool(t, "consul"), "config", "write", "-http-addr", agent.Address, "-token", agent.Token, file)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("consul config write: %v\n%s", err, out)
	}
	becomes(web, "200 ")
	becomes(batch, "403 intention_denied")
	id := identityOf(batch).SPIFFEID
	if allowed, rule := explained(api, id); allowed || rule != "intention * => api, deny (precedence 8)" {
		t.Errorf("batch: allowed %v by %q", allowed, rule)
	}
	if allowed, rule := explained(api, identityOf(web).SPIFFEID); !allowed || rule != "intention web => api, allow (precedence 9)" {
		t.Errorf("web: allowed %v by %q", allowed, rule)
	}

	write := func(entry map[string]any) {
		t.Helper()
		if err := agent.Call(http.MethodPut, "/v1/config", entry, nil); err != nil {
			t.Fatal(err)
		}
	}
	write(map[string]any{"Kind": "service-defaults", "Name": "api", "Protocol": "http"})
	agent.Intend("api", real.Source{Name: "web", Permissions: []map[string]any{{"Action": "allow", "HTTP": map[string]any{"PathPrefix": "/"}}}})
	becomes(web, "403 intention_denied")
	if allowed, rule := explained(api, identityOf(web).SPIFFEID); allowed || !strings.Contains(rule, "asks for permissions of the request (L7), denied") {
		t.Errorf("with permissions: allowed %v by %q", allowed, rule)
	}
	write(map[string]any{"Kind": "jwt-provider", "Name": "issuer", "JSONWebKeySet": map[string]any{"Local": map[string]any{"JWKS": "e30K"}}})
	write(map[string]any{"Kind": "service-intentions", "Name": "api", "JWT": map[string]any{"Providers": []map[string]string{{"Name": "issuer"}}},
		"Sources": []map[string]string{{"Name": "web", "Action": "allow"}}})
	eventually(t, patience, "the JWT denies", func() error {
		if allowed, rule := explained(api, identityOf(web).SPIFFEID); allowed || !strings.Contains(rule, "asks for a JWT, denied") {
			return fmt.Errorf("allowed %v by %q", allowed, rule)
		}
		return nil
	})
	becomes(web, "403 intention_denied")
	secretsStay(t, api, token, weak)
}

// secretsStay looks for what must not be told in all that a process tells.
func secretsStay(t testing.TB, p *larboard, secrets ...string) {
	t.Helper()
	said := p.log()
	for _, path := range []string{"/api/v1/config", "/api/v1/identity", "/api/v1/intentions", "/metrics"} {
		_, body, err := p.get(path)
		if err != nil {
			t.Fatal(err)
		}
		said += body
	}
	for _, secret := range append(secrets, "PRIVATE KEY") {
		if strings.Contains(said, secret) {
			t.Errorf("%s tells %q", p.name, secret)
		}
	}
}
