package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// curl over the Unix socket at path.
func curl(t testing.TB, path, url string) (string, error) {
	t.Helper()
	out, err := exec.Command("curl", "-sS", "--max-time", "10", "--unix-socket", path, url).CombinedOutput()
	return string(out), err
}

// A listener and its endpoint on Unix sockets: requests, health checks, reload, the file's
// life, and what the log says of such clients.
func TestUnixSockets(t *testing.T) {
	dir := shortDir(t)
	app, err := net.Listen("unix", filepath.Join(dir, "app.sock"))
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "host %s, for %q", r.Host, r.Header.Get("X-Forwarded-For"))
	})}
	go server.Serve(app)
	t.Cleanup(func() { server.Close() })

	configuration := func(mode string) string {
		return fmt.Sprintf(`
listeners: [{name: web, address: ["unix://%s/web.sock", "127.0.0.1:0", "[::1]:0"], socket_mode: "%s", service: app}]
services: [{name: app, endpoints: ["unix://%s/app.sock"], health: {http: {path: /}, interval: 100ms}}]
access_log: stdout
`, dir, mode, dir)
	}
	socket := filepath.Join(dir, "web.sock")
	// What a process that was killed has left behind is replaced.
	dead, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()

	p := launchIn(t, dir, "larboard", configuration("0600"))
	p.waitReady()
	if got, err := curl(t, socket, "http://shop.example/x"); err != nil || got != `host shop.example, for ""` {
		t.Errorf("curl: %q, %v", got, err)
	}
	addresses := p.addresses("web")
	if len(addresses) != 3 || addresses[0] != "unix://"+socket {
		t.Fatalf("listening on %q", addresses)
	}
	for _, a := range addresses[1:] {
		if status, body, _ := get(t, "http://"+a+"/"); status != 200 || !strings.Contains(body, "for ") || strings.HasSuffix(body, `for ""`) {
			t.Errorf("%s: %d %s", a, status, body)
		}
	}
	eventually(t, patience, "a line of the access log", func() error {
		if !strings.Contains(p.stdout.String(), "client=unix") {
			return fmt.Errorf("not in\n%s", p.stdout.String())
		}
		return nil
	})
	eventually(t, patience, "a health check", func() error {
		_, body, err := p.get("/api/v1/endpoints")
		if err == nil && !strings.Contains(body, "app.sock") {
			err = fmt.Errorf("no endpoint in %s", body)
		}
		return err
	})

	before, err := os.Stat(socket)
	if err != nil || before.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", before.Mode(), err)
	}
	p.configure(configuration("0666"))
	if status, body := p.reload(); status != 200 {
		t.Fatalf("reload: %d %s", status, body)
	}
	after, err := os.Stat(socket)
	if err != nil || !os.SameFile(before, after) || after.Mode().Perm() != 0o666 {
		t.Errorf("after the reload: %v, %v", after, err)
	}

	second := launchIn(t, shortDir(t), "second", configuration("0600"))
	if code := second.exit(patience); code == 0 || !strings.Contains(second.log(), "in use") {
		t.Errorf("a second one on the same socket: exit %d\n%s", code, second.log())
	}
	if _, err := curl(t, socket, "http://a/"); err != nil {
		t.Errorf("after the second one's attempt: %v", err)
	}

	p.signal(os.Interrupt)
	p.exit(patience)
	if _, err := os.Stat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket's file outlived its process: %v", err)
	}
}

// An address that this host does not hold is refused with a hint, and taken with freebind.
func TestFreeBind(t *testing.T) {
	form := "listeners: [{name: web, address: \"192.0.2.77:0\", service: app%s}]\nservices: [{name: app, endpoints: [127.0.0.1:1]}]\n"
	p := launch(t, "without", fmt.Sprintf(form, ""))
	if code := p.exit(patience); code == 0 || !strings.Contains(p.log(), "freebind: true") {
		t.Errorf("exit %d\n%s", code, p.log())
	}
	p = start(t, "with", fmt.Sprintf(form, ", freebind: true"))
	if a := p.address("web"); !strings.HasPrefix(a, "192.0.2.77:") || strings.HasSuffix(a, ":0") {
		t.Errorf("listening on %s", a)
	}
}

// One port for both families, by two addresses and by one.
func TestBothFamilies(t *testing.T) {
	app := origin(t, named("app"))
	_, port, _ := net.SplitHostPort(freeAddress(t))
	_, other, _ := net.SplitHostPort(freeAddress(t))
	start(t, "larboard", fmt.Sprintf(`
listeners:
- {name: two, address: ["0.0.0.0:%[1]s", "[::]:%[1]s"], service: app}
- {name: one, address: "[::]:%[2]s", service: app}
services: [{name: app, endpoints: [%[3]q]}]
`, port, other, app))
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, port := range []string{port, other} {
			res, err := http.Get("http://" + net.JoinHostPort(host, port))
			if err != nil {
				t.Errorf("%s port %s: %v", host, port, err)
				continue
			}
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
			if res.StatusCode != 200 {
				t.Errorf("%s port %s: %d", host, port, res.StatusCode)
			}
		}
	}
}
