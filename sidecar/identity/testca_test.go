package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// ca is an authority of the tests that signs whatever it is asked to.
type ca struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string) *ca {
	return (*ca)(nil).authority(t, name, nil)
}

// authority makes a CA signed by c, or by itself if c is nil.
func (c *ca) authority(t testing.TB, name string, change func(*x509.Certificate)) *ca {
	t.Helper()
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	made := &ca{t: t, key: newKey(t)}
	signer, key := template, made.key
	if c != nil {
		signer, key = c.cert, c.key
	}
	made.cert = sign(t, template, signer, made.key, key)
	return made
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, signer *x509.Certificate, key, signerKey *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	serial, err := serialNumber()
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// leaf makes an SVID for the URIs; change may spoil it.
func (c *ca) leaf(change func(*x509.Certificate), uris ...string) tls.Certificate {
	c.t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			c.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if change != nil {
		change(template)
	}
	key := newKey(c.t)
	leaf := sign(c.t, template, c.cert, key, c.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// material makes what a workload named id gets from c, trusting bundles beside.
func (c *ca) material(id string, others map[spiffeid.TrustDomain][]*x509.Certificate) Material {
	certificate := c.leaf(nil, id)
	m := Material{
		ID: spiffeid.RequireFromString(id), Certificate: certificate, Source: "test",
		NotBefore: certificate.Leaf.NotBefore, NotAfter: certificate.Leaf.NotAfter,
		Bundles: map[spiffeid.TrustDomain][]*x509.Certificate{},
	}
	for d, certs := range others {
		m.Bundles[d] = certs
	}
	m.Bundles[m.ID.TrustDomain()] = []*x509.Certificate{c.cert}
	return m
}

func snapshotOf(t testing.TB, m Material) *Snapshot {
	t.Helper()
	s, err := newSnapshot(m, 1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// result is what the two sides of a handshake saw; client includes the first read,
// where TLS 1.3 reports a refusal by the server.
type result struct {
	server, client           error
	serverState, clientState tls.ConnectionState
}

// handshake runs both sides over an in-memory connection.
func handshake(client, server *tls.Config) result {
	a, b := bufferedPipe()
	defer a.Close()
	defer b.Close()
	var r result
	served := make(chan struct{})
	go func() {
		defer close(served)
		c := tls.Server(b, server)
		if r.server = c.Handshake(); r.server == nil {
			r.serverState = c.ConnectionState()
			_, r.server = c.Write([]byte("!"))
		}
		b.Close()
	}()
	c := tls.Client(a, client)
	if r.client = c.Handshake(); r.client == nil {
		r.clientState = c.ConnectionState()
		_, r.client = io.ReadFull(c, make([]byte, 1))
	}
	a.Close()
	<-served
	return r
}

func quietLog() *slog.Logger { return slog.New(slog.DiscardHandler) }

// writePEM writes blocks to dir/name through a rename.
func writePEM(t testing.TB, path string, blocks ...*pem.Block) {
	t.Helper()
	var content []byte
	for _, b := range blocks {
		content = append(content, pem.EncodeToMemory(b)...)
	}
	replaceFile(t, path, content)
}

func replaceFile(t testing.TB, path string, content []byte) {
	t.Helper()
	temporary := filepath.Join(filepath.Dir(path), ".new")
	if err := errors.Join(os.WriteFile(temporary, content, 0o600), os.Rename(temporary, path)); err != nil {
		t.Fatal(err)
	}
}

func certBlock(der []byte) *pem.Block { return &pem.Block{Type: "CERTIFICATE", Bytes: der} }

func keyBlock(t testing.TB, key any) *pem.Block {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &pem.Block{Type: "PRIVATE KEY", Bytes: der}
}

// noLeaks fails the test if goroutines of this package or of gRPC outlive it.
func noLeaks(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		deadline := time.Now().Add(5 * time.Second)
		for {
			left := ours()
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Errorf("%d goroutines leaked, the first:\n%s", len(left), left[0])
				return
			}
			<-time.After(2 * time.Millisecond)
		}
	})
}

func ours() []string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var found []string
	for _, g := range strings.Split(string(stacks), "\n\n") {
		if strings.Contains(g, "testing.tRunner") || strings.Contains(g, "testing.(*") {
			continue
		}
		if strings.Contains(g, "sidecar/identity.") || strings.Contains(g, "google.golang.org/grpc") || strings.Contains(g, "fsnotify") {
			found = append(found, g)
		}
	}
	return found
}

func parsedBundle(c *ca) []*x509.Certificate { return []*x509.Certificate{c.cert} }

// logTo makes a logger that calls f with the message of the first warning.
func logTo(f func(string)) *slog.Logger {
	var once sync.Once
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "level=WARN") {
			once.Do(func() { f(string(p)) })
		}
		return len(p), nil
	}), nil))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// everyWarning makes a logger that sends the line of each warning.
func everyWarning(lines chan<- string) *slog.Logger {
	return slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) {
		if strings.Contains(string(p), "level=WARN") {
			lines <- string(p)
		}
		return len(p), nil
	}), nil))
}
