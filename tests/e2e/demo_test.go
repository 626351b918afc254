package e2e

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// summary is the demo's last line.
var summary = regexp.MustCompile(`^summary: requests ([1-9]\d{2,}), failed 0; steps (\d+) of (\d+) passed in `)

// runDemo tells the story and returns how long that took.
func runDemo(t testing.TB, args ...string) time.Duration {
	t.Helper()
	began := time.Now()
	code, stdout, stderr := command(t, t.TempDir(), append([]string{"demo", "--once"}, args...)...)
	took := time.Since(began)
	last := tail(stdout, 1)
	t.Logf("%v: %s", took.Round(10*time.Millisecond), last)
	m := summary.FindStringSubmatch(last)
	if code != 0 || m == nil || m[2] != m[3] || strings.Contains(stdout, "FAILED") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	return took
}

func TestDemoOnce(t *testing.T) {
	if took := runDemo(t); took > either(2*time.Minute, 30*time.Second) {
		t.Errorf("took %v, want 30 s at most", took)
	}
}

func TestDemoThroughConsulLeavesNothingRegistered(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	runDemo(t, "--consul", strings.TrimPrefix(agent.Address, "http://"))
	var left map[string]any
	if err := agent.Call(http.MethodGet, "/v1/agent/services", nil, &left); err != nil {
		t.Fatal(err)
	}
	if len(left) != 0 {
		t.Errorf("registered after the end: %v", left)
	}
}

func TestDemoWithoutTheConsulItIsTold(t *testing.T) {
	began := time.Now()
	code, stdout, stderr := command(t, t.TempDir(), "demo", "--once", "--consul", freeAddress(t))
	if code != 1 || !strings.Contains(stderr, "connection refused") || time.Since(began) > patience {
		t.Errorf("exit code %d after %v\n%s%s", code, time.Since(began), stdout, stderr)
	}
}
