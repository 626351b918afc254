package real

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// startTime is what an agent gets to become leader; it takes 0.3 s on an idle
// machine.
const startTime = 60 * time.Second

// ConsulOptions choose how an agent is reached. The zero value listens on a
// loopback port without ACLs and TLS.
type ConsulOptions struct {
	// ACL denies by default; Token of the agent may do everything.
	ACL bool
	// TLS offers https only and asks for a client certificate.
	TLS bool
	// DefaultIntention is what holds where no intention matches: allow or deny; empty:
	// what holds for ACLs.
	DefaultIntention string
	// LeafTTL is how long certificates of Connect live; empty: three days.
	LeafTTL string
	// Socket offers HTTP on a Unix socket only.
	Socket bool
	// DNS offers DNS, too.
	DNS bool
	// Sidecars has the agent choose the ports of sidecars among those that were free; otherwise it takes
	// Consul's own range, in which other agents choose, too.
	Sidecars bool
}

// ConsulAgent is a Consul server of its own: a data directory, loopback only,
// every port chosen. Methods end the test on failure and are for its goroutine.
type ConsulAgent struct {
	// Address is http://host:port, https://host:port or unix:///path.
	Address string
	// DNS is host:port of its DNS server, where that was asked for.
	DNS string
	// Token is the management token with ACL, else empty.
	Token string
	// Certificates are those for TLS, else nil.
	Certificates *Certificates

	name    string   // of its node
	servers []string // gossip addresses of a cluster; nil: it is alone
	server  string   // its address among servers
	ports   []int    // chosen by a cluster; nil: each start of Consul chooses

	t       testing.TB
	options ConsulOptions
	binary  string
	dir     string
	client  *http.Client
	process *process
}

// Consul starts an agent and returns when it is a leader and shows itself as
// healthy. It is stopped at the end of the test.
func Consul(t testing.TB, o ConsulOptions) *ConsulAgent {
	t.Helper()
	c := &ConsulAgent{t: t, name: "real", options: o, binary: Tool(t, "consul"), dir: shortTempDir(t)}
	if o.ACL {
		c.Token = "5f3b8a52-0c7e-4d58-9a1b-1d6a2f0c9e77"
	}
	if o.TLS {
		c.Certificates = newCertificates(t, c.dir)
	}
	t.Cleanup(c.finish)
	for try := 1; ; try++ {
		c.configure()
		err := c.start()
		if err == nil {
			return c
		}
		if try == 3 {
			t.Fatalf("consul: %v\n%s", err, c.log())
		}
	}
}

// configure chooses ports and writes the configuration file.
func (c *ConsulAgent) configure() {
	c.t.Helper()
	ports := c.ports
	if ports == nil {
		ports = freePorts(c.t, 4)
	}
	config := map[string]any{
		"server": true, "bootstrap_expect": 1, "node_name": c.name, "datacenter": "dc1",
		"data_dir":  filepath.Join(c.dir, "data"),
		"bind_addr": "127.0.0.1", "client_addr": "127.0.0.1",
		"log_level": "warn", "disable_update_check": true, "disable_host_node_id": true,
		"performance": map[string]any{"raft_multiplier": 1},
		"connect":     map[string]any{"enabled": true},
		"limits":      map[string]any{"http_max_conns_per_client": 1000},
	}
	port := map[string]int{
		"http": ports[0], "https": -1, "server": ports[1], "serf_lan": ports[2],
		"serf_wan": -1, "dns": -1, "grpc": -1, "grpc_tls": -1,
	}
	if c.options.DNS {
		port["dns"], c.DNS = ports[3], fmt.Sprintf("127.0.0.1:%d", ports[3])
	}
	if c.options.Sidecars {
		port["sidecar_min_port"], port["sidecar_max_port"] = portRange(c.t, 8)
	}
	c.Address = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	switch {
	case c.options.TLS:
		port["http"], port["https"] = -1, ports[0]
		c.Address = fmt.Sprintf("https://127.0.0.1:%d", ports[0])
		config["tls"] = map[string]any{"https": map[string]any{
			"ca_file": c.Certificates.CA, "cert_file": c.Certificates.Cert, "key_file": c.Certificates.Key, "verify_incoming": true,
		}}
	case c.options.Socket:
		c.Address = "unix://" + filepath.Join(c.dir, "http.sock")
		config["addresses"] = map[string]any{"http": c.Address}
	}
	if c.options.ACL {
		config["acl"] = map[string]any{"enabled": true, "default_policy": "deny", "tokens": map[string]any{
			"initial_management": c.Token, "agent": c.Token,
		}}
	}
	if c.options.DefaultIntention != "" {
		config["default_intention_policy"] = c.options.DefaultIntention
	}
	if c.options.LeafTTL != "" { // Consul's least is one hour, unless it does not look
		config["connect"] = map[string]any{"enabled": true, "ca_config": map[string]any{"LeafCertTTL": c.options.LeafTTL, "SkipValidate": true}}
	}
	c.server = fmt.Sprintf("127.0.0.1:%d", ports[1])
	if c.servers != nil {
		config["bootstrap_expect"], config["retry_join"], config["retry_interval"] = len(c.servers), c.servers, "200ms"
	}
	config["ports"] = port
	data, err := json.MarshalIndent(config, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "consul.json"), data, 0o600)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	c.client = c.httpClient()
}

// start runs the agent and waits for its leader.
func (c *ConsulAgent) start() error {
	p, err := startProcess(c.binary, filepath.Join(c.dir, "consul.log"), "agent", "-config-file", filepath.Join(c.dir, "consul.json"))
	if err != nil {
		return err
	}
	c.process = p
	late := time.NewTimer(startTime)
	defer late.Stop()
	poll := time.NewTicker(20 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("ended at start: %v", p.err)
		case <-late.C:
			p.kill()
			return fmt.Errorf("no leader within %v", startTime)
		case <-poll.C:
		}
		var healthy []any
		if c.Call(http.MethodGet, "/v1/health/service/consul?passing=1", nil, &healthy) == nil && len(healthy) > 0 {
			return nil
		}
	}
}

// PID is the process id of the running agent.
func (c *ConsulAgent) PID() int { return c.process.pid() }

// Freeze stops the agent in its tracks: connections stay open, nothing answers.
func (c *ConsulAgent) Freeze() { c.signal(syscall.SIGSTOP) }

// Thaw lets a frozen agent go on.
func (c *ConsulAgent) Thaw() { c.signal(syscall.SIGCONT) }

// Kill ends the agent at once, frozen or not; its connections are reset.
func (c *ConsulAgent) Kill() { c.process.kill() }

// Stop ends the agent politely. It may be started again with Restart.
func (c *ConsulAgent) Stop() { c.process.stop() }

// Restart ends the agent if it still runs, and starts it with the same data
// directory and ports. It returns when there is a leader again.
func (c *ConsulAgent) Restart() {
	c.t.Helper()
	c.Stop()
	if err := c.start(); err != nil {
		c.t.Fatalf("consul: restart: %v\n%s", err, c.log())
	}
}

// Forget ends the agent if it still runs, and starts it anew without its data.
func (c *ConsulAgent) Forget() {
	c.t.Helper()
	c.Stop()
	if err := os.RemoveAll(filepath.Join(c.dir, "data")); err != nil {
		c.t.Fatal(err)
	}
	c.Restart()
}

func (c *ConsulAgent) signal(s syscall.Signal) {
	c.t.Helper()
	if err := c.process.signal(s); err != nil {
		c.t.Fatalf("consul: %v: %v", s, err)
	}
}

// finish is the end of the test.
func (c *ConsulAgent) finish() {
	if c.process != nil {
		c.process.stop()
	}
	c.client.CloseIdleConnections()
	if c.t.Failed() {
		c.t.Logf("last lines of the Consul agent:\n%s", c.log())
	}
}

func (c *ConsulAgent) log() string {
	data, _ := os.ReadFile(filepath.Join(c.dir, "consul.log"))
	return tail(string(data), 30)
}

// shortTempDir is a temporary directory whose path leaves room for the name of a
// Unix socket (108 bytes), which the test's own directory may not.
func shortTempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "real")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
