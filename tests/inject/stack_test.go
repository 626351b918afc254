package inject

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// registry is before the names of images made here, so that none that somebody has is replaced.
const registry = "larboard.test/inject/"

// plainStack knows nothing of proxies: its labels alone do.
const plainStack = `# a stack without proxies
services:
  consul:
    image: larboard.test/inject/consul
    entrypoint: [/bin/consul]
    command: [agent, -dev, -client, 0.0.0.0, -log-level, warn]
    healthcheck: {test: [CMD, /bin/consul, operator, raft, list-peers], interval: 2s, timeout: 10s, retries: 60}

  web:
    image: larboard.test/inject/shop
    command: [serve, --name, web, --listen, "0.0.0.0:8080", --call, "http://127.0.0.1:9191/"]
    ports: ["127.0.0.1::8080"]
    labels:
      larboard.upstreams: stock:9191/http
      larboard.identity: consul
      larboard.order: before
      larboard.config: |
        log: {format: json}
        access_log: {path: stdout, format: json}
    depends_on: # the callee first
      stock: {condition: service_started}

  stock:
    image: larboard.test/inject/shop
    command: [serve, --name, stock, --listen, "127.0.0.1:8080"]
    labels: ["larboard.port=8080/http", larboard.identity=consul, larboard.memory-limit=128m, larboard.cpu-limit=1.5]
`

// A stack of a Docker Engine that knows nothing of proxies is injected and started: the proxies are
// healthy, the services call each other through them, and end in order.
func TestStack(t *testing.T) {
	t.Parallel()
	real.Docker(t)
	dir, binary := t.TempDir(), real.Program(t, ".")
	for name, i := range map[string]real.Image{
		"larboard": {Files: map[string]string{"larboard": binary}, Changes: []string{`ENTRYPOINT ["/larboard"]`, "USER 1337:1337"}},
		"shop":     {Files: map[string]string{"shop": real.Program(t, "examples/shop")}, Changes: []string{`ENTRYPOINT ["/shop"]`, "USER 1000:1000"}},
		"consul":   {Files: map[string]string{"bin/consul": real.Tool(t, "consul")}, Dirs: []string{"tmp"}},
	} {
		real.MakeImage(t, registry+name, i)
	}
	file := filepath.Join(dir, "docker-compose.yaml")
	write(t, file, plainStack)
	if got := larboard(t, binary, dir, "inject", "-f", file, "--image", registry+"larboard", "--in-place"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	s := real.Compose(t, dir, nil)
	s.Run("up", "-d")
	for _, name := range []string{"web-larboard", "stock-larboard"} {
		eventually(t, name+" is healthy", func() error {
			state := real.DockerRun(t, "inspect", "-f", "{{.State.Health.Status}} {{.State.Status}}", s.Container(name))
			if state != "healthy running" {
				return errors.New(state + "\n" + s.Logs(name))
			}
			return nil
		})
	}
	url := "http://" + s.Address("web-larboard", 8080) + "/"
	eventually(t, "web calls stock", func() error {
		text, err := get(t.Context(), url)
		if err == nil && !strings.Contains(text, "stock") {
			err = fmt.Errorf("%s\n%s", text, s.Logs("web-larboard"))
		}
		return err
	})
	if logs := s.Logs("web-larboard"); !strings.Contains(logs, `"service":"stock"`) {
		t.Errorf("the call went past the proxy:\n%s", logs)
	}
	s.Run("stop", "-t", "60")
	for _, name := range []string{"web-larboard", "stock-larboard"} {
		if code := real.DockerRun(t, "inspect", "-f", "{{.State.ExitCode}}", s.Container(name)); code != "0" {
			t.Errorf("%s ended with %s\n%s", name, code, s.Logs(name))
		}
	}
}

// eventually waits until a thing is so.
func eventually(t *testing.T, what string, holds func() error) {
	t.Helper()
	late := time.Now().Add(2 * patience)
	for {
		err := holds()
		if err == nil {
			return
		}
		if time.Now().After(late) {
			t.Fatalf("%s: not within %v: %v", what, 2*patience, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func get(ctx context.Context, url string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return string(body), err
}
