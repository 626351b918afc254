package registration

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/cli"
	"github.com/larboard-proxy/larboard/tests/real"
)

// asLarboard makes the test binary behave as larboard itself, so that tests see a real process.
const asLarboard = "LARBOARD_TEST_AS_BINARY"

func TestMain(m *testing.M) {
	if os.Getenv(asLarboard) != "" {
		os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// patience is for everything that Consul's timers and a busy machine take part in.
const patience = 90 * time.Second

// proxy is a running `larboard run`.
type proxy struct {
	t    *testing.T
	file string
	cmd  *exec.Cmd
	log  *output
	done chan error
}

// output is what a process has written so far.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// larboard is a command of the binary.
func larboard(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), asLarboard+"=1")
	return cmd
}

// run starts a proxy, which ends with the test.
func run(t *testing.T, config string) *proxy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "larboard.yaml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, file: file, cmd: larboard(t, "run", "-c", file), log: &output{}, done: make(chan error, 1)}
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		if t.Failed() {
			t.Logf("a proxy said:\n%s", p.log)
		}
	})
	return p
}

// kill ends it without a word.
func (p *proxy) kill() {
	p.t.Helper()
	if err := p.cmd.Process.Kill(); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
}

// reload has it read another configuration.
func (p *proxy) reload(config string) {
	p.t.Helper()
	if err := os.WriteFile(p.file, []byte(config), 0o600); err != nil {
		p.t.Fatal(err)
	}
	p.cmd.Process.Signal(syscall.SIGHUP)
}

// stop ends it politely.
func (p *proxy) stop() {
	p.t.Helper()
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-p.done:
		if err != nil {
			p.t.Errorf("the proxy ended with %v", err)
		}
	case <-time.After(patience):
		p.t.Fatal("the proxy does not end")
	}
}

// clean runs `larboard clean` to its end.
func clean(t *testing.T, agent *real.ConsulAgent, args ...string) (code int, said string) {
	t.Helper()
	cmd := larboard(t, append([]string{"clean", "--consul", agent.Address}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// workload is an application that answers with its name, and its address.
func workload(t *testing.T, name string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
	return l.Addr().String()
}

// freeAddress is free at this moment.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually waits for what is wanted, and ends the test where it does not come.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	end := time.Now().Add(patience)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// instance is what Consul shows of one.
type instance struct {
	Node    struct{ Node, Address string }
	Service struct {
		ID, Service, Address string
		Meta                 map[string]string
	}
	Checks []struct{ CheckID, Status, Output, Notes string }
}

// state is the worst of the checks, and what they say.
func (i instance) state() (worst, output string) {
	worst = "passing"
	for _, c := range i.Checks {
		if c.Status == "critical" {
			worst = c.Status
		}
		output += c.CheckID + ": " + c.Output + c.Notes + "\n"
	}
	return worst, output
}

func find(t *testing.T, agent *real.ConsulAgent, kind, service string) (all []instance) {
	t.Helper()
	if err := agent.Call("GET", "/v1/health/"+kind+"/"+service, nil, &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// await waits until a service has so many instances in a state.
func await(t *testing.T, agent *real.ConsulAgent, kind, service string, n int, state string) (all []instance) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has %d %s instances that are %s", service, n, kind, state), func() error {
		all = find(t, agent, kind, service)
		if len(all) != n {
			return fmt.Errorf("there are %d", len(all))
		}
		for _, i := range all {
			if got, said := i.state(); got != state {
				return fmt.Errorf("%s is %s: %s", i.Service.ID, got, said)
			}
		}
		return nil
	})
	return all
}

// nodes are those of the catalog whose names begin so.
func nodes(t *testing.T, agent *real.ConsulAgent, prefix string) (names []string) {
	t.Helper()
	var all []struct{ Node string }
	if err := agent.Call("GET", "/v1/catalog/nodes", nil, &all); err != nil {
		t.Fatal(err)
	}
	for _, n := range all {
		if strings.HasPrefix(n.Node, prefix) {
			names = append(names, n.Node)
		}
	}
	return names
}

// serveAt is a workload at an address.
func serveAt(t *testing.T, address string) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go server.Serve(l)
	t.Cleanup(func() { server.Close() })
}

// awaitThenKill kills the proxy of web once it is registered.
func (p *proxy) awaitThenKill(agent *real.ConsulAgent) {
	p.t.Helper()
	await(p.t, agent, "connect", "web", 1, "passing")
	p.kill()
}

// shown is the block of the manual's page on Consul that holds a text.
func shown(t *testing.T, text string) string {
	t.Helper()
	page, err := os.ReadFile("../../examples/manual/consul.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, block := range strings.Split(string(page), "```") {
		if i%2 == 1 && strings.Contains(block, text) {
			_, block, _ = strings.Cut(block, "\n")
			return block
		}
	}
	t.Fatalf("the manual shows no %s", text)
	return ""
}
