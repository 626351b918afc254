package inject

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// patience is for what takes a moment on an idle machine.
const patience = time.Minute

// A definition in HCL and one in JSON are put into the mesh, registered at an agent, and
// served: the one calls the other.
func TestConsulDefinitions(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{Sidecars: true})
	binary, consul, dir := real.Program(t, "."), real.Tool(t, "consul"), t.TempDir()
	stock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "stock") }))
	defer stock.Close()
	bind := freeAddress(t)
	write(t, filepath.Join(dir, "web.hcl"), fmt.Sprintf("service {\n  name = \"web\"\n  port = 1 # nobody calls it\n  meta { larboard-upstreams = \"stock:%d/http\" }\n}\n", port(bind)))
	write(t, filepath.Join(dir, "stock.json"), fmt.Sprintf("{\"services\": [{\"name\": \"stock\", \"id\": \"stock-1\", \"port\": %d, \"meta\": {\"larboard-protocol\": \"http\"}}]}", port(stock.Listener.Addr().String())))
	if got := larboard(t, binary, dir, "inject", "-f", ".", "--in-place"); got.code != 0 {
		t.Fatalf("%+v", got)
	}
	for _, name := range []string{"web.hcl", "stock.json"} {
		file := filepath.Join(dir, name)
		if ran := real.Run(t, patience, consul, "services", "register", "-http-addr", agent.Address, file); ran.Code != 0 {
			t.Fatalf("consul services register: %s%s\n%s", ran.Stdout, ran.Stderr, read(t, file))
		}
	}
	proxies := []*proxy{sidecar(t, binary, agent.Address, "web"), sidecar(t, binary, agent.Address, "stock-1")}
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	for {
		err := asks(ctx, "http://"+bind+"/", "stock")
		if err == nil {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%v\n%s", err, proxies[0].said())
		case <-proxies[0].ended:
			t.Fatalf("ended: %s", proxies[0].said())
		case <-proxies[1].ended:
			t.Fatalf("ended: %s", proxies[1].said())
		case <-time.After(100 * time.Millisecond):
		}
	}
	for _, p := range proxies {
		if bytes.Contains(p.said(), []byte("have no effect")) {
			t.Errorf("a part of the definition is for nobody:\n%s", p.said())
		}
	}
}

func asks(ctx context.Context, url, want string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != want {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	return err
}

// proxy is a running sidecar.
type proxy struct {
	ended chan struct{}

	mu  sync.Mutex
	log bytes.Buffer
}

func (p *proxy) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *proxy) said() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.log.Bytes())
}

// sidecar runs the sidecar of a service until the end of the test.
func sidecar(t *testing.T, binary, agent, service string) *proxy {
	t.Helper()
	p := &proxy{ended: make(chan struct{})}
	cmd := exec.Command(binary, "run", "--sidecar-for", service, "-c", "rest.yaml")
	cmd.Dir = t.TempDir()
	write(t, filepath.Join(cmd.Dir, "rest.yaml"), "admin: {address: \"127.0.0.1:0\"}\nloops: 1\n")
	cmd.Env = append(os.Environ(), "CONSUL_HTTP_ADDR="+agent)
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			<-p.ended
		}
	})
	return p
}

// freeAddress is one of loopback that nobody listens on, below the ports that the kernel gives
// out.
func freeAddress(t *testing.T) string {
	t.Helper()
	var err error
	for range 100 {
		address := fmt.Sprintf("127.0.0.1:%d", 12000+rand.IntN(6000))
		var l net.Listener
		if l, err = net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal(err)
	return ""
}

func port(address string) int {
	a, _ := net.ResolveTCPAddr("tcp", address)
	return a.Port
}
