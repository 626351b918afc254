package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// client sends requests over one connection until it is told to close it, as a
// client does that has other places to go to.
type client struct {
	stop   chan struct{}
	once   sync.Once
	result load.Result
}

// clients starts n of them; the returned function waits until each was told.
func clients(t testing.TB, n int, o load.Options) func() {
	t.Helper()
	var told sync.WaitGroup
	all := make([]*client, n)
	var answers atomic.Int64
	for i := range all {
		c := &client{stop: make(chan struct{})}
		all[i] = c
		o := o
		o.Conns, o.Duration, o.Stop = 1, time.Hour, c.stop
		o.Check = func(resp *http.Response, _ []byte) error {
			answers.Add(1)
			if resp.Close {
				c.once.Do(func() { close(c.stop) })
			}
			return nil
		}
		told.Go(func() { c.result = load.HTTP(t.Context(), o) })
	}
	eventually(t, patience, "every client has been answered", func() error {
		if got := answers.Load(); got < int64(10*n) {
			return fmt.Errorf("%d answers", got)
		}
		return nil
	})
	return func() {
		t.Helper()
		told.Wait()
		total := 0
		for i, c := range all {
			mustBeClean(t, c.result)
			if c.result.Closes != 1 || c.result.Dials != 1 {
				t.Errorf("client %d: %d connections, told to close %d times", i, c.result.Dials, c.result.Closes)
			}
			total += c.result.Requests
		}
		t.Logf("%d clients, %d requests, each told to close once", n, total)
	}
}

func TestSIGTERMUnderLoadFailsNoRequest(t *testing.T) {
	// Answers take a while, so that requests are under way at the signal.
	slow := func(d time.Duration) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			time.Sleep(d)
			_, _ = io.WriteString(w, "ok")
		}
	}
	t.Run("one proxy", func(t *testing.T) {
		p := start(t, "proxy", app(plainListener, origin(t, slow(2*time.Millisecond))))
		long := make(chan error, 1)
		under := make(chan struct{})
		p2 := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/long" {
				close(under)
				time.Sleep(700 * time.Millisecond)
			}
			_, _ = io.WriteString(w, "ok")
		}))
		p.configure(app(plainListener, p2))
		if status, body := p.reload(); status != 200 {
			t.Fatal(body)
		}
		wait := clients(t, 16, load.Options{Addr: p.address("in"), Rate: 30})
		address := p.address("in")
		go func() { long <- oneRequest("http://" + address + "/long") }()
		<-under
		began := time.Now()
		p.signal(syscall.SIGTERM)
		wait()
		if err := <-long; err != nil {
			t.Errorf("the request under way at the signal: %v", err)
		}
		if code := p.exit(patience); code != 0 {
			t.Errorf("exit code %d\n%s", code, p.log())
		}
		t.Logf("exit 0 after %v", time.Since(began))
	})
	t.Run("called behind another", func(t *testing.T) {
		// Both instances get requests; one leaves without having been deregistered.
		m := newStaticMesh(t, origin(t, slow(2*time.Millisecond)), origin(t, slow(2*time.Millisecond)))
		traffic := send(t, load.Options{Addr: m.api})
		traffic.await(100)
		m.called[0].signal(syscall.SIGTERM)
		if code := m.called[0].exit(patience); code != 0 {
			t.Errorf("exit code %d\n%s", code, m.called[0].log())
		}
		traffic.await(100)
		traffic.endClean()
	})
	t.Run("caller", func(t *testing.T) {
		m := newStaticMesh(t, origin(t, slow(2*time.Millisecond)))
		wait := clients(t, 8, load.Options{Addr: m.api, Rate: 30})
		m.caller.signal(syscall.SIGTERM)
		wait()
		if code := m.caller.exit(patience); code != 0 {
			t.Errorf("exit code %d\n%s", code, m.caller.log())
		}
	})
}

func oneRequest(url string) error {
	resp, err := (&http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}).Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(body) != "ok") {
		err = fmt.Errorf("%d %q", resp.StatusCode, body)
	}
	return err
}

// hanging is an origin whose answers come when the test ends, and a signal for
// each request that has arrived.
func hanging(t testing.TB) (address string, arrived chan struct{}) {
	t.Helper()
	arrived, end := make(chan struct{}, 100), make(chan struct{})
	address = origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		arrived <- struct{}{}
		<-end
	}))
	t.Cleanup(func() { close(end) })
	return address, arrived
}

func TestReadinessGoesFirstAndASecondSignalEndsAtOnce(t *testing.T) {
	address, arrived := hanging(t)
	p := start(t, "proxy", app(plainListener, address))
	conn := dial(t, p.address("in"))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	p.signal(syscall.SIGTERM)
	eventually(t, patience, "/readyz says that it drains", func() error {
		status, body, err := p.get("/readyz")
		if err != nil || status != http.StatusServiceUnavailable || !strings.Contains(body, "draining") {
			return fmt.Errorf("%d %s %v", status, body, err)
		}
		return nil
	})
	if status, _, err := p.get("/healthz"); err != nil || status != http.StatusOK {
		t.Errorf("/healthz while draining: %d %v", status, err)
	}
	p.signal(syscall.SIGTERM)
	began := time.Now()
	if code := p.exit(patience); code != 1 {
		t.Errorf("exit code %d after a second SIGTERM, want 1\n%s", code, p.log())
	}
	t.Logf("exit 1, %v after the second SIGTERM", time.Since(began))
	if !strings.Contains(p.log(), "second signal") {
		t.Error("the log does not say why")
	}
}

func TestDrainDeadlineCutsWhatIsLeft(t *testing.T) {
	address, arrived := hanging(t)
	p := start(t, "proxy", app(plainListener, address)+"timeouts: {drain: 1s}\n")
	conn := dial(t, p.address("in"))
	if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-arrived
	began := time.Now()
	p.signal(syscall.SIGTERM)
	code := p.exit(patience)
	took := time.Since(began)
	if code != 0 || took < time.Second || took > claimed(4*time.Second) {
		t.Errorf("exit code %d after %v, want 0 soon after the deadline of 1 s\n%s", code, took, p.log())
	}
}

// A proxy that still waits for its identity or for Consul ends as promptly.
func TestSIGTERMWhileStarting(t *testing.T) {
	for name, configuration := range map[string]string{
		"without identity": `
identity: {spiffe: {socket: "unix:///nonexistent/agent.sock"}}
upstreams: [{service: api, bind: 127.0.0.1:0, endpoints: [127.0.0.1:1]}]
`,
		"without consul": `
consul: {address: "unix:///nonexistent/consul.sock"}
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, discovery: {consul: {service: app}}}]
`,
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, "proxy", configuration)
			eventually(t, patience, "the admin interface answers", func() error {
				_, _, err := p.get("/healthz")
				return err
			})
			if status, body, err := p.get("/readyz"); err != nil || status != 503 || !strings.Contains(body, "starting") {
				t.Errorf("/readyz: %d %s %v", status, body, err)
			}
			p.signal(syscall.SIGTERM)
			began := time.Now()
			if code := p.exit(patience); code != 0 || time.Since(began) > claimed(time.Second) {
				t.Errorf("exit code %d after %v, want 0 at once\n%s", code, time.Since(began), p.log())
			}
		})
	}
}

func TestTakenAddressEndsTheStart(t *testing.T) {
	one := origin(t, named("one"))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	other := start(t, "other", app(plainListener, one))
	for name, c := range map[string]struct{ configuration, want string }{
		"by another program":  {app("{name: in, address: "+taken.Addr().String()+", service: app}", one), `larboard: listener "in": engine: listen ` + taken.Addr().String()},
		"by another larboard": {app("{name: in, address: "+other.address("in")+", service: app}", one), `larboard: listener "in": engine: listen ` + other.address("in")},
		"of admin":            {app(plainListener, one) + "admin: {address: " + taken.Addr().String() + "}\n", "larboard: admin: listen tcp " + taken.Addr().String()},
	} {
		t.Run(name, func(t *testing.T) {
			p := launch(t, "proxy", c.configuration)
			if code := p.exit(patience); code != 1 {
				t.Errorf("exit code %d, want 1", code)
			}
			last := tail(p.log(), 1)
			if !strings.HasPrefix(last, c.want) || !strings.HasSuffix(last, "address already in use") {
				t.Errorf("last line %q, want %q ... address already in use", last, c.want)
			}
		})
	}
}

// A socket that a killed process left behind is in nobody's way; one that is
// served is.
func TestAdminSocketLeftBehind(t *testing.T) {
	one := origin(t, named("one"))
	dir := shortDir(t)
	first := launchIn(t, dir, "first", app(plainListener, one))
	first.waitReady()
	second := launchIn(t, dir, "second", app(plainListener, one))
	if code := second.exit(patience); code != 1 {
		t.Errorf("a second one on the same socket: exit code %d, want 1\n%s", code, second.log())
	}
	if err := first.ready(); err != nil {
		t.Errorf("the first one lost its socket: %v", err)
	}
	first.kill()
	if _, err := os.Lstat(filepath.Join(dir, "admin.sock")); err != nil {
		t.Fatalf("the killed process left no socket: %v", err)
	}
	third := launchIn(t, dir, "third", app(plainListener, one))
	third.waitReady()
}
