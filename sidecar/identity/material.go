package identity

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

// ParseMaterial makes material of PEM, for sources outside of this package: the
// chain, leaf first, its key, and the authorities of each trusted domain, that of the
// certificate among them. Errors never hold the key.
func ParseMaterial(chain, key []byte, bundles map[spiffeid.TrustDomain][]byte, source string) (Material, error) {
	svid, err := parseSVID(chain, key)
	if err != nil {
		return Material{}, err
	}
	parsed := make(map[spiffeid.TrustDomain][]*x509.Certificate, len(bundles))
	for domain, content := range bundles {
		if parsed[domain], err = parseBundle(content); err != nil {
			return Material{}, fmt.Errorf("bundle of %q: %w", domain.Name(), err)
		}
	}
	m := materialOf(svid, parsed, source)
	return m, checkMaterial(m)
}

// parseSVID reads a chain and its key, which may be PKCS #8, SEC 1 or PKCS #1:
// go-spiffe, which checks both, knows only the first.
func parseSVID(chain, key []byte) (*x509svid.SVID, error) {
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		return nil, err
	}
	return x509svid.ParseRaw(slices.Concat(pair.Certificate...), der)
}
