package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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
)

// larboard is one running `larboard run -c FILE`.
type larboard struct {
	t    testing.TB
	name string
	// dir holds the configuration file and is what relative paths in it start from.
	dir, file string
	// admin is the path of the admin socket, which launch adds to the configuration.
	admin  string
	client *http.Client
	cmd    *exec.Cmd
	// environment is added to that of the test.
	environment []string
	// stdout is the access log where that is configured so; stderr the process log.
	stdout, stderr output

	exited chan struct{}
	err    error // of Wait; read after exited
}

// start runs larboard with a configuration and returns when it is ready. The name
// is for messages. A configuration without an `admin:` of its own gets one on a
// Unix socket, which is how the methods reach it: one with its own must have the
// socket admin.sock. Listeners may use port 0; address tells what they got. The
// process ends with the test.
func start(t testing.TB, name, configuration string) *larboard {
	t.Helper()
	p := launch(t, name, configuration)
	p.waitReady()
	return p
}

// launch is start without the wait.
func launch(t testing.TB, name, configuration string) *larboard {
	t.Helper()
	return launchIn(t, shortDir(t), name, configuration)
}

// launchIn is launch with a directory that the test has prepared.
func launchIn(t testing.TB, dir, name, configuration string) *larboard {
	t.Helper()
	return launchTo(t, nil, dir, name, configuration)
}

// launchTo is launchIn with a standard output other than larboard.stdout, where w
// is not nil, and under a command that ends in the execution of its arguments.
func launchTo(t testing.TB, w io.Writer, dir, name, configuration string, under ...string) *larboard {
	t.Helper()
	p := &larboard{t: t, name: name, dir: dir, exited: make(chan struct{})}
	p.file, p.admin = filepath.Join(dir, "larboard.yaml"), filepath.Join(dir, "admin.sock")
	p.configure(configuration)
	p.client = &http.Client{Timeout: patience, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.admin)
		},
	}}
	p.begin(w, under, "run", "-c", p.file)
	return p
}

// launchPlain runs larboard with these arguments and nothing else but variables of the
// environment; there may be no admin socket to ask.
func launchPlain(t testing.TB, name string, environment []string, args ...string) *larboard {
	t.Helper()
	p := &larboard{t: t, name: name, dir: shortDir(t), environment: environment, exited: make(chan struct{}), client: &http.Client{}}
	p.begin(nil, nil, args...)
	return p
}

// begin starts the process, below the command under where there is one.
func (p *larboard) begin(w io.Writer, under []string, args ...string) {
	p.t.Helper()
	args = append(append(slices.Clone(under), binary), args...)
	p.cmd = exec.Command(args[0], args[1:]...)
	p.cmd.Dir = p.dir
	p.cmd.Env = append(os.Environ(), p.environment...)
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	if w != nil {
		p.cmd.Stdout = w
	}
	p.cmd.SysProcAttr = dieWithUs()
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	p.t.Cleanup(p.finish)
}

// finish is the end of the test.
func (p *larboard) finish() {
	p.kill()
	p.client.CloseIdleConnections()
	if p.t.Failed() {
		p.t.Logf("last lines of %s:\n%s", p.name, tail(p.log(), 25))
	}
}

// configure writes the configuration file; a running process sees it at its next
// reload.
func (p *larboard) configure(configuration string) {
	p.t.Helper()
	if engine := os.Getenv("LARBOARD_ENGINE"); engine != "" && !strings.Contains(configuration, "engine:") {
		configuration += "\nengine: " + engine + "\n" // see `make test-goroutines`
	}
	if !strings.Contains("\n"+configuration, "\ndrain:") {
		configuration += "\ndrain: {outbound: inbound}\n" // workloads of these tests live on; see tests/lifecycle
	}
	if !strings.Contains(configuration, "admin:") {
		configuration += "\nadmin: {socket: admin.sock}\n"
	}
	// In one step: a reload must not read half of it.
	next := writeFile(p.t, p.dir, "next.yaml", configuration)
	if err := os.Rename(next, p.file); err != nil {
		p.t.Fatal(err)
	}
}

// waitReady waits until /readyz says so.
func (p *larboard) waitReady() {
	p.t.Helper()
	eventually(p.t, patience, p.name+" is ready", func() error {
		select {
		case <-p.exited:
			p.t.Fatalf("%s ended at start: %v\n%s", p.name, p.err, p.log())
		default:
		}
		return p.ready()
	})
}

// ready is nil when /readyz answers 200.
func (p *larboard) ready() error {
	status, body, err := p.get("/readyz")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, body)
	}
	return err
}

// get asks the admin interface. It may be called from any goroutine.
func (p *larboard) get(path string) (status int, body string, err error) {
	resp, err := p.client.Get("http://localhost" + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(data), err
}

// view decodes the JSON of an admin path, which must answer 200.
func (p *larboard) view(path string, into any) {
	p.t.Helper()
	status, body, err := p.get(path)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%d %s", status, body)
	}
	if err == nil {
		err = json.Unmarshal([]byte(body), into)
	}
	if err != nil {
		p.t.Fatalf("%s: GET %s: %v", p.name, path, err)
	}
}

// addresses of a listener as bound.
func (p *larboard) addresses(listener string) []string {
	p.t.Helper()
	var v struct {
		Listeners []struct {
			Name      string
			Addresses []string
		}
	}
	p.view("/api/v1/listeners", &v)
	for _, l := range v.Listeners {
		if l.Name == listener {
			return l.Addresses
		}
	}
	return nil
}

// address is the first address of a listener, which must exist.
func (p *larboard) address(listener string) string {
	p.t.Helper()
	all := p.addresses(listener)
	if len(all) == 0 {
		p.t.Fatalf("%s: no listener %q", p.name, listener)
	}
	return all[0]
}

// reload asks the admin interface to read the configuration again.
func (p *larboard) reload() (status int, body string) {
	p.t.Helper()
	return p.post("/api/v1/reload")
}

// post asks the admin API to do something.
func (p *larboard) post(path string) (status int, body string) {
	p.t.Helper()
	resp, err := p.client.Post("http://localhost"+path, "", nil)
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, path, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %s: %v", p.name, path, err)
	}
	return resp.StatusCode, string(data)
}

func (p *larboard) pid() int { return p.cmd.Process.Pid }

// signal sends a signal; a process that has ended is no error.
func (p *larboard) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.t.Fatalf("%s: %v: %v", p.name, s, err)
	}
}

// kill ends the process as kill -9 does, and waits for it.
func (p *larboard) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	<-p.exited
}

// exit waits for the process to end and returns its exit code.
func (p *larboard) exit(within time.Duration) int {
	p.t.Helper()
	late := time.NewTimer(within)
	defer late.Stop()
	select {
	case <-p.exited:
	case <-late.C:
		p.t.Fatalf("%s still runs after %v", p.name, within)
	}
	return p.cmd.ProcessState.ExitCode()
}

// log is what the process has written to standard error so far.
func (p *larboard) log() string { return p.stderr.String() }

// waitLog waits for a text in the process log.
func (p *larboard) waitLog(text string) {
	p.t.Helper()
	eventually(p.t, patience, p.name+" logs "+text, func() error {
		if !strings.Contains(p.log(), text) {
			return errors.New("not there")
		}
		return nil
	})
}

// output collects what a process writes.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// command runs larboard to its end.
func command(t testing.TB, dir string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Dir = dir
	cmd.SysProcAttr = dieWithUs()
	var out, errs output
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("larboard %v: %v", args, err)
	}
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
