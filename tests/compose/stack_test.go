package compose

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

const (
	root     = "../.."
	patience = time.Minute
)

// made is the name of an image that is made here: the public one in a registry of this run's
// own, so that none that somebody has is replaced.
func made(name string) string { return fmt.Sprintf("larboard.test/%d/%s", os.Getpid(), name) }

// eventually waits until a thing is so.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	late := time.Now().Add(patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// compile builds a program of ours for an image.
func compile(t *testing.T, pkg, to string) {
	t.Helper()
	compileIn(t, root, pkg, to)
}

func compileIn(t *testing.T, dir, pkg, to string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", to, pkg)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.Chtimes(to, time.Unix(0, 0), time.Unix(0, 0)); err != nil {
		t.Fatal(err)
	}
}

// dockerfile builds an image by a Dockerfile of ours from a binary, as `make image` does.
func dockerfile(t *testing.T, file, pkg, binary, name string, more ...string) {
	t.Helper()
	dir := t.TempDir()
	at := filepath.Join(dir, "bin/linux", runtime.GOARCH)
	if err := os.MkdirAll(at, 0o755); err != nil {
		t.Fatal(err)
	}
	compile(t, pkg, filepath.Join(at, binary))
	real.DockerRun(t, append(append([]string{"build"}, more...), "-q", "-f", filepath.Join(root, file), "--target", "prebuilt",
		"--build-arg", "TARGETARCH="+runtime.GOARCH, "-t", name, dir)...)
	real.RemoveImage(t, name)
}

// stack is the running stack.
type stack struct {
	*real.ComposeStack
	t *testing.T

	consul string
	web    string
	load   string
}

// start makes the images and starts everything but Grafana.
func start(t *testing.T) *stack {
	t.Helper()
	real.Docker(t)
	v := map[string]string{
		"LARBOARD_IMAGE": made("larboard/larboard:dev"), "SHOP_IMAGE": made("larboard/shop:dev"),
		"CONSUL_IMAGE": made("hashicorp/consul:1.22"), "PROMETHEUS_IMAGE": made("prom/prometheus:v2"),
		"SPIRE_SERVER_IMAGE": made("spiffe/spire-server:1.13.3"), "SPIRE_AGENT_IMAGE": made("spiffe/spire-agent:1.13.3"),
		"JAEGER_IMAGE": made("jaegertracing/jaeger:2.13.0"),
		"LOAD_RATE":    "60", "WEB_PORT": "0", "LOAD_PORT": "0", "CONSUL_PORT": "0", "PROMETHEUS_PORT": "0", "JAEGER_PORT": "0",
	}
	dockerfile(t, "deploy/docker/Dockerfile", ".", "larboard", v["LARBOARD_IMAGE"])
	dockerfile(t, "deploy/compose/Dockerfile", "./examples/shop", "shop", v["SHOP_IMAGE"])
	prometheus := real.Installed(t, "prometheus")
	files := map[string]string{"bin/prometheus": prometheus}
	maps.Copy(files, real.Libraries(t, prometheus))
	for name, i := range map[string]real.Image{
		"CONSUL_IMAGE":       {Files: map[string]string{"bin/consul": real.Tool(t, "consul")}, Dirs: []string{"tmp"}},
		"SPIRE_SERVER_IMAGE": {Files: map[string]string{"opt/spire/bin/spire-server": real.Tool(t, "spire-server")}, Dirs: []string{"tmp"}},
		"SPIRE_AGENT_IMAGE":  {Files: map[string]string{"opt/spire/bin/spire-agent": real.Tool(t, "spire-agent")}, Dirs: []string{"tmp"}},
		"PROMETHEUS_IMAGE":   {Files: files, Dirs: []string{"tmp", "prometheus"}},
		"JAEGER_IMAGE": {Files: map[string]string{"cmd/jaeger/jaeger-linux": real.Tool(t, "jaeger")}, Dirs: []string{"tmp"},
			Changes: []string{`ENTRYPOINT ["/cmd/jaeger/jaeger-linux"]`}},
	} {
		real.MakeImage(t, v[name], i)
	}
	s := &stack{ComposeStack: real.Compose(t, root+"/deploy/compose", v), t: t}
	services := []string{"up", "-d", "--no-build"}
	for name := range strings.FieldsSeq(s.Run("config", "--services")) {
		if name != "grafana" {
			services = append(services, name)
		}
	}
	s.Run(services...)
	s.consul, s.web, s.load = s.Address("consul", 8500), s.Address("web", 8000), s.Address("load", 8080)
	return s
}

// get reads JSON.
func get(url string, into any) error {
	client := http.Client{Timeout: 30 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", url, resp.Status, body)
	}
	if err != nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// tally is what the stack's load has seen.
type tally struct {
	Requests, Failed int
	Last             string `json:"last_error"`
	By               map[string]int
}

func (s *stack) tally() (seen tally, err error) {
	err = get("http://"+s.load+"/", &seen)
	return seen, err
}

// seen is the tally; the load is always there.
func (s *stack) seen() tally {
	s.t.Helper()
	seen, err := s.tally()
	if err != nil {
		s.t.Fatal(err)
	}
	return seen
}

// more waits for n further answers of a service.
func (s *stack) more(service string, n int) {
	s.t.Helper()
	before := s.seen().By[service]
	eventually(s.t, fmt.Sprintf("%d more answers of %s", n, service), func() error {
		if now, err := s.tally(); err != nil || now.By[service] < before+n {
			return fmt.Errorf("%w: %d, was %d; %+v", err, now.By[service], before, now)
		}
		return nil
	})
}
