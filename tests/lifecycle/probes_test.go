package lifecycle

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
)

// probe asks as the kubelet does, and returns the status and what is said.
func probe(t *testing.T, address, path string) (int, string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// Probes are answered from before readiness to the end of the drain; those of the workload
// are asked of it, behind mutual TLS as it is.
func TestProbesOfAPod(t *testing.T) {
	t.Parallel()
	var well atomic.Bool
	workload := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !well.Load() || r.URL.Path != "/health" || !strings.HasPrefix(r.UserAgent(), "kube-probe/") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(workload.Close)
	port := workload.URL[strings.LastIndex(workload.URL, ":")+1:]
	address := freeAddress(t)
	probes := func(identity string) string {
		return identity + fmt.Sprintf(`workload: {service: web, address: "127.0.0.1:%s", listen: 127.0.0.1:0}
probes:
  address: %s
  checks:
  - {path: /probe/web/readiness, http: {port: %[1]s, path: /health}, timeout: 1m}
  - {path: /probe/web/liveness, tcp: {port: %[1]s}, timeout: 1m}
`, port, address)
	}
	wants := func(path string, status int, text string) {
		t.Helper()
		if gotStatus, got := probe(t, address, path); gotStatus != status || got != text {
			t.Errorf("%s: %d %q, want %d %q", path, gotStatus, got, status, text)
		}
	}

	starting := run(t, probes(fmt.Sprintf("identity: {spiffe: {socket: \"unix://%s/none.sock\"}}\n", shortDir(t))), nil)
	eventually(t, "probes are answered", func() error {
		if status, text := probe(t, address, "/live"); status != 200 {
			return fmt.Errorf("%d %s", status, text)
		}
		return nil
	})
	if status, text := probe(t, address, "/ready"); status != 503 || text != "starting" && text != "no identity yet" {
		t.Errorf("without an identity: %d %q", status, text)
	}
	starting.signal(syscall.SIGTERM)
	if code := starting.code(); code != 0 {
		t.Fatalf("exit code %d", code)
	}

	end := filepath.Join(shortDir(t), "end")
	m := &mesh{state: filepath.Join(shortDir(t), "authority")}
	p := run(t, probes(m.identity("web")), nil, "sh", "-c",
		fmt.Sprintf(`trap "echo got TERM" TERM; echo up; while [ ! -e %s ]; do sleep 0.02; done`, end))
	says(t, p.process, "up\n")
	wants("/ready", 200, "ready")
	wants("/live", 200, "alive")
	wants("/probe/web/readiness", 503, "status 503, expected 200-399")
	well.Store(true)
	wants("/probe/web/readiness", 200, "status 200")
	wants("/probe/web/liveness", 200, "connected")
	wants("/probe/web/startup", 404, "nothing is checked at this path")
	w := begin(t, nil, binary, "wait", "--probes", "http://"+address)
	if code := w.code(); code != 0 {
		t.Errorf("wait: exit code %d\n%s", code, w.out.String())
	}
	p.signal(syscall.SIGTERM)
	says(t, p.process, "got TERM\n")
	wants("/ready", 503, "draining")
	wants("/live", 200, "alive")
	wants("/probe/web/readiness", 200, "status 200")
	if err := os.WriteFile(end, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := p.code(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.out.String())
	}
}
