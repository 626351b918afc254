package host

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// mostResident is what an idle proxy may hold, in KiB.
const mostResident = 32 << 10

// TestIdleMemory: a proxy that nobody calls, with a workload and 50 upstreams of two instances
// each, all from Consul.
func TestIdleMemory(t *testing.T) {
	h := newHost(t)
	agent := h.agent
	const upstreams = 50
	config := fmt.Sprintf(`
admin: {socket: admin.sock}
consul: {address: %q}
identity: {consul: {}}
workload: {service: web, address: 127.0.0.1:8080, listen: 127.0.0.1:0, intentions: true, register: true}
upstreams:
`, agent.Address)
	for n := range upstreams {
		name := fmt.Sprintf("service-%d", n)
		config += fmt.Sprintf("- {service: %s, bind: 127.0.0.1:0}\n", name)
		for i := range 2 {
			agent.Register(real.Service{ID: fmt.Sprintf("%s-%d", name, i), Name: name + "-sidecar-proxy", Kind: "connect-proxy", Address: "127.0.0.1", Port: 20000 + i,
				Proxy: map[string]any{"DestinationServiceName": name}})
		}
	}
	h.must(os.WriteFile(filepath.Join(h.dir, "larboard.yaml"), []byte(config), 0o600))
	pid := h.begin("larboard run -c larboard.yaml")
	h.until("larboard wait --admin unix://$PWD/admin.sock --timeout 10s && curl -s --unix-socket admin.sock http://localhost/api/v1/endpoints | tr , '\\n' | grep -c 127.0.0.1:2000", "100")
	// Once its start is over it is at rest, and stays so.
	most, since := resident(t, pid), time.Now()
	for end := since.Add(patience); time.Now().Before(end) && time.Since(since) < 3*time.Second; time.Sleep(200 * time.Millisecond) {
		now := resident(t, pid)
		if most = max(most, now); now > mostResident {
			since = time.Now()
		} else if time.Since(since) < time.Second {
			most = now
		}
	}
	t.Logf("%.1f MiB resident", float64(most)/1024)
	if most > mostResident {
		t.Errorf("%d KiB resident, want at most %d", most, mostResident)
	}
}

// resident is a process's memory in KiB.
func resident(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "VmRSS:" {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no VmRSS in\n%s", text)
	return 0
}
