package real

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"path/filepath"
	"testing"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// Certificates are PEM files of an authority and one key pair that serves both as
// the server's and as a client's.
type Certificates struct {
	CA, Cert, Key string
	// ServerName is in the certificate beside 127.0.0.1.
	ServerName string

	pool *x509.CertPool
	pair tls.Certificate
}

// newCertificates makes an authority and a pair, valid for one hour.
func newCertificates(t testing.TB, dir string) *Certificates {
	t.Helper()
	c := &Certificates{ServerName: "server.dc1.consul"}
	ca := pki.New(t, "test authority")
	c.pool = pki.Pool(ca.Cert)
	c.pair = ca.Issue(func(leaf *x509.Certificate) {
		leaf.DNSNames, leaf.IPAddresses = []string{c.ServerName}, []net.IP{net.IPv4(127, 0, 0, 1)}
	})
	c.CA, _ = pki.Write(t, filepath.Join(dir, "ca"), tls.Certificate{Certificate: [][]byte{ca.Cert.Raw}, PrivateKey: ca.Key})
	c.Cert, c.Key = pki.Write(t, filepath.Join(dir, "pair"), c.pair)
	return c
}
