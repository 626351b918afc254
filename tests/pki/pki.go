// Package pki makes keys and certificates for tests: authorities that sign whatever
// they are asked to, the wrong things above all, and pairs in files. It must not know
// what a proxy makes of them.
package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"testing"
	"time"
)

// CA is an authority. Methods end the test on failure and are for its goroutine.
type CA struct {
	Cert *x509.Certificate
	Key  *ecdsa.PrivateKey
	t    testing.TB
}

// New makes an authority that signs itself, valid for a day and for an hour already.
func New(t testing.TB, name string) *CA {
	t.Helper()
	return NewWith(t, name, nil)
}

// NewWith is New with something changed.
func NewWith(t testing.TB, name string, change func(*x509.Certificate)) *CA {
	t.Helper()
	return (&CA{t: t}).Authority(name, change)
}

// Of is an authority that is there already.
func Of(t testing.TB, cert *x509.Certificate, key *ecdsa.PrivateKey) *CA {
	return &CA{Cert: cert, Key: key, t: t}
}

// Authority makes an intermediate authority; change, where not nil, may spoil it.
func (c *CA) Authority(name string, change func(*x509.Certificate)) *CA {
	c.t.Helper()
	made := &CA{Key: NewKey(c.t), t: c.t}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	if change != nil {
		change(template)
	}
	signer := c
	if c.Cert == nil {
		signer = &CA{Cert: template, Key: made.Key, t: c.t}
	}
	made.Cert = signer.sign(template, made.Key)
	return made
}

// Issue makes a certificate for peers with the URI names, valid for an hour and for a
// minute already; change, where not nil, may add what else it needs, or spoil it.
func (c *CA) Issue(change func(*x509.Certificate), uris ...string) tls.Certificate {
	c.t.Helper()
	template := leaf(c.t, uris)
	if change != nil {
		change(template)
	}
	key := NewKey(c.t)
	made := c.sign(template, key)
	return tls.Certificate{Certificate: [][]byte{made.Raw}, PrivateKey: key, Leaf: made}
}

// SelfSigned makes a certificate that vouches for itself, for DNS names.
func SelfSigned(t testing.TB, names ...string) tls.Certificate {
	t.Helper()
	template, key := leaf(t, nil), NewKey(t)
	template.DNSNames, template.IsCA, template.BasicConstraintsValid = names, true, true
	template.KeyUsage |= x509.KeyUsageCertSign
	made := Of(t, template, key).sign(template, key)
	return tls.Certificate{Certificate: [][]byte{made.Raw}, PrivateKey: key, Leaf: made}
}

func leaf(t testing.TB, uris []string) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, text := range uris {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = append(template.URIs, u)
	}
	return template
}

func (c *CA) sign(template *x509.Certificate, key *ecdsa.PrivateKey) *x509.Certificate {
	c.t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		c.t.Fatal(err)
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, c.Cert, key.Public(), c.Key)
	if err != nil {
		c.t.Fatal(err)
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		c.t.Fatal(err)
	}
	return made
}

// NewKey makes a key.
func NewKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// Pool trusts the certificates.
func Pool(all ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range all {
		pool.AddCert(c)
	}
	return pool
}

// CertPEM is a chain in PEM form, KeyPEM its key.
func CertPEM(c tls.Certificate) (text []byte) {
	for _, der := range c.Certificate {
		text = append(text, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return text
}

// KeyPEM is the key of a certificate in PEM form (PKCS #8).
func KeyPEM(t testing.TB, c tls.Certificate) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

// Write writes a pair as path.pem and path.key and returns these names.
func Write(t testing.TB, path string, c tls.Certificate) (cert, key string) {
	t.Helper()
	cert, key = path+".pem", path+".key"
	for name, text := range map[string][]byte{cert: CertPEM(c), key: KeyPEM(t, c)} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return cert, key
}
