package e2e

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// authority is a certificate authority of a trust domain that issues whatever a
// test asks for, the wrong things above all.
type authority struct {
	*pki.CA
	domain string
}

func newAuthority(t testing.TB, domain string) *authority {
	return &authority{pki.New(t, "authority of "+domain), domain}
}

// svcID is the SPIFFE ID of a service by Consul's convention.
func svcID(domain, service string) string {
	return "spiffe://" + domain + "/ns/default/dc/dc1/svc/" + service
}

// svid is a good certificate of a service.
func (a *authority) svid(service string) tls.Certificate {
	return a.Issue(nil, svcID(a.domain, service))
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
	var all tls.Certificate
	for _, a := range authorities {
		all.Certificate = append(all.Certificate, a.Cert.Raw)
	}
	f.replace(f.bundle, pki.CertPEM(all))
}

func (f svidFiles) writeCert(c tls.Certificate) {
	f.t.Helper()
	f.replace(f.cert, pki.CertPEM(c))
}

func (f svidFiles) writeKey(c tls.Certificate) {
	f.t.Helper()
	f.replace(f.key, pki.KeyPEM(f.t, c))
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

// meshClient is a tls.Config of a test that calls a sidecar by itself. What the
// sidecar proves is judged by the test, not by a host name.
func meshClient(own ...tls.Certificate) *tls.Config {
	return &tls.Config{Certificates: own, InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}
}
