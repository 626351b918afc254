package lifecycle

import (
	"fmt"
	"regexp"
	"slices"
	"syscall"
	"testing"
	"time"
)

// readyAfter is how long the proxy took from its identity to being ready, by its log.
var readyAfter = regexp.MustCompile(`msg=ready .*after_identity=(\S+)`)

// An application may call in its first millisecond: started with the proxy, or held up until
// the proxy of another process is ready.
func TestTheFirstCallFindsTheProxy(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	var took []time.Duration
	for i := range times(20, 100) {
		out := freeAddress(t)
		environment := as(callsAtOnce, out, "")
		var p *proxy
		if i%2 == 0 {
			p = run(t, m.caller("web", out), environment, self(t))
		} else {
			p = run(t, m.caller("web", out), nil)
			waiting := begin(t, environment, binary, "wait", "--admin", "unix://"+p.admin, "--quit", "--", self(t))
			if code := waiting.code(); code != 0 {
				t.Errorf("start %d: wait ends with %d:\n%s", i, code, waiting.out.String())
			}
		}
		if code := p.code(); code != 0 {
			t.Errorf("start %d: exit code %d:\n%s", i, code, p.out.String())
		}
		took = append(took, readiness(t, p.process))
	}
	slices.Sort(took)
	t.Logf("%d starts; from identity to ready: median %v, most %v", len(took), took[len(took)/2], took[len(took)-1])
}

// An application is not started beside a proxy that does not become ready, and wait says
// what is missing.
func TestNotReadyIsSaidWithItsReasons(t *testing.T) {
	t.Parallel()
	nobody := fmt.Sprintf("identity: {spiffe: {socket: \"unix://%s/none.sock\"}}\nupstreams: [{service: stock, bind: 127.0.0.1:0, endpoints: [127.0.0.1:1]}]\n", shortDir(t))
	file, _ := write(t, nobody)
	p := begin(t, nil, binary, "run", "-c", file, "--start-timeout", "200ms", "--", "echo", "started after all")
	if code := p.code(); code != 1 || !contains(p, "the proxy is not ready after 200ms, and the application was not started: ") || contains(p, "after all\n") {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
	alone := run(t, nobody, nil)
	eventually(t, "the admin interface answers", func() error { return alone.view("/healthz", nil) })
	w := begin(t, nil, binary, "wait", "--admin", "unix://"+alone.admin, "--timeout", "200ms", "--", "echo", "started after all")
	if code := w.code(); code != 1 || !contains(w, "not ready after 200ms: unix://"+alone.admin+": ") || contains(w, "after all\n") {
		t.Errorf("exit code %d\n%s", code, w.out.String())
	}
	// Told to end before it was ready, the application is never started.
	waiting := run(t, nobody, nil, "echo", "started after all")
	eventually(t, "the admin interface answers", func() error { return waiting.view("/healthz", nil) })
	waiting.signal(syscall.SIGTERM)
	if code := waiting.code(); code != 0 || contains(waiting.process, "after all\n") {
		t.Errorf("exit code %d\n%s", code, waiting.out.String())
	}
}

// A configuration in a variable is read again from there.
func TestConfigurationInAVariable(t *testing.T) {
	t.Parallel()
	m := newMesh(t)
	out := freeAddress(t)
	p := begin(t, append(as(callsAtOnce, out, ""), "PROXY="+m.caller("web", out)), binary, "run", "-c", "env:PROXY", "--", self(t))
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}
