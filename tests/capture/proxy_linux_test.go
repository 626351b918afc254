package capture

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// proxied is `larboard run` in a network namespace, as the user whose connections are not captured.
type proxied struct {
	t                *testing.T
	dir, file, admin string
	cmd              *exec.Cmd
	log              logged
	exited           chan struct{}
	client           *http.Client
}

// logged is what a process has written so far.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// openDir is a directory that other users may use, too.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "capture-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	return dir
}

// executable is the test binary where other users can execute it.
func executable(t *testing.T, dir string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(dir, "larboard")
	if os.Link(self, to) == nil {
		return to
	}
	text, err := os.ReadFile(self)
	if err == nil {
		err = os.WriteFile(to, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// begin starts a proxy whose configuration gets an admin socket and an access log.
func begin(t *testing.T, n *real.NetworkNamespace, configuration string) *proxied {
	t.Helper()
	dir := openDir(t)
	p := &proxied{t: t, dir: dir, file: filepath.Join(dir, "larboard.yaml"), admin: filepath.Join(dir, "admin"), exited: make(chan struct{})}
	p.write(configuration)
	args := append([]string{asLarboard + "=1", real.Installed(t, "setpriv")}, real.As(proxy, executable(t, dir), "run", "-c", p.file)...)
	p.cmd = n.Command("env", args...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.exited)
		p.cmd.Wait()
	}()
	p.client = &http.Client{Timeout: within, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", p.admin)
	}}}
	t.Cleanup(p.end)
	p.until("it is ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("ended at its start:\n%s", p.log.String())
		default:
		}
		_, status := p.ask("GET", "/readyz")
		return status == 200
	})
	return p
}

func (p *proxied) end() {
	p.cmd.Process.Kill()
	<-p.exited
	p.client.CloseIdleConnections()
	if p.t.Failed() {
		p.t.Logf("log:\n%s\naccess log:\n%s", p.log.String(), strings.Join(p.lines(), "\n"))
	}
}

func (p *proxied) write(configuration string) {
	p.t.Helper()
	configuration += "\nadmin: {socket: admin}\naccess_log: {path: access.log, format: json}\n"
	if engine := os.Getenv("LARBOARD_ENGINE"); engine != "" {
		configuration += "engine: " + engine + "\n" // see `make test-goroutines`
	}
	writeFile(p.t, p.file, configuration)
}

// reload brings another configuration into force.
func (p *proxied) reload(configuration string) {
	p.t.Helper()
	p.write(configuration)
	if text, status := p.ask("POST", "/api/v1/reload"); status != 200 {
		p.t.Fatalf("reload: %d %s", status, text)
	}
}

// ask asks the admin interface; status 0: it does not answer.
func (p *proxied) ask(method, path string) (text string, status int) {
	req, err := http.NewRequest(method, "http://admin"+path, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return err.Error(), 0
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b), resp.StatusCode
}

func (p *proxied) until(what string, done func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(within); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %v: %s", within, what)
		}
	}
}

// lines are those of the access log.
func (p *proxied) lines() []string {
	text, _ := os.ReadFile(filepath.Join(p.dir, "access.log"))
	return strings.Split(strings.TrimSpace(string(text)), "\n")
}

// exchange is a line of the access log.
type exchange struct {
	Listener, Service, Endpoint, Reason, Client, Protocol string
	PeerID                                                string `json:"peer_id"`
	Status                                                int
}

// recorded waits for an exchange of a listener and returns the last one.
func (p *proxied) recorded(what, listener string, want func(exchange) bool) {
	p.t.Helper()
	p.until(fmt.Sprintf("%s: a line of %s in the access log", what, listener), func() bool {
		return slices.ContainsFunc(p.lines(), func(line string) bool {
			var e exchange
			return json.Unmarshal([]byte(line), &e) == nil && e.Listener == listener && want(e)
		})
	})
}

// refusals is how many connections a listener has refused for a reason.
func (p *proxied) refusals(listener, reason string) int {
	p.t.Helper()
	return p.counted("larboard_refused_total", `listener="`+listener+`"`, `reason="`+reason+`"`)
}

// accepted is how many connections all listeners have taken.
func (p *proxied) accepted() int {
	p.t.Helper()
	return p.counted("larboard_connections_total")
}

// counted is the sum of a counter over the series that have all of these labels.
func (p *proxied) counted(name string, labels ...string) (n int) {
	p.t.Helper()
	text, status := p.ask("GET", "/metrics")
	if status != 200 {
		p.t.Fatalf("metrics: %d %s", status, text)
	}
	for line := range strings.Lines(text) {
		lacks := func(label string) bool { return !strings.Contains(line, label) }
		if !strings.HasPrefix(line, name+"{") || slices.ContainsFunc(labels, lacks) {
			continue
		}
		var count float64
		fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &count)
		n += int(count)
	}
	return n
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
