package identity

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// ca is an authority of the tests that signs whatever it is asked to.
type ca struct {
	*pki.CA
	t testing.TB
}

func newCA(t testing.TB, name string) *ca { return &ca{pki.New(t, name), t} }

// material makes what a workload named id gets from c, trusting bundles beside.
func (c *ca) material(id string, others map[spiffeid.TrustDomain][]*x509.Certificate) Material {
	certificate := c.Issue(nil, id)
	m := Material{
		ID: spiffeid.RequireFromString(id), Certificate: certificate, Source: "test",
		NotBefore: certificate.Leaf.NotBefore, NotAfter: certificate.Leaf.NotAfter,
		Bundles: map[spiffeid.TrustDomain][]*x509.Certificate{},
	}
	for d, certs := range others {
		m.Bundles[d] = certs
	}
	m.Bundles[m.ID.TrustDomain()] = []*x509.Certificate{c.Cert}
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

func parsedBundle(c *ca) []*x509.Certificate { return []*x509.Certificate{c.Cert} }

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
