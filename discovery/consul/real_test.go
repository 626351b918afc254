package consul_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/tests/real"
)

// patience is how long a real agent may take for anything; no test waits for it in
// vain.
const patience = 60 * time.Second

// watched is a running Set with one service.
type watched struct {
	t    *testing.T
	set  *discovery.Set
	name string

	mu  sync.Mutex
	log strings.Builder
}

// Write implements io.Writer for the log.
func (w *watched) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.Write(p)
}

func (w *watched) logged() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.log.String()
}

// watch starts a Set for the service "web".
func watch(t *testing.T, o consul.Options, h consul.Health) *watched {
	t.Helper()
	return watchService(t, "web", o, h)
}

// watchService starts a Set that must end when the test does.
func watchService(t *testing.T, name string, o consul.Options, h consul.Health) *watched {
	t.Helper()
	w := &watched{t: t, name: name}
	log := slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
	o.Log = log
	client, err := consul.New(o)
	if err != nil {
		t.Fatal(err)
	}
	w.set = discovery.New(log)
	h.Service = name
	w.set.Apply(map[string][]discovery.Spec{name: {client.Spec(h)}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- w.set.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
		client.Close()
		if t.Failed() {
			t.Logf("log:\n%s", w.logged())
		}
	})
	return w
}

// ids are the endpoints in force, by instance id.
func (w *watched) ids() string {
	u, ok := w.set.Snapshot(w.name)
	if !ok {
		return "unknown"
	}
	var ids []string
	for _, e := range u.Endpoints {
		ids = append(ids, strings.TrimPrefix(e.ID, "real/"))
	}
	return strings.Join(ids, " ")
}

func (w *watched) status() discovery.ServiceStatus { return w.set.Status()[0] }

// until waits for a condition on the state of real processes.
func (w *watched) until(what string, holds func() bool) {
	w.t.Helper()
	start := time.Now()
	late := time.NewTimer(patience)
	defer late.Stop()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for !holds() {
		select {
		case <-poll.C:
		case <-late.C:
			w.t.Fatalf("not within %v: %s; endpoints %q, status %+v", patience, what, w.ids(), w.status())
		}
	}
	w.t.Logf("%v: %s", time.Since(start).Round(time.Millisecond), what)
}

func (w *watched) untilIDs(want string) {
	w.t.Helper()
	w.until(fmt.Sprintf("endpoints are %q", want), func() bool { return w.ids() == want })
}

// web is an instance with a TTL check that passes at first.
func web(id string, port int, tags ...string) real.Service {
	return real.Service{
		ID: id, Name: "web", Address: "127.0.0.1", Port: port, Tags: tags,
		Checks: []real.Check{{CheckID: id, TTL: "10m", Status: "passing"}},
	}
}

func TestRealHealth(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{})
	agent.Register(web("a", 1001, "v1", "eu"), web("b", 1002, "v1"), web("c", 1003, "v2"))
	at := consul.Options{Address: agent.Address}
	all := watch(t, at, consul.Health{})
	warning := watch(t, at, consul.Health{Warning: true})
	tagged := watch(t, at, consul.Health{Tags: []string{"v1", "eu"}})
	filtered := watch(t, at, consul.Health{Filter: `Service.Port != 1001`})
	keep := watch(t, at, consul.Health{OnEmpty: consul.Keep})
	all.untilIDs("a b c")
	warning.untilIDs("a b c")
	tagged.untilIDs("a")
	filtered.untilIDs("b c")
	keep.untilIDs("a b c")

	agent.Register(web("d", 1004))
	all.untilIDs("a b c d")
	agent.SetCheck("a", "critical")
	all.untilIDs("b c d")
	agent.SetCheck("b", "warning")
	all.untilIDs("c d")
	warning.untilIDs("b c d")
	agent.SetCheck("a", "passing")
	all.untilIDs("a c d")
	if st := all.status(); st.Err != nil || st.Index == 0 || st.From != "consul" {
		t.Errorf("status %+v", st)
	}
	u, _ := all.set.Snapshot("web")
	if e := u.Endpoints[0]; e.Address != "127.0.0.1:1001" || e.Weight != 1 || e.Source != "consul:dc1" || e.Node != "real" || len(e.Tags) != 2 {
		t.Errorf("endpoint %+v", e)
	}

	agent.Deregister("a", "b", "c", "d")
	all.untilIDs("")
	if got := keep.ids(); got != "a c d" && got != "d" && got != "c d" {
		t.Errorf("endpoints %q are kept, want the last ones", got)
	}
	keep.until("the kept endpoints are in doubt", func() bool { return keep.status().Err != nil })
}

func TestRealSidecars(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{})
	agent.Register(
		real.Service{ID: "w1", Name: "web", Port: 8000},
		real.Service{
			ID: "w1-proxy", Name: "web-sidecar", Kind: "connect-proxy", Address: "127.0.0.1", Port: 20000,
			Meta:    map[string]string{"spiffe_id": "spiffe://example.test/web"},
			Weights: &real.Weights{Passing: 5, Warning: 1},
			Proxy:   map[string]any{"DestinationServiceName": "web"},
		})
	w := watch(t, consul.Options{Address: agent.Address}, consul.Health{Connect: true})
	w.untilIDs("w1-proxy")
	u, _ := w.set.Snapshot("web")
	e := u.Endpoints[0]
	if e.Address != "127.0.0.1:20000" || e.Weight != 5 || e.IdentityPath != "/ns/default/dc/dc1/svc/web" || e.Identity.String() != "spiffe://example.test/web" {
		t.Errorf("endpoint %+v", e)
	}
}

func TestRealRegistration(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	origin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer origin.Close()
	client, err := consul.New(consul.Options{Address: agent.Address, Token: agent.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	w := watch(t, consul.Options{Address: agent.Address, Token: agent.Token}, consul.Health{Connect: true})
	r := consul.Registration{
		ID: "w1-proxy", Service: "web", Proxy: true, Address: origin.Addr().String(), Weight: 3, Tags: []string{"v1"},
		Meta: map[string]string{"spiffe_id": "spiffe://example.test/web"}, Check: 100 * time.Millisecond, Forget: time.Minute,
	}
	if err := client.Register(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	w.untilIDs("w1-proxy")
	u, _ := w.set.Snapshot("web")
	if e := u.Endpoints[0]; e.Address != r.Address || e.Weight != 3 || e.Identity.String() != "spiffe://example.test/web" {
		t.Errorf("endpoint %+v", e)
	}
	if err := client.Deregister(t.Context(), r.ID); err != nil {
		t.Fatal(err)
	}
	w.untilIDs("")

	if err := client.Deregister(t.Context(), r.ID); err == nil || !strings.Contains(err.Error(), `consul: deregister "w1-proxy" at `+agent.Address) {
		t.Errorf("a second deregistration: %v", err)
	}
	stranger, err := consul.New(consul.Options{Address: agent.Address})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if err := stranger.Register(t.Context(), r); err == nil || !strings.Contains(err.Error(), "the token needs service:write") {
		t.Errorf("a registration without token: %v", err)
	}
	r.Address = "localhost:80"
	if err := client.Register(t.Context(), r); err == nil || !strings.Contains(err.Error(), "is not IP:port") {
		t.Errorf("a registration of a host name: %v", err)
	}
}

func TestRealSocket(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{Socket: true})
	agent.Register(web("a", 1001))
	w := watch(t, consul.Options{Address: agent.Address}, consul.Health{})
	w.untilIDs("a")
	agent.Register(web("b", 1002))
	w.untilIDs("a b")
}

func TestRealTLS(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{TLS: true})
	agent.Register(web("a", 1001))
	files := agent.Certificates
	full := consul.TLS{CA: files.CA, Cert: files.Cert, Key: files.Key}
	named := full
	named.ServerName = files.ServerName
	for name, tls := range map[string]consul.TLS{"by address": full, "by server name": named} {
		t.Run(name, func(t *testing.T) {
			watch(t, consul.Options{Address: agent.Address, TLS: tls}, consul.Health{}).untilIDs("a")
		})
	}
	wrong := full
	wrong.ServerName = "other.test"
	for name, c := range map[string]struct {
		tls  consul.TLS
		want string
	}{
		"no client certificate": {consul.TLS{CA: files.CA}, "certificate required"},
		"unknown authority":     {consul.TLS{Cert: files.Cert, Key: files.Key}, "unknown authority"},
		"other server name":     {wrong, "not other.test"},
	} {
		t.Run(name, func(t *testing.T) {
			w := watch(t, consul.Options{Address: agent.Address, TLS: c.tls}, consul.Health{})
			w.until("refused: "+c.want, func() bool {
				err := w.status().Err
				return err != nil && strings.Contains(err.Error(), c.want)
			})
		})
	}
}

func TestRealACL(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	agent.Register(web("a", 1001))
	reader := agent.NewToken("reader", `service "web" { policy = "read" } node_prefix "" { policy = "read" }`)
	other := agent.NewToken("other", `service "stock" { policy = "read" }`)
	const unknown = "00000000-1111-2222-3333-444444444444"

	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w := watch(t, consul.Options{Address: agent.Address, TokenFile: file, Wait: time.Second}, consul.Health{})
	refused := func(want string) {
		t.Helper()
		w.until("refused: "+want, func() bool {
			err := w.status().Err
			return err != nil && strings.Contains(err.Error(), want)
		})
	}
	refused("no such file")
	write(unknown)
	refused("answered 403 (permission refused: the token needs service:read and node:read)")
	if w.status().Known {
		t.Error("a refused token makes a service known")
	}
	write(reader)
	w.untilIDs("a")
	write(other)
	refused("hidden by ACLs")
	write(unknown)
	refused("answered 403")
	if got := w.ids(); got != "a" {
		t.Errorf("endpoints %q after the token was refused, want the last ones", got)
	}
	write(reader)
	w.until("recovered", func() bool { return w.status().Err == nil })
	for _, secret := range []string{reader, other, unknown, agent.Token} {
		if strings.Contains(w.logged(), secret) {
			t.Errorf("the log shows token %s", secret)
		}
	}
	anonymous := watch(t, consul.Options{Address: agent.Address}, consul.Health{})
	anonymous.untilIDs("")
	if !strings.Contains(anonymous.logged(), "no token is configured") {
		t.Error("nothing says why a request without token sees no instance")
	}
}

func TestRealAgentGoesAway(t *testing.T) {
	agent := real.Consul(t, real.ConsulOptions{})
	plain := func(id string, port int) real.Service {
		return real.Service{ID: id, Name: "web", Address: "127.0.0.1", Port: port}
	}
	agent.Register(plain("a", 1001), plain("b", 1002))
	w := watch(t, consul.Options{Address: agent.Address, Wait: 2 * time.Second}, consul.Health{})
	w.untilIDs("a b")
	kept := func(when string) {
		t.Helper()
		if got := w.ids(); got != "a b" {
			t.Errorf("endpoints %q %s, want the last ones", got, when)
		}
	}

	agent.Freeze()
	w.until("the frozen agent is noticed", func() bool { return w.status().Err != nil })
	kept("with a frozen agent")
	agent.Thaw()
	w.until("the thawed agent is back", func() bool { return w.status().Err == nil })

	agent.Kill()
	w.until("the killed agent is noticed", func() bool { return w.status().Err != nil })
	kept("with a killed agent")
	agent.Restart()
	w.until("the restarted agent is back", func() bool { return w.status().Err == nil })
	kept("after a restart")
	agent.Register(plain("c", 1003))
	w.untilIDs("a b c")
	agent.Deregister("c")
	w.untilIDs("a b")

	agent.Forget()
	w.until("the reset is noticed", func() bool {
		err := w.status().Err
		return err != nil && strings.Contains(err.Error(), "registry was reset")
	})
	kept("after the registry was reset")
	agent.Register(plain("d", 1004))
	w.untilIDs("d")
	if got := strings.Count(w.logged(), "out of reach"); got > 6 {
		t.Errorf("%d log lines about failures, want one per failure", got)
	}
}
