package identity

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// root is one signing key of the authority with its place in time: published at
// once, signing from activeFrom, out of the bundle at retireAt (zero: not yet
// known). Which root signs follows from the clock alone, so that processes that
// share a state agree without a word.
type root struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	activeFrom  time.Time
	retireAt    time.Time
}

// newRoot makes a self-signed P-256 authority that bears the trust domain's name
// (SPIFFE X509-SVID section 3: a signing certificate may hold one).
func newRoot(domain spiffeid.TrustDomain, now, activeFrom time.Time, ttl time.Duration) (root, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return root{}, fmt.Errorf("identity: root key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return root{}, fmt.Errorf("identity: root serial: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Larboard development authority"}, SerialNumber: serialText(serial)},
		URIs:                  []*url.URL{domain.ID().URL()},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(ttl),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return root{}, fmt.Errorf("identity: sign root: %w", err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return root{}, fmt.Errorf("identity: own root: %w", err)
	}
	return root{certificate: certificate, key: key, activeFrom: activeFrom}, nil
}

// serialText makes the subjects of successive roots differ, so that a verifier
// finds the right one by name.
func serialText(serial *big.Int) string {
	text := serial.Text(16)
	return text[:min(8, len(text))]
}

// RotateRoot starts the change to a new root: it joins the bundle now, signs from
// now + Overlap, and the old one leaves the bundle when the last SVID by it has
// expired. Existing connections and certificates stay good all the while. A
// rotation already under way is left to finish.
func (a *Authority) RotateRoot() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sync(func(now time.Time) error {
		if a.roots[len(a.roots)-1].activeFrom.After(now) {
			return nil
		}
		return a.addRoot(now, now.Add(a.options.Overlap))
	})
}

// addRoot appends a root and sets the end of those before it; mu is held.
func (a *Authority) addRoot(now, activeFrom time.Time) error {
	r, err := newRoot(a.options.TrustDomain, now, activeFrom, a.options.RootTTL)
	if err != nil {
		return err
	}
	for i := range a.roots {
		if a.roots[i].retireAt.IsZero() {
			a.roots[i].retireAt = activeFrom.Add(a.options.TTL + 2*time.Second)
		}
	}
	a.roots = append(a.roots, r)
	a.log.Info("development authority has a new root", "trust_domain", a.options.TrustDomain.Name(), "signs_from", activeFrom)
	return nil
}

// signer returns the newest root that may sign; mu is held, sync has run.
func (a *Authority) signer(now time.Time) root {
	for _, r := range slices.Backward(a.roots) {
		if !r.activeFrom.After(now) {
			return r
		}
	}
	return a.roots[0]
}

// maintain brings the roots up to now: a first one, a successor when the newest
// has less than a third of its life left, and none that has retired. It reports
// whether anything changed; mu is held.
func (a *Authority) maintain(now time.Time) (bool, error) {
	before := len(a.roots)
	a.roots = slices.DeleteFunc(a.roots, func(r root) bool {
		return !r.retireAt.IsZero() && now.After(r.retireAt) || now.After(r.certificate.NotAfter)
	})
	changed := len(a.roots) != before
	switch n := len(a.roots); {
	case n == 0:
		return true, a.addRoot(now, now)
	case a.roots[n-1].certificate.NotAfter.Sub(now) < a.options.RootTTL/3:
		return true, a.addRoot(now, now.Add(a.options.Overlap))
	}
	return changed, nil
}

// nextEvent is when the roots change by the clock alone; zero: not foreseen.
func (a *Authority) nextEvent(now time.Time) time.Time {
	var next time.Time
	sooner := func(t time.Time) {
		if t.After(now) && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	for _, r := range a.roots {
		sooner(r.activeFrom)
		sooner(r.retireAt)
	}
	return next
}
