package real

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// The users of a test's Kubernetes. Each has a file for clients in KubernetesFiles.Config,
// and their tokens are their names with "-token".
const (
	KubernetesAdmin      = "admin"
	KubernetesControl    = "control"   // the controller manager: whatever it wants
	KubernetesScheduler  = "scheduler" // likewise
	KubernetesNode       = "node"      // the kubelet of the node n1
	kubernetesTokenAfter = "-token"
)

// KubernetesNodeName is the name of the one node that KubernetesNode may speak for.
const KubernetesNodeName = "n1"

// KubernetesServices are the addresses that Services get; the first one is the API server's own.
const KubernetesServices = "10.96.0.0/16"

// KubernetesFiles are what the programs of one Kubernetes are started with: certificates,
// keys, tokens and files for clients, all in one directory.
type KubernetesFiles struct {
	// CA is the authority that all trust; Cert and Key are the API server's.
	CA, Cert, Key string
	// KubeletCert and KubeletKey are what the API server shows a kubelet.
	KubeletCert, KubeletKey string
	// ServiceAccountKey signs the tokens of service accounts.
	ServiceAccountKey string
	// Tokens lists the users for --token-auth-file.
	Tokens string
	// Config has a file for clients (KUBECONFIG) of each user.
	Config map[string]string
	// Authority is that of CA, for further certificates.
	Authority *pki.CA
}

// NewKubernetesFiles writes them to dir, for an API server at https://host:port that has
// the given addresses beside loopback and the first one of KubernetesServices.
func NewKubernetesFiles(t testing.TB, dir, server string, addresses ...net.IP) *KubernetesFiles {
	t.Helper()
	f := &KubernetesFiles{Authority: pki.NewWith(t, "test authority of Kubernetes", longer), Config: map[string]string{}}
	write := func(name string, data []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	f.CA = write("ca.pem", pki.CertPEM(tls.Certificate{Certificate: [][]byte{f.Authority.Cert.Raw}}))
	f.Cert, f.Key = pki.Write(t, filepath.Join(dir, "apiserver"), f.Authority.Issue(func(c *x509.Certificate) {
		longer(c)
		c.IPAddresses = append([]net.IP{net.IPv4(127, 0, 0, 1), net.IPv4(10, 96, 0, 1)}, addresses...)
		c.DNSNames = []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}
	}))
	f.KubeletCert, f.KubeletKey = pki.Write(t, filepath.Join(dir, "kubelet-client"), f.Authority.Issue(func(c *x509.Certificate) {
		longer(c)
		c.Subject = pkix.Name{CommonName: "apiserver", Organization: []string{"system:masters"}}
	}))
	// Kubernetes takes the public half from this form (SEC 1), and not from PKCS #8.
	der, err := x509.MarshalECPrivateKey(pki.NewKey(t))
	if err != nil {
		t.Fatal(err)
	}
	f.ServiceAccountKey = write("serviceaccounts.key", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
	var tokens strings.Builder
	for user, as := range map[string][2]string{
		KubernetesAdmin:     {"admin", "system:masters"},
		KubernetesControl:   {"system:kube-controller-manager", "system:masters"},
		KubernetesScheduler: {"system:kube-scheduler", "system:masters"},
		KubernetesNode:      {"system:node:" + KubernetesNodeName, "system:nodes"},
	} {
		fmt.Fprintf(&tokens, "%s%s,%s,%s,%q\n", user, kubernetesTokenAfter, as[0], user, as[1])
		f.Config[user] = write(user+".kubeconfig", kubeconfig(t, server, f.CA, user+kubernetesTokenAfter))
	}
	f.Tokens = write("tokens.csv", []byte(tokens.String()))
	return f
}

// longer lets a certificate outlive long tests.
func longer(c *x509.Certificate) { c.NotAfter = time.Now().Add(24 * time.Hour) }

// kubeconfig is a client's file; JSON is YAML.
func kubeconfig(t testing.TB, server, ca, token string) []byte {
	t.Helper()
	const name = "test"
	data, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{"server": server, "certificate-authority": ca}}},
		"users":    []any{map[string]any{"name": name, "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{"cluster": name, "user": name}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// EtcdFlags are those of an etcd that keeps its data in dir and forgets it when the
// machine stops, at http://127.0.0.1:client.
func EtcdFlags(dir string, client, peer int) []string {
	self, peers := fmt.Sprintf("http://127.0.0.1:%d", client), fmt.Sprintf("http://127.0.0.1:%d", peer)
	return []string{"--name=test", "--data-dir=" + dir, "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + self, "--advertise-client-urls=" + self,
		"--listen-peer-urls=" + peers, "--initial-advertise-peer-urls=" + peers, "--initial-cluster=test=" + peers}
}

// APIServerFlags are those of an API server that listens on address:port and keeps its
// objects in an etcd at http://127.0.0.1:etcd. Webhooks named by a Service are called at
// the addresses of its endpoints, so that it needs no kube-proxy.
func (f *KubernetesFiles) APIServerFlags(etcd int, address string, port int) []string {
	return []string{
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", etcd), "--bind-address=" + address, fmt.Sprintf("--secure-port=%d", port),
		"--tls-cert-file=" + f.Cert, "--tls-private-key-file=" + f.Key, "--client-ca-file=" + f.CA,
		"--kubelet-client-certificate=" + f.KubeletCert, "--kubelet-client-key=" + f.KubeletKey,
		"--token-auth-file=" + f.Tokens, "--authorization-mode=Node,RBAC",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + f.ServiceAccountKey,
		"--service-account-signing-key-file=" + f.ServiceAccountKey,
		"--service-cluster-ip-range=" + KubernetesServices, "--enable-aggregator-routing=true", "--v=0",
	}
}

// ControllerFlags are those of a controller manager that serves its own health on port.
func (f *KubernetesFiles) ControllerFlags(port int) []string {
	return []string{"--kubeconfig=" + f.Config[KubernetesControl], "--leader-elect=false", "--bind-address=127.0.0.1",
		fmt.Sprintf("--secure-port=%d", port), "--service-account-private-key-file=" + f.ServiceAccountKey, "--root-ca-file=" + f.CA,
		"--kube-api-qps=200", "--kube-api-burst=200"}
}
