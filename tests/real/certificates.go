package real

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
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
	c := &Certificates{ServerName: "server.dc1.consul", pool: x509.NewCertPool()}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	check(err)
	ca, err = x509.ParseCertificate(caDER)
	check(err)
	c.pool.AddCert(ca)

	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: c.ServerName},
		NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    []string{c.ServerName}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
	check(err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)

	write := func(name, kind string, der []byte) string {
		t.Helper()
		path := filepath.Join(dir, name)
		check(os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	c.CA = write("ca.pem", "CERTIFICATE", caDER)
	c.Cert = write("cert.pem", "CERTIFICATE", leafDER)
	c.Key = write("key.pem", "PRIVATE KEY", keyDER)
	c.pair, err = tls.LoadX509KeyPair(c.Cert, c.Key)
	check(err)
	return c
}
