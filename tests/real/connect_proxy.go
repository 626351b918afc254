package real

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ConnectProxyOptions say what a proxy of Consul's own stands for.
type ConnectProxyOptions struct {
	// Service is whose certificate it gets.
	Service string
	// Workload is the address of the application; empty: the proxy only calls.
	Workload string
	// Upstreams are the services to call.
	Upstreams []string
}

// ConnectProxy is a running `consul connect proxy`.
type ConnectProxy struct {
	// Listen is its mesh address, where it has a workload. It accepts connections, and
	// is registered for the service.
	Listen string
	// Upstream has the local address of each upstream.
	Upstream map[string]string

	log string
}

// ConnectProxy starts the proxy that is built into Consul. It ends with the test.
func (c *ConsulAgent) ConnectProxy(o ConnectProxyOptions) *ConnectProxy {
	c.t.Helper()
	ports := freePorts(c.t, len(o.Upstreams)+1)
	p := &ConnectProxy{Upstream: map[string]string{}, log: filepath.Join(shortTempDir(c.t), "proxy.log")}
	args := []string{"connect", "proxy", "-http-addr", c.Address, "-service", o.Service, "-log-level", "debug"}
	for i, name := range o.Upstreams {
		p.Upstream[name] = fmt.Sprintf("127.0.0.1:%d", ports[i])
		args = append(args, "-upstream", name+":"+p.Upstream[name])
	}
	if o.Workload != "" {
		p.Listen = fmt.Sprintf("127.0.0.1:%d", ports[len(ports)-1])
		args = append(args, "-service-addr", o.Workload, "-listen", p.Listen)
	}
	if c.Token != "" {
		args = append(args, "-token", c.Token)
	}
	process, err := startProcess(c.binary, p.log, args...)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		process.stop()
		if c.t.Failed() {
			c.t.Logf("last lines of the Connect proxy of %s:\n%s", o.Service, p.Log())
		}
	})
	for _, address := range p.Upstream {
		awaitListening(c.t, address)
	}
	if p.Listen != "" {
		awaitListening(c.t, p.Listen)
		c.RegisterProxy(o.Service+"-built-in", o.Service, p.Listen)
	}
	return p
}

// Log is the end of what the proxy has said.
func (p *ConnectProxy) Log() string {
	data, _ := os.ReadFile(p.log)
	return tail(string(data), 30)
}

// RegisterProxy makes a mesh proxy of a service known by the address that it listens on.
func (c *ConsulAgent) RegisterProxy(id, service, address string) {
	c.t.Helper()
	at, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		c.t.Fatal(err)
	}
	c.Register(Service{
		ID: id, Name: service + "-sidecar-proxy", Kind: "connect-proxy", Address: at.IP.String(), Port: at.Port,
		Proxy: map[string]any{"DestinationServiceName": service},
	})
}

func awaitListening(t testing.TB, address string) {
	t.Helper()
	late := time.Now().Add(startTime)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(late) || !strings.Contains(err.Error(), "refused") {
			t.Fatalf("nobody listens on %s within %v: %v", address, startTime, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
