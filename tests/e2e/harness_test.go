package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// binary is the path of larboard, built once for each run of the tests.
var binary string

// TestMain builds larboard; under another name it is one of the servers that the
// tests kill (see workload).
func TestMain(m *testing.M) {
	if name := os.Getenv(workloadEnv); name != "" {
		serveWorkload(name)
		return
	}
	os.Exit(runTests(m))
}

func runTests(m *testing.M) int {
	dir, err := os.MkdirTemp("", "e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "larboard")
	build := exec.Command("go", "build", "-o", binary, "../..")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "go build: %v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// long reports whether the claims get the time that they are stated with.
func long() bool { return os.Getenv("LARBOARD_LONG") == "1" }

// either is short in `go test` and full in the long form.
func either(short, full time.Duration) time.Duration {
	if long() {
		return full
	}
	return short
}

// patience is what a condition gets that should hold soon, on a machine that is
// busy with other tests.
const patience = 45 * time.Second

// claimed is what a test allows for something that is claimed to take d at most: that,
// in the long form. In `go test` other tests run beside it and may add as much as they
// like, but not so much that a defect would pass (a query that is repeated each minute,
// a wait that ends by its own limit).
func claimed(d time.Duration) time.Duration { return d + either(8*time.Second, time.Second) }

// eventually waits until cond returns nil, and fails the test with its last error
// if that is not within the time given.
func eventually(t testing.TB, within time.Duration, what string, cond func() error) {
	t.Helper()
	if err := poll(within, cond); err != nil {
		t.Fatalf("%s: not within %v: %v", what, within, err)
	}
}

func poll(within time.Duration, cond func() error) error {
	deadline := time.Now().Add(within)
	for {
		err := cond()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// shortDir is a temporary directory whose path leaves room for the name of a Unix
// socket.
func shortDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// ports hands out each port once. They lie below the range from which the kernel
// takes ports for outgoing connections, so that none of those gets in the way.
var ports = struct {
	sync.Mutex
	next int
}{next: 18000 + os.Getpid()%12000}

// freeAddress is a loopback address on which nobody listens. Most tests have no
// use for it: port 0 and (*larboard).address do without a guess.
func freeAddress(t testing.TB) string {
	t.Helper()
	ports.Lock()
	defer ports.Unlock()
	for range 1000 {
		ports.next++
		if ports.next > 31999 {
			ports.next = 18000
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

// writeFile writes a file below a directory and returns its path.
func writeFile(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
