package e2e

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// authority is a certificate authority of a trust domain that issues whatever a
// test asks for, the wrong things above all.
type authority struct {
	t      testing.TB
	domain string
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, domain string) *authority {
	t.Helper()
	a := &authority{t: t, domain: domain, key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of " + domain},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		URIs: []*url.URL{{Scheme: "spiffe", Host: domain}},
	}
	a.cert = sign(t, template, template, &a.key.PublicKey, a.key)
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func sign(t testing.TB, template, parent *x509.Certificate, public *ecdsa.PublicKey, by *ecdsa.PrivateKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, by)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// svcID is the SPIFFE ID of a service by Consul's convention.
func svcID(domain, service string) string {
	return "spiffe://" + domain + "/ns/default/dc/dc1/svc/" + service
}

// issue signs a leaf for the given URI names; change may spoil it.
func (a *authority) issue(change func(*x509.Certificate), uris ...string) tls.Certificate {
	a.t.Helper()
	key := newKey(a.t)
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		a.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(30 * time.Minute),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			a.t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	if change != nil {
		change(template)
	}
	leaf := sign(a.t, template, a.cert, &key.PublicKey, a.key)
	return tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}
}

// svid is a good certificate of a service.
func (a *authority) svid(service string) tls.Certificate {
	a.t.Helper()
	return a.issue(nil, svcID(a.domain, service))
}

// svidFiles is an `identity: {files: ...}` that tests write and rotate.
type svidFiles struct {
	t                 testing.TB
	cert, key, bundle string
}

func newSVIDFiles(t testing.TB, own tls.Certificate, authorities ...*authority) svidFiles {
	t.Helper()
	dir := shortDir(t)
	f := svidFiles{t: t, cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key"), bundle: filepath.Join(dir, "ca.crt")}
	f.trust(authorities...)
	f.writeKey(own)
	f.writeCert(own)
	return f
}

// identity is the section of a configuration that names the files.
func (f svidFiles) identity() string {
	return fmt.Sprintf("identity: {files: {cert: %q, key: %q, bundle: %q}}\n", f.cert, f.key, f.bundle)
}

func (f svidFiles) trust(authorities ...*authority) {
	f.t.Helper()
	var all bytes.Buffer
	for _, a := range authorities {
		writePEM(f.t, &all, "CERTIFICATE", a.cert.Raw)
	}
	f.replace(f.bundle, all.Bytes())
}

func (f svidFiles) writeCert(c tls.Certificate) {
	f.t.Helper()
	var b bytes.Buffer
	writePEM(f.t, &b, "CERTIFICATE", c.Certificate[0])
	f.replace(f.cert, b.Bytes())
}

func (f svidFiles) writeKey(c tls.Certificate) {
	f.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	var b bytes.Buffer
	writePEM(f.t, &b, "PRIVATE KEY", der)
	f.replace(f.key, b.Bytes())
}

// replace is an atomic rename, as whoever rotates files does it.
func (f svidFiles) replace(path string, content []byte) {
	f.t.Helper()
	if err := os.WriteFile(path+".next", content, 0o600); err != nil {
		f.t.Fatal(err)
	}
	if err := os.Rename(path+".next", path); err != nil {
		f.t.Fatal(err)
	}
}

func writePEM(t testing.TB, to *bytes.Buffer, kind string, der []byte) {
	t.Helper()
	if err := pem.Encode(to, &pem.Block{Type: kind, Bytes: der}); err != nil {
		t.Fatal(err)
	}
}

// meshClient is a tls.Config of a test that calls a sidecar by itself. What the
// sidecar proves is judged by the test, not by a host name.
func meshClient(own ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: own, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}
