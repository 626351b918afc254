package sim

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

const trustDomain = "sim.test"

// epoch is when every World begins.
var epoch = time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)

// authority issues what the development authority would, with keys that follow from names
// and by Ed25519, whose signatures are of one length: a certificate is the same in every
// run, and so is the size of each record of a handshake. It may be used by several
// schedules at once.
type authority struct {
	mu    sync.Mutex
	roots map[int]root
	made  map[svid]identity.Material
}

type root struct {
	certificate *x509.Certificate
	key         ed25519.PrivateKey
}

// svid is one certificate with its bundle.
type svid struct {
	service    string
	generation int
	life       time.Duration // from the epoch
	signer     int
	bundle     [2]bool // of roots 0 and 1
}

func newAuthority() *authority {
	return &authority{roots: map[int]root{}, made: map[svid]identity.Material{}}
}

// issue returns the material of s.
func (a *authority) issue(s svid) identity.Material {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.made[s]; ok {
		return m
	}
	m := a.sign(s)
	a.made[s] = m
	return m
}

func (a *authority) sign(s svid) identity.Material {
	domain := spiffeid.RequireTrustDomainFromString(trustDomain)
	id := spiffeid.RequireFromPath(domain, compile.ServicePath("", s.service))
	key := keyOf(fmt.Sprint("svid ", s.service, s.generation))
	signer := a.root(s.signer)
	template := &x509.Certificate{
		SerialNumber: serial(1000 + s.generation), URIs: []*url.URL{id.URL()},
		NotBefore: epoch.Add(-time.Minute), NotAfter: epoch.Add(s.life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	leaf := certify(template, signer.certificate, key, signer.key)
	m := identity.Material{
		ID: id, Source: "sim", NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter,
		Certificate: tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf},
		Bundles:     map[spiffeid.TrustDomain][]*x509.Certificate{},
	}
	for i, in := range s.bundle {
		if in {
			m.Bundles[domain] = append(m.Bundles[domain], a.root(i).certificate)
		}
	}
	return m
}

func (a *authority) root(i int) root {
	r, ok := a.roots[i]
	if ok {
		return r
	}
	r.key = keyOf(fmt.Sprint("root ", i))
	template := &x509.Certificate{
		SerialNumber: serial(i), Subject: pkix.Name{CommonName: fmt.Sprint("root ", i)},
		NotBefore: epoch.Add(-time.Hour), NotAfter: epoch.Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true,
	}
	r.certificate = certify(template, template, r.key, r.key)
	a.roots[i] = r
	return r
}

// serial makes numbers that are encoded in one length.
func serial(n int) *big.Int { return big.NewInt(1<<40 + int64(n)) }

func keyOf(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// certify signs; what it is given is ours, so that a failure is a programmer's.
func certify(template, parent *x509.Certificate, key, signer ed25519.PrivateKey) *x509.Certificate {
	der, err := x509.CreateCertificate(nil, template, parent, key.Public(), signer)
	if err != nil {
		panic(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return c
}
