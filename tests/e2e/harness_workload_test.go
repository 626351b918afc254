package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// workloadEnv makes the test binary a workload of that name.
const workloadEnv = "LARBOARD_E2E_WORKLOAD"

// workload is an HTTP server in a process of its own, so that it can be killed as
// processes are killed. It answers every request with its name.
type workload struct {
	name, address string
	cmd           *exec.Cmd
	exited        chan struct{}
}

// startWorkload returns when the server accepts connections. It ends with the
// test.
func startWorkload(t testing.TB, name string) *workload {
	t.Helper()
	w := &workload{name: name, cmd: exec.Command(os.Args[0]), exited: make(chan struct{})}
	w.cmd.Env = append(os.Environ(), workloadEnv+"="+name)
	w.cmd.SysProcAttr = dieWithUs()
	w.cmd.Stderr = os.Stderr
	stdout, err := w.cmd.StdoutPipe()
	if err == nil {
		err = w.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	go func() {
		_ = w.cmd.Wait() // it is killed: its exit says nothing
		close(w.exited)
	}()
	t.Cleanup(w.kill)
	if err != nil {
		t.Fatalf("workload %s: %v", name, err)
	}
	w.address = strings.TrimSpace(line)
	return w
}

// kill is kill -9, and waits for it.
func (w *workload) kill() {
	_ = w.cmd.Process.Kill()
	<-w.exited
}

// serveWorkload is main of a workload: it prints its address and serves until it
// is killed.
func serveWorkload(name string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.Addr())
	err = http.Serve(l, bulky(named(name)))
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// named answers with a name; a request's body is read and thrown away.
func named(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, name)
	}
}

// origin is an HTTP server within the test and returns its address.
func origin(t testing.TB, h http.Handler) string {
	t.Helper()
	return originWith(t, h, func(*http.Server) {})
}

// originWith is origin with something changed.
func originWith(t testing.TB, h http.Handler, change func(*http.Server)) string {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	change(s.Config)
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// get sends one request without keeping its connection and returns the answer.
func get(t testing.TB, url string) (status int, body string, header http.Header) {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(data), resp.Header
}
