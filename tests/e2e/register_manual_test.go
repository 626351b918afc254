package e2e

import (
	"net/http"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// What the manual says of registrations, as it says it.
func TestManualRegistration(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	mux := http.NewServeMux()
	mux.HandleFunc("/health", named("healthy"))
	listen := freeAddress(t)
	start(t, "web", replaced(t, snippet(t, "Registration", "yaml"),
		"http://127.0.0.1:8500", agent.Address, "127.0.0.1:8000", origin(t, mux), "0.0.0.0:20000", listen))
	found := awaitState(t, agent, "connect", "web", "passing")
	if s := found.Service; s.ID != "web-sidecar-proxy" || s.Port != portOf(t, listen) || s.Weights.Passing != 2 {
		t.Errorf("proxy %+v", s)
	}
	awaitState(t, agent, "service", "web", "passing")
}

// The command lines of the manual do what it says.
func TestManualSidecarFor(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	web := defined{agent, "web", origin(t, named("web")), freeAddress(t)}
	web.define(t, nil)
	environment := []string{"CONSUL_HTTP_ADDR=" + agent.Address}
	for line := range strings.Lines(snippet(t, "In place of `consul connect proxy`", "sh")) {
		line, _, _ = strings.Cut(line, "#")
		p := launchPlain(t, line, environment, strings.Fields(line)[1:]...)
		if strings.Contains(line, " run ") {
			awaitState(t, agent, "connect", "web", "passing")
			p.kill()
			continue
		}
		if code := p.exit(patience); code != 0 || !strings.Contains(p.stdout.String(), web.listen) {
			t.Errorf("%s: exit code %d\n%s%s", line, code, p.stdout.String(), p.log())
		}
	}
}
