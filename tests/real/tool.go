// Package real starts real servers, clients and conformance tests, each a process of
// its own: built from a pinned module under tests/tools, or of a package of the system.
// It must not know of the product's packages: a test talks to a server as any other
// user does.
package real

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// recipe is what the build of a tool needs beyond its name. The zero value builds
// the only tool of the module tests/tools/NAME, statically and without C.
type recipe struct {
	module string   // under tests/tools; empty: the tool's name
	pkg    string   // empty: the module's only tool
	cgo    bool     // needs a C compiler
	flags  []string // for go build, after the common ones
	expect string   // how long the first build takes with two cores
}

// recipes has those that need one.
var recipes = map[string]recipe{
	"consul": {expect: "about 4 to 8 minutes with two cores"},
	"ghz":    {expect: "about 2 minutes with two cores"},
	"grpc-interop-client": {module: "grpc", pkg: "google.golang.org/grpc/interop/client",
		expect: "about a minute with two cores"},
	"grpc-interop-server":     {module: "grpc", pkg: "./server", expect: "about a minute with two cores"},
	"h2spec":                  {expect: "a few seconds"},
	"helm":                    {expect: "about 2 minutes with two cores"},
	"etcd":                    {module: "kubernetes", pkg: "go.etcd.io/etcd/server/v3", expect: "about a minute with two cores"},
	"kube-apiserver":          kubernetes("kube-apiserver", "about 8 minutes with two cores"),
	"kube-controller-manager": kubernetes("kube-controller-manager", "about 2 minutes with two cores"),
	"kube-scheduler":          kubernetes("kube-scheduler", "about a minute with two cores"),
	"kubectl":                 kubernetes("kubectl", "about a minute with two cores"),
	"kubelet":                 kubernetes("kubelet", "about 2 minutes with two cores"),
	"ghostunnel":              {cgo: true, expect: "about a minute with two cores, and a C compiler"},
	"jaeger":                  {expect: "about 4 to 7 minutes with two cores"},
	"staticcheck":             {expect: "about half a minute with two cores"},
	"spire-agent": {module: "spire", pkg: "github.com/spiffe/spire/cmd/spire-agent",
		expect: "about 5 minutes with two cores"},
	"spire-server": {module: "spire", pkg: "github.com/spiffe/spire/cmd/spire-server", cgo: true,
		flags: []string{"-tags", "netgo,osusergo,sqlite_omit_load_extension",
			"-ldflags", "-s -w -linkmode external -extldflags -static"},
		expect: "about 5 minutes with two cores, and a C compiler"},
}

// kubernetes is the recipe of a program of Kubernetes. Its version, which clients and servers
// tell each other, is set by the linker: a build from the module alone knows none.
func kubernetes(program, expect string) recipe {
	const version = "v1.36.3"
	flags := "-s -w"
	for _, at := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		for name, value := range map[string]string{"gitVersion": version, "gitMajor": "1", "gitMinor": "36"} {
			flags += " -X " + at + "." + name + "=" + value
		}
	}
	return recipe{module: "kubernetes", pkg: "k8s.io/kubernetes/cmd/" + program, flags: []string{"-ldflags", flags}, expect: expect}
}

// Tool returns the path of a tool and ends the test when it cannot be built.
func Tool(t testing.TB, name string) string {
	t.Helper()
	path, err := Build(t.Context(), name, os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Build returns the path of a tool, by default that of the module tests/tools/NAME,
// building it first where the user's cache directory has none for these versions and this Go.
// The directory is looked for upwards from the working directory. It says on notes
// what it builds, and blocks for as long as that takes; processes that want the
// same tool wait for the one that builds it.
func Build(ctx context.Context, name string, notes io.Writer) (string, error) {
	how := recipes[name]
	module, err := findModule(cmp.Or(how.module, name))
	if err != nil {
		return "", err
	}
	binary, err := cached(ctx, module, name)
	if err != nil {
		return "", fmt.Errorf("tool %s: %w", name, err)
	}
	if ready(binary) {
		return binary, nil
	}
	unlock, err := lock(binary + ".lock")
	if err != nil {
		return "", fmt.Errorf("tool %s: %w", name, err)
	}
	defer unlock()
	if ready(binary) {
		return binary, nil
	}
	fmt.Fprintf(notes, "building %s from its module, once: %s, into %s\n",
		name, cmp.Or(how.expect, "some minutes"), binary)
	if err := how.build(ctx, module, binary); err != nil {
		return "", fmt.Errorf("tool %s: %w", name, err)
	}
	return binary, nil
}

// findModule looks for the tool's module from the working directory upwards.
func findModule(name string) (string, error) {
	if name == "" || name != filepath.Base(name) {
		return "", fmt.Errorf("tool %q: not a name", name)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		module := filepath.Join(dir, "tests", "tools", name)
		if _, err := os.Stat(filepath.Join(module, "go.mod")); err == nil {
			return module, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("tool %q: no tests/tools/%s/go.mod here or above", name, name)
		}
		dir = filepath.Dir(dir)
	}
}

// cached is where the tool belongs: its name holds a digest of all that decides
// what is built, the module's own programs included. How it is built is not among
// that: whoever changes a recipe's flags removes the cached file.
func cached(ctx context.Context, module, name string) (string, error) {
	digest := sha256.New()
	sources, err := filepath.Glob(filepath.Join(module, "*", "*.go"))
	if err != nil {
		return "", err
	}
	for _, file := range append([]string{filepath.Join(module, "go.mod"), filepath.Join(module, "go.sum")}, sources...) {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		digest.Write(data)
	}
	env, err := goCommand(ctx, module, "env", "GOVERSION", "GOOS", "GOARCH").Output()
	if err != nil {
		return "", fmt.Errorf("go env: %w", err)
	}
	digest.Write(env)
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "larboard", "tools")
	return filepath.Join(dir, fmt.Sprintf("%s-%x", name, digest.Sum(nil)[:6])), os.MkdirAll(dir, 0o755)
}

// build builds the tool and puts it in place in one step.
func (r recipe) build(ctx context.Context, module, binary string) error {
	half := binary + ".part"
	defer os.Remove(half)
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w"}, r.flags...)
	build := goCommand(ctx, module, append(args, "-o", half, cmp.Or(r.pkg, "tool"))...)
	if r.cgo {
		build.Env = append(build.Env, "CGO_ENABLED=1")
	}
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("go build: %w\n%s", errors.Join(err, ctx.Err()), tail(string(out), 20))
	}
	return os.Rename(half, binary)
}

// goCommand runs go inside a tool's module, free of settings meant for others.
func goCommand(ctx context.Context, module string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = module
	cmd.Env = append(os.Environ(), "GOWORK=off", "GOFLAGS=-mod=readonly", "CGO_ENABLED=0", "GOOS=", "GOARCH=")
	return cmd
}

func ready(binary string) bool {
	info, err := os.Stat(binary)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// lock waits for the exclusive use of a lock file; the lock also ends with the
// process.
func lock(path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
	}
}

// tail returns the last lines of a text.
func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
