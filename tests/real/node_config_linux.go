package real

import (
	"crypto/x509"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// The files of a node; what stands between @ is filled in.
var nodeFiles = map[string]string{
	"hosts":       "127.0.0.1 localhost\n@IP@ @NAME@\n",
	"resolv.conf": "nameserver @IP@\n",
	"containerd.toml": `version = 2
root = "@DIR@/data/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.devmapper"]
[grpc]
  address = "/run/containerd/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
  path = "@DIR@/data/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "larboard.test/pause:1"
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "@DIR@/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
`,
	"cni/node.conflist": `{"cniVersion": "1.0.0", "name": "node", "plugins": [
  {"type": "bridge", "bridge": "pods0", "isGateway": true, "ipMasq": false, "hairpinMode": true,
   "ipam": {"type": "host-local", "ranges": [[{"subnet": "@PODS@"}]], "routes": [{"dst": "0.0.0.0/0"}], "dataDir": "/run/cni"}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
`,
	"kubelet.yaml": `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
address: 0.0.0.0
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: false}
  x509: {clientCAFile: @DIR@/ca.pem}
authorization: {mode: AlwaysAllow}
tlsCertFile: @DIR@/kubelet.pem
tlsPrivateKeyFile: @DIR@/kubelet.key
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /@CGROUP@
enforceNodeAllocatable: []
failCgroupV1: false
failSwapOn: false
evictionHard: {memory.available: "0%", nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%"}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
maxOpenFiles: 4096
clusterDNS: [@IP@]
clusterDomain: cluster.local
resolvConf: @DIR@/resolv.conf
podLogsDir: /var/log/pods
serializeImagePulls: false
eventRecordQPS: 0
registryPullQPS: 0
`,
}

// fill replaces the names between @ in a text.
func (n *Node) fill(text string) string {
	return strings.NewReplacer("@DIR@", n.dir, "@CGROUP@", filepath.Base(n.dir), "@IP@", NodeIP, "@NAME@", KubernetesNodeName,
		"@PODS@", nodePods, "@API@", nodeAPI).Replace(text)
}

// configure writes keys, certificates and configurations.
func (n *Node) configure() {
	n.t.Helper()
	n.files = NewKubernetesFiles(n.t, n.dir, "https://"+NodeIP+":6443", net.ParseIP(NodeIP))
	pki.Write(n.t, n.path("kubelet"), n.files.Authority.Issue(func(c *x509.Certificate) {
		longer(c)
		c.DNSNames, c.IPAddresses = []string{KubernetesNodeName}, []net.IP{net.ParseIP(NodeIP), net.IPv4(127, 0, 0, 1)}
	}))
	for name, text := range nodeFiles {
		if err := os.WriteFile(n.path(name), []byte(n.fill(text)), 0o644); err != nil {
			n.t.Fatal(err)
		}
	}
}
