// Package identity gives the proxy its own X.509-SVID and the bundles by which
// it verifies others, keeps them fresh, and builds the tls.Config values of both
// directions. A peer is known by its SPIFFE ID, never by a DNS name. The package
// must not know of listeners, routes or HTTP.
package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Material is everything one identity needs at one moment. Values are immutable
// once handed over.
type Material struct {
	ID spiffeid.ID
	// Certificate is the SVID's chain (leaf first, Leaf parsed) and its key.
	Certificate tls.Certificate
	// Bundles holds the authorities of each trusted trust domain; that of ID is
	// always among them.
	Bundles map[spiffeid.TrustDomain][]*x509.Certificate
	// NotBefore and NotAfter bound the leaf.
	NotBefore, NotAfter time.Time
	// Source says where it came from ("workload-api", "files", "dev").
	Source string
}

// Source delivers material until its context ends.
type Source interface {
	// Run calls out with the first complete material and again at each rotation or
	// change of a bundle; out is called from one goroutine and must not block. Run
	// retries by itself and returns only ctx's error or a permanent one. A failure
	// never withdraws the last material; where the issuer itself says that the SVID is
	// no longer ours, the zero Material does.
	Run(ctx context.Context, out func(Material)) error
}
