package real

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// SPIREOptions describe one trust domain.
type SPIREOptions struct {
	// TrustDomain; empty: example.test.
	TrustDomain string
	// TTL is the life of SVIDs, in whole seconds; zero: 30 s.
	TTL time.Duration
}

// SPIREDomain is a SPIRE server and one agent of their own: data directory, Unix
// sockets, loopback only. Whoever has this process's uid and opens Socket is attested.
// Methods end the test on failure and are for its goroutine.
type SPIREDomain struct {
	// TrustDomain is the bare name.
	TrustDomain string
	// Socket is the address of the agent's Workload API, unix:///path.
	Socket string

	t             testing.TB
	ttl           time.Duration
	dir           string
	port, bundles int // of the server's API for agents, and of its bundle endpoint
	server, agent *process
	binaries      struct{ server, agent string }
}

// SPIRE starts a trust domain and returns when its agent serves the Workload API. It
// has no entries yet. All of it is stopped at the end of the test.
func SPIRE(t testing.TB, o SPIREOptions) *SPIREDomain {
	t.Helper()
	s := &SPIREDomain{TrustDomain: cmp.Or(o.TrustDomain, "example.test"), t: t, ttl: cmp.Or(o.TTL, 30*time.Second), dir: shortTempDir(t)}
	s.binaries.server, s.binaries.agent = Tool(t, "spire-server"), Tool(t, "spire-agent")
	s.Socket = "unix://" + s.path("agent.sock")
	t.Cleanup(s.finish)
	for try := 1; ; try++ {
		ports := freePorts(t, 2)
		s.port, s.bundles = ports[0], ports[1]
		s.write("server.conf", serverConfig)
		err := s.startServer()
		if err == nil {
			break
		}
		if try == 3 {
			t.Fatalf("spire server: %v\n%s", err, s.log("server.log"))
		}
	}
	s.write("agent.conf", agentConfig)
	s.saveBundle("bundle.pem", "pem")
	answer := s.Server("token", "generate", "-spiffeID", s.ID("/agent"), "-output", "json")
	var token struct{ Value string }
	if err := json.Unmarshal(answer, &token); err != nil || token.Value == "" {
		t.Fatalf("spire server: no join token in %q (%v)", answer, err)
	}
	s.startAgent("-joinToken", token.Value)
	return s
}

// The configurations of server and agent; what stands between @ is filled in. The agent
// lives longer than its SVIDs: one that is down past its own certificate may not return.
const (
	serverConfig = `
server {
  bind_address = "127.0.0.1"
  bind_port = @PORT@
  socket_path = "@DIR@/server.sock"
  trust_domain = "@DOMAIN@"
  data_dir = "@DIR@/server"
  log_level = "INFO"
  default_x509_svid_ttl = "@TTL@"
  agent_ttl = "1h"
  federation { bundle_endpoint { address = "127.0.0.1" port = @BUNDLES@ refresh_hint = "2s" profile "https_spiffe" {} } }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "@DIR@/server/data.sqlite3" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { keys_path = "@DIR@/server/keys.json" } }
}
`
	agentConfig = `
agent {
  server_address = "127.0.0.1"
  server_port = @PORT@
  socket_path = "@DIR@/agent.sock"
  trust_domain = "@DOMAIN@"
  trust_bundle_path = "@DIR@/bundle.pem"
  data_dir = "@DIR@/agent"
  log_level = "INFO"
  experimental { sync_interval = "1s" }
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "disk" { plugin_data { directory = "@DIR@/agent" } }
  WorkloadAttestor "unix" { plugin_data {} }
}
`
)

func (s *SPIREDomain) write(name, config string) {
	s.t.Helper()
	text := strings.NewReplacer("@DIR@", s.dir, "@DOMAIN@", s.TrustDomain, "@TTL@", s.ttl.String(),
		"@PORT@", fmt.Sprint(s.port), "@BUNDLES@", fmt.Sprint(s.bundles)).Replace(config)
	if err := os.WriteFile(s.path(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

func (s *SPIREDomain) path(name string) string { return filepath.Join(s.dir, name) }

// ID is the SPIFFE ID of a path of this trust domain.
func (s *SPIREDomain) ID(path string) string { return "spiffe://" + s.TrustDomain + path }

func (s *SPIREDomain) startServer() error {
	p, err := startProcess(s.binaries.server, s.path("server.log"), "run", "-config", s.path("server.conf"))
	if err != nil {
		return err
	}
	s.server = p
	return s.await(p, func() error {
		return s.command(s.binaries.server, nil, "healthcheck", "-socketPath", s.path("server.sock")).Run()
	})
}

func (s *SPIREDomain) startAgent(args ...string) {
	s.t.Helper()
	if err := os.MkdirAll(s.path("agent"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	p, err := startProcess(s.binaries.agent, s.path("agent.log"), append([]string{"run", "-config", s.path("agent.conf")}, args...)...)
	if err == nil {
		s.agent = p
		err = s.await(p, func() error {
			return s.command(s.binaries.agent, nil, "healthcheck", "-socketPath", s.path("agent.sock")).Run()
		})
	}
	if err != nil {
		s.t.Fatalf("spire agent: %v\n%s", err, s.log("agent.log"))
	}
}

// await looks for readiness until it is there, the process ends, or it takes too long.
func (s *SPIREDomain) await(p *process, ready func() error) error {
	late := time.NewTimer(startTime)
	defer late.Stop()
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		select {
		case <-p.exited:
			return fmt.Errorf("ended at start: %v", p.err)
		case <-late.C:
			p.kill()
			return fmt.Errorf("not ready within %v", startTime)
		case <-poll.C:
		}
		if ready() == nil {
			return nil
		}
	}
}

// command is a call of a tool with a bounded time.
func (s *SPIREDomain) command(binary string, input []byte, args ...string) *exec.Cmd {
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	cmd := exec.CommandContext(ctx, binary, args...)
	cmd.Stdin = bytes.NewReader(input)
	context.AfterFunc(s.t.Context(), cancel)
	return cmd
}

// Server runs a command of spire-server against this server, such as "entry", "show",
// and returns what it prints.
func (s *SPIREDomain) Server(args ...string) []byte {
	s.t.Helper()
	return s.serverWith(nil, args...)
}

func (s *SPIREDomain) serverWith(input []byte, args ...string) []byte {
	s.t.Helper()
	flags := 0 // the socket goes before the first flag
	for flags < len(args) && !strings.HasPrefix(args[flags], "-") {
		flags++
	}
	all := append(append(append([]string{}, args[:flags]...), "-socketPath", s.path("server.sock")), args[flags:]...)
	cmd := s.command(s.binaries.server, input, all...)
	var problems bytes.Buffer
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("spire-server %s: %v\n%s%s", strings.Join(args, " "), err, out, problems.Bytes())
	}
	return out
}

// SPIREEntry is what a workload is registered with beside its name.
type SPIREEntry struct {
	// Hint tells several SVIDs of one workload apart.
	Hint string
	// FederatesWith are the trust domains whose bundles the workload gets.
	FederatesWith []*SPIREDomain
	// UID of the workload; zero value: that of this process.
	UID *int
}

// Register makes an entry for the workloads of a uid and returns its ID in the server.
// The agent learns of it within a second or two.
func (s *SPIREDomain) Register(path string, e SPIREEntry) (entry string) {
	s.t.Helper()
	uid := os.Getuid()
	if e.UID != nil {
		uid = *e.UID
	}
	args := []string{"entry", "create", "-parentID", s.ID("/agent"), "-spiffeID", s.ID(path),
		"-selector", fmt.Sprintf("unix:uid:%d", uid), "-output", "json"}
	if e.Hint != "" {
		args = append(args, "-hint", e.Hint)
	}
	for _, other := range e.FederatesWith {
		args = append(args, "-federatesWith", other.ID(""))
	}
	answer := s.Server(args...)
	var created struct {
		Results []struct{ Entry struct{ ID string } }
	}
	if err := json.Unmarshal(answer, &created); err != nil || len(created.Results) != 1 || created.Results[0].Entry.ID == "" {
		s.t.Fatalf("spire server: no entry in %q (%v)", answer, err)
	}
	return created.Results[0].Entry.ID
}

// Unregister removes an entry.
func (s *SPIREDomain) Unregister(entry string) {
	s.t.Helper()
	s.Server("entry", "delete", "-entryID", entry)
}

// Federate makes the bundle of another domain known here, fetched from its server's
// bundle endpoint (https_spiffe) from now on. Entries say who gets it.
func (s *SPIREDomain) Federate(other *SPIREDomain) {
	s.t.Helper()
	file := other.SaveBundle("for-" + s.TrustDomain + ".json")
	s.Server("federation", "create", "-trustDomain", other.TrustDomain,
		"-bundleEndpointURL", other.BundleEndpoint(), "-bundleEndpointProfile", "https_spiffe",
		"-endpointSpiffeID", other.ID("/spire/server"), "-trustDomainBundlePath", file, "-trustDomainBundleFormat", "spiffe")
}

// Unfederate withdraws the bundle of another domain from all entries.
func (s *SPIREDomain) Unfederate(other *SPIREDomain) {
	s.t.Helper()
	s.Server("federation", "delete", "-id", other.TrustDomain)
	s.Server("bundle", "delete", "-id", other.ID(""), "-mode", "dissociate")
}

// Bundle is the authorities of this trust domain.
func (s *SPIREDomain) Bundle() []*x509.Certificate {
	s.t.Helper()
	var all []*x509.Certificate
	for rest := s.Server("bundle", "show", "-format", "pem"); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return all
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			s.t.Fatal(err)
		}
		all = append(all, c)
	}
}

// Signer is the authority that signs SVIDs now, with its key from the server's disk:
// for certificates that a server would not issue.
func (s *SPIREDomain) Signer() (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	var disk struct{ Keys map[string][]byte }
	data, err := os.ReadFile(s.path("server/keys.json"))
	if err == nil {
		err = json.Unmarshal(data, &disk)
	}
	if err != nil {
		s.t.Fatalf("spire server: its keys: %v", err)
	}
	for name, der := range disk.Keys {
		key, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			s.t.Fatalf("spire server: key %s: %v", name, err)
		}
		private, ok := key.(*ecdsa.PrivateKey)
		for _, c := range s.Bundle() {
			if ok && private.PublicKey.Equal(c.PublicKey) {
				return c, private
			}
		}
	}
	s.t.Fatalf("spire server: none of %d keys belongs to its bundle", len(disk.Keys))
	return nil, nil
}

// Authority runs a command on the server's X.509 authorities: prepare, which publishes a
// new one; or, with an ID, activate, which lets it sign; taint, which has everything
// signed by an old one replaced; or revoke, which takes an old, tainted one out of the
// bundle. It returns the ID of the authority in question.
func (s *SPIREDomain) Authority(verb, id string) string {
	s.t.Helper()
	args := []string{"localauthority", "x509", verb, "-output", "json"}
	if id != "" {
		args = append(args, "-authorityID", id)
	}
	answer := s.Server(args...)
	var one map[string]struct {
		ID string `json:"authority_id"`
	}
	if err := json.Unmarshal(answer, &one); err != nil {
		s.t.Fatalf("spire server: %s: %q: %v", verb, answer, err)
	}
	for _, a := range one {
		if a.ID != "" {
			return a.ID
		}
	}
	s.t.Fatalf("spire server: %s: no authority in %q", verb, answer)
	return ""
}

// OldAuthority is the ID of the X.509 authority that signed before the active one.
func (s *SPIREDomain) OldAuthority() string {
	s.t.Helper()
	var all struct {
		Old struct {
			ID string `json:"authority_id"`
		}
	}
	answer := s.Server("localauthority", "x509", "show", "-output", "json")
	if err := json.Unmarshal(answer, &all); err != nil || all.Old.ID == "" {
		s.t.Fatalf("spire server: no old authority in %q (%v)", answer, err)
	}
	return all.Old.ID
}

// BundleEndpoint is the URL from which others fetch the bundle.
func (s *SPIREDomain) BundleEndpoint() string { return fmt.Sprintf("https://127.0.0.1:%d", s.bundles) }

// SaveBundle writes the bundle in SPIFFE's format into a file and returns its path.
func (s *SPIREDomain) SaveBundle(name string) string {
	s.t.Helper()
	return s.saveBundle(name, "spiffe")
}

func (s *SPIREDomain) saveBundle(name, format string) (file string) {
	s.t.Helper()
	file = s.path(name)
	if err := os.WriteFile(file, s.Server("bundle", "show", "-format", format), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// KillAgent ends the agent at once, without a goodbye.
func (s *SPIREDomain) KillAgent() { s.agent.kill() }

// RestartAgent ends the agent if it still runs, and starts it with what it has kept. It
// returns when it serves the Workload API again.
func (s *SPIREDomain) RestartAgent() {
	s.t.Helper()
	s.agent.stop()
	s.startAgent()
}

// KillServer ends the server at once.
func (s *SPIREDomain) KillServer() { s.server.kill() }

// RestartServer ends the server if it still runs, and starts it with its data.
func (s *SPIREDomain) RestartServer() {
	s.t.Helper()
	s.server.stop()
	if err := s.startServer(); err != nil {
		s.t.Fatalf("spire server: restart: %v\n%s", err, s.log("server.log"))
	}
}

// finish is the end of the test. The agent goes first: it has nobody to talk to then.
func (s *SPIREDomain) finish() {
	for _, p := range []*process{s.agent, s.server} {
		if p != nil {
			p.stop()
		}
	}
	if s.t.Failed() {
		s.t.Logf("last lines of the SPIRE agent of %s:\n%s", s.TrustDomain, s.log("agent.log"))
		s.t.Logf("last lines of the SPIRE server of %s:\n%s", s.TrustDomain, s.log("server.log"))
	}
}

func (s *SPIREDomain) log(name string) string {
	data, _ := os.ReadFile(s.path(name))
	return tail(string(data), 20)
}
