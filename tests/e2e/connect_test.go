package e2e

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/real"
)

// connect is a mesh whose identities and permissions are Consul's.
type connect struct {
	t     testing.TB
	agent *real.ConsulAgent
}

func newConnect(t testing.TB, o real.ConsulOptions) *connect {
	t.Helper()
	return &connect{t, real.Consul(t, o)}
}

// sidecar starts larboard beside a workload and makes it known.
func (c *connect) sidecar(service, protocol, workload string) *larboard {
	c.t.Helper()
	p := start(c.t, service, c.common()+fmt.Sprintf(`
identity: {consul: {}}
workload: {service: %s, address: %q, listen: 127.0.0.1:0, protocol: %s, intentions: true}
`, service, workload, protocol))
	c.agent.RegisterProxy(service+"-larboard", service, p.address("inbound"))
	return p
}

func (c *connect) common() string {
	if c.agent.Token == "" {
		return fmt.Sprintf("consul: {address: %q}\n", c.agent.Address)
	}
	return fmt.Sprintf("consul: {address: %q, token: %q}\n", c.agent.Address, c.agent.Token)
}

// caller starts larboard as web, with tcp upstreams, and http ones.
func (c *connect) caller(tcp, http []string) *larboard {
	c.t.Helper()
	var list strings.Builder
	for _, name := range tcp {
		fmt.Fprintf(&list, "- {service: %s, bind: 127.0.0.1:0, protocol: tcp}\n", name)
	}
	for _, name := range http {
		fmt.Fprintf(&list, "- {service: %s, bind: 127.0.0.1:0}\n", name)
	}
	return start(c.t, "web", c.common()+"identity: {consul: {service: web}}\nupstreams:\n"+list.String())
}

// echo is a TCP server within the test that sends back what it gets.
func echo(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go serveEcho(l)
	return l.Addr().String()
}

// said sends a line over a connection and reads it back.
func said(conn net.Conn) error {
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(conn, "ping\n"); err != nil {
		return err
	}
	var answer [5]byte
	if _, err := io.ReadFull(conn, answer[:]); err != nil {
		return err
	}
	if string(answer[:]) != "ping\n" {
		return fmt.Errorf("got %q", answer)
	}
	return nil
}

// echoed opens a connection that works.
func echoed(t testing.TB, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	eventually(t, patience, "an echo through "+address, func() (err error) {
		if conn, err = net.Dial("tcp", address); err != nil {
			return err
		}
		if err = said(conn); err != nil {
			conn.Close()
		}
		return err
	})
	t.Cleanup(func() { conn.Close() })
	return conn
}

// cut waits for the end of a connection on which nothing is sent.
func cut(t testing.TB, conn net.Conn, since time.Time) time.Duration {
	t.Helper()
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	var one [1]byte
	if n, err := conn.Read(one[:]); n > 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection lives: %d bytes, %v", n, err)
	}
	return time.Since(since)
}

// refused waits until a new connection carries nothing.
func refused(t testing.TB, address string) {
	t.Helper()
	eventually(t, patience, address+" is refused", func() error {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			return nil
		}
		defer conn.Close()
		if said(conn) != nil {
			return nil
		}
		return errors.New("echoed")
	})
}

// TestConnectInterop: Larboard and the proxy that is built into Consul call each
// other, with certificates of Consul's, and decide alike about an intention.
func TestConnectInterop(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{})
	m.sidecar("api", "tcp", echo(t))
	m.sidecar("site", "http", origin(t, named("site")))
	m.agent.ConnectProxy(real.ConnectProxyOptions{Service: "db", Workload: echo(t)})
	m.agent.ConnectProxy(real.ConnectProxyOptions{Service: "shop", Workload: origin(t, named("shop"))})
	theirs := m.agent.ConnectProxy(real.ConnectProxyOptions{Service: "web", Upstreams: []string{"api", "site", "db"}})
	ours := m.caller([]string{"api", "db"}, []string{"site", "shop"})

	live := map[string]net.Conn{
		"built-in to larboard": echoed(t, theirs.Upstream["api"]),
		"larboard to larboard": echoed(t, ours.address("api")),
	}
	for name, address := range map[string]string{
		"larboard to built-in": ours.address("db"), "built-in to built-in": theirs.Upstream["db"],
	} {
		t.Logf("%s: %v", name, echoed(t, address).RemoteAddr())
	}
	for want, url := range map[string]string{"site": theirs.Upstream["site"], "site ": ours.address("site"), "shop": ours.address("shop")} {
		if status, body, _ := get(t, "http://"+url); status != http.StatusOK || body != strings.TrimSpace(want) {
			t.Errorf("%s: %d %q", want, status, body)
		}
	}

	for round := range 2 {
		since := time.Now()
		m.agent.Intend("api", real.Source{Name: "web", Action: "deny"})
		for name, conn := range live {
			took := cut(t, conn, since)
			t.Logf("round %d: %s cut after %v", round, name, took.Round(time.Millisecond))
			if took > time.Second {
				t.Errorf("%s: cut %v after the deny, want a second at most", name, took)
			}
		}
		m.agent.Intend("*", real.Source{Name: "web", Action: "deny"})
		for _, address := range []string{theirs.Upstream["api"], ours.address("api"), ours.address("db"), theirs.Upstream["db"]} {
			refused(t, address)
		}
		m.agent.Intend("*")
		m.agent.Intend("api", real.Source{Name: "web", Action: "allow"})
		live["built-in to larboard"] = echoed(t, theirs.Upstream["api"])
		live["larboard to larboard"] = echoed(t, ours.address("api"))
		echoed(t, ours.address("db"))
	}
}

// TestConnectReload: who decides about callers changes with the configuration, for
// connections that live too.
func TestConnectReload(t *testing.T) {
	t.Parallel()
	m := newConnect(t, real.ConsulOptions{})
	m.agent.Intend("api", real.Source{Name: "web", Action: "deny"})
	file := func(callers string) string {
		return m.common() + fmt.Sprintf("identity: {consul: {}}\nworkload: {service: api, address: %q, listen: 127.0.0.1:0, protocol: tcp, %s}\n", echo(t), callers)
	}
	api := start(t, "api", file(`allow: ["/ns/default/dc/dc1/svc/web"]`))
	m.agent.RegisterProxy("api-1", "api", api.address("inbound"))
	web := m.caller([]string{"api"}, nil)
	live := echoed(t, web.address("api"))

	reload := func(callers string) {
		t.Helper()
		api.configure(file(callers))
		if status, body := api.reload(); status != http.StatusOK {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	reload("intentions: true")
	cut(t, live, time.Now())
	refused(t, web.address("api"))
	var v struct {
		Destinations []struct{ Destination string }
	}
	if api.view("/api/v1/intentions", &v); len(v.Destinations) != 1 || v.Destinations[0].Destination != "api" {
		t.Errorf("watched: %+v", v)
	}
	reload(`allow: ["/ns/default/dc/dc1/svc/web"]`)
	echoed(t, web.address("api"))
	if api.view("/api/v1/intentions", &v); len(v.Destinations) != 0 {
		t.Errorf("still watched: %+v", v)
	}
}
