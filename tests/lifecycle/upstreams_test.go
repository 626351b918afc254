package lifecycle

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// A start is done soon after the identity has come, however many services Consul is asked
// about: it is asked about all at once, while the identity is on its way.
func TestReadySoonAfterTheIdentity(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	var b strings.Builder
	fmt.Fprintf(&b, "consul: {address: %q}\nidentity: {consul: {}}\nworkload: {service: web, address: 127.0.0.1:1, listen: 127.0.0.1:0, intentions: true}\nupstreams:\n", agent.Address)
	for i := range 50 {
		agent.Register(real.Service{ID: fmt.Sprintf("s%d", i), Name: fmt.Sprintf("s%d-sidecar-proxy", i), Kind: "connect-proxy", Address: "127.0.0.1", Port: 20000 + i,
			Proxy: map[string]any{"DestinationServiceName": fmt.Sprintf("s%d", i)}})
		fmt.Fprintf(&b, "- {service: s%d, bind: 127.0.0.1:0}\n", i)
	}
	var least time.Duration
	for range 5 {
		p := run(t, b.String(), nil).ready()
		d := readiness(t, p.process)
		t.Logf("from identity to ready with 50 upstreams in Consul: %v", d)
		if least == 0 || d < least {
			least = d
		}
		var phases []string
		for line := range strings.Lines(p.metrics()) {
			if strings.HasPrefix(line, "larboard_start_seconds{") {
				phases = append(phases, line)
			}
		}
		if len(phases) != 2 {
			t.Errorf("metrics of the start: %q", phases)
		}
		p.cmd.Process.Kill()
		<-p.exited
	}
	if least > 2*time.Second { // a wait that ends by its own limit takes 5 s
		t.Errorf("%v", least)
	}
}

// readiness is how long a proxy took from its identity to being ready, by its log.
func readiness(t *testing.T, p *process) time.Duration {
	t.Helper()
	says(t, p, "after_identity=")
	found := readyAfter.FindStringSubmatch(p.out.String())
	if found == nil {
		t.Fatalf("the log does not say how long it took:\n%s", p.out.String())
	}
	d, err := time.ParseDuration(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return d
}
