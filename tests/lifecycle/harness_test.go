package lifecycle

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the path of larboard, built once for each run of the tests.
var binary string

// TestMain builds larboard; in a process below it, it is the application.
func TestMain(m *testing.M) {
	if kind := os.Getenv(kindEnv); kind != "" {
		os.Exit(application(kind))
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "lifecycle")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "larboard")
	if out, err := exec.Command("go", "build", "-o", binary, "../..").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// times is how often something is tried: short in `go test`, full in the long form.
func times(short, full int) int {
	if os.Getenv("LARBOARD_LONG") == "1" {
		return full
	}
	return short
}

// patience is what a condition gets that should hold soon, on a busy machine.
const patience = 60 * time.Second

func eventually(t testing.TB, what string, cond func() error) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

// shortDir is a temporary directory whose path leaves room for the name of a Unix socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ports hands out each port once, below the range from which the kernel takes those of
// outgoing connections, and below those of other packages' tests.
var ports = struct {
	sync.Mutex
	next int
}{next: 12000 + os.Getpid()%4000}

func freeAddress(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		if ports.next++; ports.next > 17900 {
			ports.next = 12000
		}
		address := "127.0.0.1:" + strconv.Itoa(ports.next)
		if l, err := net.Listen("tcp", address); err == nil {
			l.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// output is what a process has written.
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

// process is one that is killed at the end of the test.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	out    output // both streams
	exited chan struct{}
}

// begin starts a program with these variables beside ours.
func begin(t testing.TB, environment []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(args[0], args[1:]...), exited: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), environment...)
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.out
	p.cmd.WaitDelay = time.Second // what a killed one leaves behind may hold the pipe
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait() // the exit code tells
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.exited
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(args, " "), p.out.String())
		}
	})
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Errorf("%v: %v", s, err)
	}
}

// code waits for the exit code, as a shell tells it.
func (p *process) code() int {
	p.t.Helper()
	select {
	case <-p.exited:
		if status := p.cmd.ProcessState.Sys().(syscall.WaitStatus); status.Signaled() {
			return 128 + int(status.Signal())
		}
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("does not end:\n%s", p.out.String())
		return -1
	}
}

// proxy is a process with an admin socket.
type proxy struct {
	*process
	admin  string
	client *http.Client
}

// write writes a configuration, with an admin socket, and returns its name and the socket's.
func write(t testing.TB, configuration string) (file, admin string) {
	t.Helper()
	dir := shortDir(t)
	file, admin = filepath.Join(dir, "larboard.yaml"), filepath.Join(dir, "admin.sock")
	if err := os.WriteFile(file, []byte(configuration+"\nadmin: {socket: admin.sock}\nloops: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file, admin
}

// run starts a proxy, with the command behind it if there is one.
func run(t testing.TB, configuration string, environment []string, command ...string) *proxy {
	t.Helper()
	file, admin := write(t, configuration)
	args := []string{binary, "run", "-c", file}
	if len(command) > 0 {
		args = append(append(args, "--"), command...)
	}
	p := &proxy{process: begin(t, environment, args...), admin: admin}
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", admin)
		}}}
	return p
}

// ready waits until the proxy says so.
func (p *proxy) ready() *proxy {
	p.t.Helper()
	eventually(p.t, "the proxy is ready", func() error { return p.view("/readyz", nil) })
	return p
}

// view decodes the answer of an admin path, which must be 200; into may be nil.
func (p *proxy) view(path string, into any) error {
	resp, err := p.client.Get("http://localhost" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%d %s", resp.StatusCode, body)
	}
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(body, into)
}

// metrics are those of the moment.
func (p *proxy) metrics() string {
	p.t.Helper()
	resp, err := p.client.Get("http://localhost/metrics")
	if err != nil {
		p.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return string(body)
}

// address of a listener as bound.
func (p *proxy) address(listener string) string {
	p.t.Helper()
	var v struct {
		Listeners []struct {
			Name      string
			Addresses []string
		}
	}
	if err := p.view("/api/v1/listeners", &v); err != nil {
		p.t.Fatal(err)
	}
	for _, l := range v.Listeners {
		if l.Name == listener {
			return l.Addresses[0]
		}
	}
	p.t.Fatalf("no listener %s", listener)
	return ""
}

// mesh is an authority and a service, stock, that answers behind its proxy.
type mesh struct {
	state, stock string
	proxy        *proxy
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	m := &mesh{state: filepath.Join(shortDir(t), "authority")}
	stock := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "stock") }))
	t.Cleanup(stock.Close)
	m.proxy = run(t, m.identity("stock")+fmt.Sprintf("workload: {service: stock, address: %q, listen: 127.0.0.1:0}\n",
		strings.TrimPrefix(stock.URL, "http://")), nil).ready()
	m.stock = m.proxy.address("inbound")
	return m
}

func (m *mesh) identity(service string) string {
	return fmt.Sprintf("identity: {dev: {trust_domain: mesh.test, state: %q, id: \"spiffe://mesh.test/ns/default/dc/dc1/svc/%s\"}}\n", m.state, service)
}

// caller is a configuration that reaches stock at an address.
func (m *mesh) caller(service, out string) string {
	return m.identity(service) + fmt.Sprintf("upstreams: [{service: stock, bind: %q, endpoints: [%q]}]\n", out, m.stock)
}

// as is the environment of an application.
func as(kind, out, address string) []string {
	return []string{kindEnv + "=" + kind, outEnv + "=" + out, addressEnv + "=" + address}
}

// self is the program that is the application.
func self(t testing.TB) string {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return path
}
