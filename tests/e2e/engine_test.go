package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
)

// TestEngineOnGoroutines serves requests and a drain on the engine that other systems get.
func TestEngineOnGoroutines(t *testing.T) {
	one := startWorkload(t, "one")
	p := start(t, "proxy", `
engine: goroutines
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: [`+one.address+`]}]
`)
	p.waitLog("engine=goroutines")
	traffic := send(t, load.Options{Addr: p.address("in")})
	traffic.await(50)
	traffic.endClean()
	p.signal(os.Interrupt)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.log())
	}
}

// TestCPUs binds every thread to the CPUs named, and refuses those that are not there.
func TestCPUs(t *testing.T) {
	given := threads(t, os.Getpid())[0]
	first := regexp.MustCompile(`^\d+`).FindString(given)
	p := start(t, "proxy", `
cpus: [`+first+`]
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: ["127.0.0.1:1"]}]
`)
	p.waitLog("loops=1") // one for each CPU
	if got := slices.Compact(threads(t, p.pid())); len(got) != 1 || got[0] != first {
		t.Errorf("threads may run on %q, want %s", got, first)
	}
	dir := shortDir(t)
	writeFile(t, dir, "larboard.yaml", "cpus: [1023]\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\nservices: [{name: app, endpoints: [\"127.0.0.1:1\"]}]\n")
	code, _, stderr := command(t, dir, "check")
	if want := fmt.Sprintf("larboard.yaml:1:8: cpus[0]: this process may not run on CPU 1023; it has %s\n", given); code != 2 || !strings.Contains(stderr, want) {
		t.Errorf("exit code %d, said %q, want %q", code, stderr, want)
	}
}

// threads says on which CPUs each thread of a process may run.
func threads(t *testing.T, pid int) (all []string) {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			continue // it has ended
		}
		if m := regexp.MustCompile(`(?m)^Cpus_allowed_list:\s*(\S+)`).FindSubmatch(data); m != nil {
			all = append(all, string(m[1]))
		}
	}
	if len(all) == 0 {
		t.Fatal("no threads")
	}
	return all
}

// TestLoopsFollowTheCPULimit: GOMAXPROCS, which the Go runtime begins with the container's
// limit, decides how many loops there are.
func TestLoopsFollowTheCPULimit(t *testing.T) {
	const edge = `
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: ["127.0.0.1:1"]}]
`
	const beside = "workload: {service: app, address: 127.0.0.1:1, listen: 127.0.0.1:0, allow: [/x]}\nidentity: {dev: {}}\n"
	for _, c := range []struct {
		name, limit, configuration string
		loops                      int
	}{
		{"a proxy of its own", "3", edge, 3},
		{"one CPU", "1", edge, 1},
		{"beside a workload", "8", beside, 2},
		{"beside a workload, one CPU", "1", beside, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("GOMAXPROCS", c.limit)
			start(t, "proxy", c.configuration).waitLog(fmt.Sprintf("loops=%d ", c.loops))
		})
	}
}
