package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// site writes a certificate for names and returns its files.
func site(t *testing.T, dir string, authority *ca, names ...string) KeyPair {
	t.Helper()
	c := authority.Issue(func(c *x509.Certificate) { c.DNSNames = names })
	pair := KeyPair{Cert: filepath.Join(dir, names[0]+".pem"), Key: filepath.Join(dir, names[0]+".key")}
	writePEM(t, pair.Key, keyBlock(t, c.PrivateKey))
	writePEM(t, pair.Cert, certBlock(c.Certificate[0]))
	return pair
}

// rsaSite is site with an RSA key.
func rsaSite(t *testing.T, dir string, authority *ca, name string) KeyPair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	leaf := authority.Issue(func(c *x509.Certificate) { c.DNSNames = []string{name} }).Leaf
	der, err := x509.CreateCertificate(rand.Reader, leaf, authority.Cert, key.Public(), authority.Key)
	if err != nil {
		t.Fatal(err)
	}
	pair := KeyPair{Cert: filepath.Join(dir, name+"-rsa.pem"), Key: filepath.Join(dir, name+"-rsa.key")}
	writePEM(t, pair.Key, keyBlock(t, key))
	writePEM(t, pair.Cert, certBlock(der))
	return pair
}

func clientOf(authority *ca, name string) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(authority.Cert)
	return &tls.Config{RootCAs: roots, ServerName: name, NextProtos: []string{"http/1.1"}}
}

func TestEdgeChoosesByName(t *testing.T) {
	dir, authority := t.TempDir(), newCA(t, "public")
	edge, err := ServerCertificates([]KeyPair{
		site(t, dir, authority, "default.test"),
		site(t, dir, authority, "*.shop.test"),
		site(t, dir, authority, "api.shop.test", "alias.test"),
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	server := edge.Config()
	for name, want := range map[string]string{
		"default.test": "default.test", "web.shop.test": "*.shop.test", "WEB.shop.test": "*.shop.test",
		"api.shop.test": "api.shop.test", "alias.test": "api.shop.test",
		"unknown.test": "default.test", "a.b.shop.test": "default.test", "": "default.test",
	} {
		client := clientOf(authority, name)
		client.InsecureSkipVerify = true // the names that nobody holds are asked for too
		r := handshake(client, server)
		if r.client != nil || r.server != nil {
			t.Fatalf("%q: client %v, server %v", name, r.client, r.server)
		}
		if got := r.clientState.PeerCertificates[0].DNSNames[0]; got != want {
			t.Errorf("%q got the certificate of %q, want %q", name, got, want)
		}
		if r.clientState.NegotiatedProtocol != "http/1.1" || r.clientState.Version != tls.VersionTLS13 {
			t.Errorf("%q: protocol %q, version %x", name, r.clientState.NegotiatedProtocol, r.clientState.Version)
		}
	}
}

func TestEdgeChoosesByKeyType(t *testing.T) {
	dir, authority := t.TempDir(), newCA(t, "public")
	edge, err := ServerCertificates([]KeyPair{site(t, dir, authority, "a.test"), rsaSite(t, dir, authority, "a.test")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := clientOf(authority, "a.test")
	if r := handshake(client, edge.Config()); r.client != nil || !isECDSA(r.clientState) {
		t.Errorf("the first certificate is not preferred: %v", r.client)
	}
	client.MaxVersion, client.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	if r := handshake(client, edge.Config()); r.client != nil || isECDSA(r.clientState) {
		t.Errorf("a client that knows only RSA: %v", r.client)
	}
}

func isECDSA(state tls.ConnectionState) bool {
	_, ok := state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey)
	return ok
}

func TestEdgeVersions(t *testing.T) {
	dir, authority := t.TempDir(), newCA(t, "public")
	edge, err := ServerCertificates([]KeyPair{site(t, dir, authority, "a.test")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name   string
		change func(*tls.Config)
		ok     bool
	}{
		{"1.3", func(*tls.Config) {}, true},
		{"1.2", func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		{"1.1", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		{"1.2 with CBC only", func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			client := clientOf(authority, "a.test")
			tc.change(client)
			if r := handshake(client, edge.Config()); (r.client == nil) != tc.ok {
				t.Errorf("client %v, server %v", r.client, r.server)
			}
		})
	}
}

func TestEdgeReload(t *testing.T) {
	noLeaks(t)
	dir, authority := t.TempDir(), newCA(t, "public")
	pair := site(t, dir, authority, "a.test")
	warnings := make(chan string, 100)
	edge, err := ServerCertificates([]KeyPair{pair}, everyWarning(warnings))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	ended := make(chan error)
	go func() { ended <- edge.Run(ctx) }()
	server, client := edge.Config(), clientOf(authority, "a.test")
	serial := func() string {
		t.Helper()
		r := handshake(client, server)
		if r.client != nil {
			t.Fatal(r.client)
		}
		return r.clientState.PeerCertificates[0].SerialNumber.String()
	}
	first := serial()
	old, err := os.ReadFile(pair.Cert)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, pair.Cert, []byte("half"))
	if text := next(t, warnings); !strings.Contains(text, pair.Cert) {
		t.Errorf("the warning does not name the file: %q", text)
	}
	if serial() != first || edge.LastError() == "" || edge.Reload() == nil {
		t.Error("a broken file replaced the certificate, or left no trace")
	}
	replaceFile(t, pair.Cert, old)
	site(t, dir, authority, "a.test")
	for serial() == first {
		if ctx.Err() != nil {
			t.Fatal("the new certificate was never used")
		}
	}
	cancel()
	<-ended
}

func TestEdgeRefusesBadPairs(t *testing.T) {
	dir, authority := t.TempDir(), newCA(t, "public")
	a, b := site(t, dir, authority, "a.test"), site(t, dir, authority, "b.test")
	for name, pairs := range map[string][]KeyPair{
		"none": nil, "a missing file": {{Cert: a.Cert, Key: "/nowhere"}},
		"the key of another": {{Cert: a.Cert, Key: b.Key}}, "the second is bad": {a, {Cert: a.Key, Key: b.Key}},
	} {
		if _, err := ServerCertificates(pairs, nil); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
