package real

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
)

// The places of what Mesh starts: NodeConsul for pods and for the node, NodeSockets on the node
// holds SPIRE's NodeSocket.
const (
	NodeConsul      = NodeIP + ":8500"
	NodeSockets     = "/run/spire/agent-sockets"
	NodeSocket      = "spire-agent.sock"
	NodeTrustDomain = "example.test"
)

// The configurations of SPIRE on a node. The agent asks the kubelet which pod a caller is in.
const (
	nodeSPIREServer = `server {
  bind_address = "@IP@"
  bind_port = 8081
  socket_path = "/run/spire/server.sock"
  trust_domain = "` + NodeTrustDomain + `"
  data_dir = "@DIR@/data/spire-server"
  log_level = "INFO"
  experimental { cache_reload_interval = "1s" }
}
plugins {
  DataStore "sql" { plugin_data { database_type = "sqlite3" connection_string = "@DIR@/data/spire-server/data.sqlite3" } }
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
}
`
	nodeSPIREAgent = `agent {
  server_address = "@IP@"
  server_port = 8081
  socket_path = "` + NodeSockets + "/" + NodeSocket + `"
  trust_domain = "` + NodeTrustDomain + `"
  trust_bundle_path = "@DIR@/shared/bundle.pem"
  data_dir = "@DIR@/data/spire-agent"
  log_level = "INFO"
  experimental { sync_interval = "1s" }
}
plugins {
  NodeAttestor "join_token" { plugin_data {} }
  KeyManager "memory" { plugin_data {} }
  WorkloadAttestor "k8s" { plugin_data {
    node_name = "@NAME@"
    kubelet_ca_path = "@DIR@/ca.pem"
    certificate_path = "@DIR@/kubelet-client.pem"
    private_key_path = "@DIR@/kubelet-client.key"
  } }
}
`
)

// Mesh starts Consul, and SPIRE's server and agent beside it, as processes on the node. There are
// no entries yet.
func (n *Node) Mesh() {
	n.t.Helper()
	n.Start("consul", Tool(n.t, "consul"), "agent", "-dev", "-client=0.0.0.0", "-bind="+NodeIP, "-node="+KubernetesNodeName, "-log-level=warn")
	server, agent := Tool(n.t, "spire-server"), Tool(n.t, "spire-agent")
	n.tools["spire-server"] = server
	for name, text := range map[string]string{"spire-server.conf": nodeSPIREServer, "spire-agent.conf": nodeSPIREAgent} {
		if err := os.WriteFile(n.path(name), []byte(n.fill(text)), 0o600); err != nil {
			n.t.Fatal(err)
		}
	}
	n.Run(nodePatience, "/bin/mkdir", "-p", NodeSockets, n.path("data/spire-server"), n.path("data/spire-agent"))
	n.Start("spire-server", server, "run", "-config", n.path("spire-server.conf"))
	n.await("SPIRE server", func() error {
		return failure(n.try(nodePatience, server, "healthcheck", "-socketPath=/run/spire/server.sock"))
	})
	bundle := n.SPIREServer("bundle", "show", "-format", "pem")
	if err := os.WriteFile(n.path("shared/bundle.pem"), []byte(bundle), 0o644); err != nil {
		n.t.Fatal(err)
	}
	var token struct{ Value string }
	answer := n.SPIREServer("token", "generate", "-spiffeID", "spiffe://"+NodeTrustDomain+"/node", "-output", "json")
	if err := json.Unmarshal([]byte(answer), &token); err != nil || token.Value == "" {
		n.t.Fatalf("spire server: no join token in %q (%v)", answer, err)
	}
	n.Start("spire-agent", agent, "run", "-config", n.path("spire-agent.conf"), "-joinToken", token.Value)
	n.await("SPIRE agent", func() error {
		return failure(n.try(nodePatience, agent, "healthcheck", "-socketPath="+NodeSockets+"/"+NodeSocket))
	})
	n.await("Consul", func() error {
		resp, err := n.HTTP().Get("http://" + NodeConsul + "/v1/status/leader")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		var leader string
		if err := json.NewDecoder(resp.Body).Decode(&leader); err != nil || leader == "" {
			return fmt.Errorf("no leader (%v)", err)
		}
		return nil
	})
}

// failure is what a program that has not succeeded says.
func failure(r Ran) error {
	if r.Code == 0 {
		return nil
	}
	return fmt.Errorf("exit code %d: %s%s", r.Code, r.Stdout, r.Stderr)
}

// SPIREServer runs a command of spire-server against the node's, such as "entry", "show".
func (n *Node) SPIREServer(args ...string) string {
	n.t.Helper()
	flags := 0 // the socket goes before the first flag
	for flags < len(args) && !strings.HasPrefix(args[flags], "-") {
		flags++
	}
	all := append(append(append([]string{}, args[:flags]...), "-socketPath=/run/spire/server.sock"), args[flags:]...)
	return n.Run(nodePatience, n.tools["spire-server"], all...)
}

// Identify gives pods of a service account in a namespace their identity, which it returns.
func (n *Node) Identify(namespace, account string) string {
	n.t.Helper()
	id := fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", NodeTrustDomain, namespace, account)
	n.SPIREServer("entry", "create", "-parentID", "spiffe://"+NodeTrustDomain+"/node", "-spiffeID", id,
		"-selector", "k8s:ns:"+namespace, "-selector", "k8s:sa:"+account)
	return id
}
