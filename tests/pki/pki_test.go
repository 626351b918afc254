package pki_test

import (
	"crypto/tls"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/pki"
)

// What the other tests take as right is right, and what they ask to be wrong is wrong.
func TestCertificates(t *testing.T) {
	root, other := pki.New(t, "root"), pki.New(t, "other")
	between := root.Authority("between", nil)
	good := between.Issue(nil, "spiffe://example.test/web")
	late := root.Issue(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Second) })
	own := pki.SelfSigned(t, "site.test")
	usages := []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	for _, c := range []struct {
		name  string
		leaf  *x509.Certificate
		roots *x509.CertPool
		ok    bool
	}{
		{"by an intermediate", good.Leaf, pki.Pool(root.Cert), true},
		{"another root", good.Leaf, pki.Pool(other.Cert), false},
		{"expired", late.Leaf, pki.Pool(root.Cert), false},
		{"vouches for itself", own.Leaf, pki.Pool(own.Leaf), true},
	} {
		_, err := c.leaf.Verify(x509.VerifyOptions{Roots: c.roots, Intermediates: pki.Pool(between.Cert), KeyUsages: usages})
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if len(good.Leaf.URIs) != 1 || good.Leaf.URIs[0].String() != "spiffe://example.test/web" || own.Leaf.DNSNames[0] != "site.test" {
		t.Errorf("names %v, %v", good.Leaf.URIs, own.Leaf.DNSNames)
	}
	cert, key := pki.Write(t, filepath.Join(t.TempDir(), "web"), good)
	if pair, err := tls.LoadX509KeyPair(cert, key); err != nil || !pair.Leaf.Equal(good.Leaf) {
		t.Errorf("read back from files: %v", err)
	}
}
