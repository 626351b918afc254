package host

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

const (
	root     = "../.."
	patience = time.Minute
)

// host is where the walk takes place: a directory with the definitions, and programs in PATH.
type host struct {
	t     *testing.T
	agent *real.ConsulAgent
	dir   string
	env   []string
	swap  *strings.Replacer // ports and names of the definitions for those of this test
}

// ports that the definitions name; a test has others.
var ports = []string{"8080", "8081", "9191", "20000", "20001", "5432"}

func newHost(t *testing.T) *host {
	t.Helper()
	agent := real.Consul(t, real.ConsulOptions{})
	h := &host{t: t, agent: agent, dir: t.TempDir()}
	for name, from := range map[string]string{"larboard": real.Program(t, "."), "shop": real.Program(t, "examples/shop"), "consul": real.Tool(t, "consul")} {
		h.must(os.Symlink(from, filepath.Join(h.dir, name)))
	}
	h.env = append(os.Environ(), "PATH="+h.dir+":"+os.Getenv("PATH"), "CONSUL_HTTP_ADDR="+agent.Address)
	var pairs []string
	for _, p := range ports {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		h.must(err)
		defer l.Close()
		_, free, err := net.SplitHostPort(l.Addr().String())
		h.must(err)
		pairs = append(pairs, p, free)
	}
	h.swap = strings.NewReplacer(pairs...)
	h.must(os.MkdirAll(filepath.Join(h.dir, "deploy/consul"), 0o755))
	files, err := filepath.Glob(root + "/deploy/consul/*")
	h.must(err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		h.must(err)
		h.must(os.WriteFile(filepath.Join(h.dir, "deploy/consul", filepath.Base(f)), []byte(h.swap.Replace(string(text))), 0o644))
	}
	return h
}

func (h *host) must(err error) {
	h.t.Helper()
	if err != nil {
		h.t.Fatal(err)
	}
}

// command is a line of the page, with this test's ports.
func (h *host) command(ctx context.Context, line string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "sh", "-c", h.swap.Replace(line))
	cmd.Dir, cmd.Env = h.dir, h.env
	return cmd
}

// try runs a line to its end.
func (h *host) try(line string) (string, error) {
	out, err := h.command(h.t.Context(), line).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", line, err, out)
	}
	return string(out), nil
}

// begin runs a line until the end of the test, where it must end by SIGTERM and without a failure. It
// returns its process id.
func (h *host) begin(line string) int {
	h.t.Helper()
	cmd := h.command(context.WithoutCancel(h.t.Context()), "exec "+line)
	var said log
	cmd.Stdout, cmd.Stderr = &said, &said
	h.must(cmd.Start())
	h.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer late.Stop()
		if err := cmd.Wait(); err != nil || h.t.Failed() {
			h.t.Errorf("%s: %v\n%s", line, err, said.String())
		}
	})
	return cmd.Process.Pid
}

// log may be written and read at once.
type log struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// until runs a line again and again until it prints, or fails with, what is wanted.
func (h *host) until(line, want string) {
	h.t.Helper()
	late := time.Now().Add(patience)
	for {
		out, err := h.try(line)
		if err != nil {
			out = err.Error()
		}
		if strings.Contains(out, want) {
			return
		}
		if time.Now().After(late) {
			h.t.Fatalf("%s: not within %v %q, but %s", line, patience, want, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// lines of the page's blocks of one language.
func lines(t *testing.T, language string) (all []string) {
	t.Helper()
	text, err := os.ReadFile(root + "/examples/manual/install.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?ms)^```"+language+"\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, strings.Split(strings.TrimSpace(m[1]), "\n")...)
	}
	if len(all) == 0 {
		t.Fatalf("install.md has no block of %s", language)
	}
	return all
}

// TestHostAsWritten follows the page: definitions, proxies, a call, an intention that ends it.
func TestHostAsWritten(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	shown := lines(t, "host")
	for _, line := range shown {
		switch {
		case strings.HasPrefix(line, "larboard run"):
			h.begin(line)
		case strings.HasPrefix(line, "curl"):
			// They begin last, so that they end first: a proxy stays for as long as its workload does.
			h.begin("shop serve --name web --listen 127.0.0.1:8080")
			h.begin("shop serve --name api --listen 127.0.0.1:8081")
			h.until(line, `{"by":"api"}`)
		default:
			if _, err := h.try(line); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(shown) != 6 {
		t.Errorf("the page has %d commands: %q", len(shown), shown)
	}
	file := filepath.Join(h.dir, "deploy/consul/intentions.hcl")
	text, err := os.ReadFile(file)
	h.must(err)
	h.must(os.WriteFile(file, []byte(strings.Replace(string(text), `"allow"`, `"deny"`, 1)), 0o644))
	if _, err := h.try("consul config write deploy/consul/intentions.hcl"); err != nil {
		t.Fatal(err)
	}
	h.until("curl -s -i http://127.0.0.1:9191/", "intention_denied")
}
