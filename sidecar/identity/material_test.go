package identity

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/tests/pki"
)

func TestParseMaterial(t *testing.T) {
	authority, other := newCA(t, "mesh"), newCA(t, "second root")
	leaf := authority.Issue(nil, apiID)
	key := leaf.PrivateKey.(*ecdsa.PrivateKey)
	sec1, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	chain := pem.EncodeToMemory(certBlock(leaf.Certificate[0]))
	bundle := append(pem.EncodeToMemory(certBlock(authority.Cert.Raw)), pem.EncodeToMemory(certBlock(other.Cert.Raw))...)
	domain := spiffeid.RequireFromString(apiID).TrustDomain()
	pkcs8 := pem.EncodeToMemory(keyBlock(t, key))
	for _, c := range []struct {
		name, want string
		chain, key []byte
		bundle     []byte
		domain     spiffeid.TrustDomain
	}{
		{"PKCS 8", "", chain, pkcs8, bundle, domain},
		{"SEC 1, as Consul sends it", "", chain, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}), bundle, domain},
		{"no key", "key", chain, nil, bundle, domain},
		{"another's key", "private key does not match", chain, pem.EncodeToMemory(keyBlock(t, pki.NewKey(t))), bundle, domain},
		{"no chain", "certificate", nil, pkcs8, bundle, domain},
		{"truncated bundle", "broken block", chain, pkcs8, bundle[:len(bundle)-40], domain},
		{"bundle of another domain", "no bundle for the own trust domain", chain, pkcs8, bundle, spiffeid.RequireTrustDomainFromString("other.test")},
		{"an authority's certificate", "", pem.EncodeToMemory(certBlock(authority.Cert.Raw)), pkcs8, bundle, domain},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := ParseMaterial(c.chain, c.key, map[spiffeid.TrustDomain][]byte{c.domain: c.bundle}, "consul")
			if c.name == "an authority's certificate" {
				if err == nil {
					t.Fatal("taken")
				}
				return
			}
			if c.want != "" {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Fatalf("got %v, want %q", err, c.want)
				}
				return
			}
			if err != nil || m.ID.String() != apiID || len(m.Bundles[domain]) != 2 || m.Source != "consul" || !m.Certificate.Leaf.Equal(leaf.Leaf) {
				t.Fatalf("%v, %v", m, err)
			}
		})
	}
}
