package compile

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// give makes id the identity of a holder.
func give(t *testing.T, a *identity.Authority, id spiffeid.ID, to *identity.Current) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	a.Source(id).Run(ctx, func(m identity.Material) { to.Set(m); cancel() })
}

func TestEdgeCertificates(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"one.example", "two.example"} {
		writePair(t, dir, name)
	}
	for _, c := range []struct {
		name, protocol string
		alpn           []string
	}{{"http", "http", []string{"http/1.1"}}, {"tcp offers no protocol", "tcp", nil}} {
		t.Run(c.name, func(t *testing.T) {
			text := fmt.Sprintf("listeners: [{name: in, address: 127.0.0.1:1, protocol: %s, service: a, tls: {certificates: [{cert: %q, key: %q}, {cert: %q, key: %q}]}}]"+services,
				c.protocol, filepath.Join(dir, "one.example.pem"), filepath.Join(dir, "one.example.key"), filepath.Join(dir, "two.example.pem"), filepath.Join(dir, "two.example.key"))
			out := compiled(t, text, nil)
			l := out.Snapshot.Listeners[0]
			m, err := l.TLS()
			if err != nil || m.Identity != nil || l.Allow != nil || len(out.Certificates) != 1 {
				t.Errorf("%+v %v, %d to keep fresh", m, err, len(out.Certificates))
			}
			if !slices.Equal(m.Config.NextProtos, c.alpn) {
				t.Errorf("offers %q", m.Config.NextProtos)
			}
			if c.protocol == "http" && l.Routes[0].Steps[0] == nil {
				t.Error("no forwarded step")
			}
		})
	}
}

func writePair(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
