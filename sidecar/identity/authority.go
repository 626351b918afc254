package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/big"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// AuthorityOptions configures a development authority.
type AuthorityOptions struct {
	// TrustDomain is what its SVIDs belong to; required.
	TrustDomain spiffeid.TrustDomain
	// Path maps the name of a service to the path of its SPIFFE ID; nil: "/svc/NAME".
	Path func(service string) string
	// TTL is the life of an SVID, at least two seconds; zero: an hour.
	TTL time.Duration
	// RootTTL is the life of a root; zero: a year. It must be ten TTL at least.
	RootTTL time.Duration
	// Overlap is how long a new root is only published before it signs, so that
	// every peer knows it when it sees the first certificate by it; zero: a tenth of
	// TTL, ten seconds at most, and never less than three polls of StateDir.
	Overlap time.Duration
	// StateDir shares the roots among processes; empty: they live in memory.
	StateDir string
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Authority is the development authority: a certificate authority for one trust
// domain that needs nothing installed. It issues X.509-SVIDs to whoever may open
// its socket or hold its pointer, attests nobody, and so is not for production.
// All methods are safe from any goroutine; issuing signs and may read StateDir.
type Authority struct {
	options AuthorityOptions
	log     *slog.Logger

	mu        sync.Mutex
	roots     []root // oldest first
	state     *stateFile
	federated map[spiffeid.TrustDomain][]*x509.Certificate
	changed   chan struct{} // closed and replaced when the bundle changes
}

// NewAuthority makes or (from StateDir) loads an authority.
func NewAuthority(options AuthorityOptions) (*Authority, error) {
	if err := options.complete(); err != nil {
		return nil, err
	}
	a := &Authority{
		options: options, log: options.Log,
		federated: make(map[spiffeid.TrustDomain][]*x509.Certificate),
		changed:   make(chan struct{}),
	}
	if options.StateDir != "" {
		a.state = &stateFile{dir: options.StateDir, domain: options.TrustDomain}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sync(nil); err != nil {
		return nil, err
	}
	return a, nil
}

func (o *AuthorityOptions) complete() error {
	if o.TrustDomain.IsZero() {
		return errors.New("identity: development authority without a trust domain")
	}
	if o.TTL == 0 {
		o.TTL = time.Hour
	}
	if o.TTL < 2*time.Second {
		return fmt.Errorf("identity: development authority: ttl %s is below 2s, the least that certificates can express", o.TTL)
	}
	if o.RootTTL == 0 {
		o.RootTTL = max(365*24*time.Hour, 10*o.TTL)
	}
	if o.RootTTL < 10*o.TTL {
		return fmt.Errorf("identity: development authority: root ttl %s is below ten times the ttl %s", o.RootTTL, o.TTL)
	}
	if o.Overlap == 0 {
		o.Overlap = min(o.TTL/10, 10*time.Second)
		if o.StateDir != "" {
			o.Overlap = max(o.Overlap, 3*statePoll)
		}
	}
	if o.Path == nil {
		o.Path = func(service string) string { return "/svc/" + service }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return nil
}

// TrustDomain returns the authority's trust domain.
func (a *Authority) TrustDomain() spiffeid.TrustDomain { return a.options.TrustDomain }

// ID returns the SPIFFE ID of a service of this trust domain.
func (a *Authority) ID(service string) (spiffeid.ID, error) {
	return spiffeid.FromPath(a.options.TrustDomain, a.options.Path(service))
}

// Bundle returns the certificates of all its roots in force, for federation.
func (a *Authority) Bundle() ([]*x509.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sync(nil); err != nil {
		return nil, err
	}
	return a.bundle(), nil
}

func (a *Authority) bundle() []*x509.Certificate {
	var certs []*x509.Certificate
	for _, r := range a.roots {
		certs = append(certs, r.certificate)
	}
	return certs
}

// Federate makes the authorities of another trust domain part of what is handed
// out from now on; no certificates withdraw it. It reaches every source and
// stream at once.
func (a *Authority) Federate(domain spiffeid.TrustDomain, certificates []*x509.Certificate) error {
	if domain == a.options.TrustDomain || domain.IsZero() {
		return fmt.Errorf("identity: development authority of %q cannot federate with %q", a.options.TrustDomain.Name(), domain.Name())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(certificates) == 0 {
		delete(a.federated, domain)
	} else {
		a.federated[domain] = slices.Clone(certificates)
	}
	a.announce()
	return nil
}

// announce wakes whoever waits for a change of the bundles; mu is held.
func (a *Authority) announce() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// Issue makes a new key and an SVID for id, which must be a workload of the trust
// domain.
func (a *Authority) Issue(id spiffeid.ID) (Material, error) {
	g, err := a.grant(id)
	return g.material, err
}

// grant is one issued SVID with when to look again.
type grant struct {
	material Material
	changed  <-chan struct{} // closed when the bundles change
	signer   *x509.Certificate
	rotateAt time.Time // half of its life
}

func (a *Authority) grant(id spiffeid.ID) (grant, error) {
	if !id.MemberOf(a.options.TrustDomain) || id.Path() == "" {
		return grant{}, fmt.Errorf("identity: development authority of %q issues nothing to %q", a.options.TrustDomain.Name(), id)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.sync(nil); err != nil {
		return grant{}, err
	}
	now := a.options.Now()
	signer := a.signer(now)
	certificate, err := signer.issue(id, now, a.options.TTL)
	if err != nil {
		return grant{}, err
	}
	leaf := certificate.Leaf
	return grant{
		material: Material{
			ID: id, Certificate: certificate, Bundles: a.bundles(),
			NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter, Source: "dev",
		},
		changed:  a.changed,
		signer:   signer.certificate,
		rotateAt: now.Add(leaf.NotAfter.Sub(now) / 2),
	}, nil
}

// bundles returns what a workload trusts: the own trust domain and the federated.
func (a *Authority) bundles() map[spiffeid.TrustDomain][]*x509.Certificate {
	all := maps.Clone(a.federated)
	all[a.options.TrustDomain] = a.bundle()
	return all
}

// String names the authority; its keys are never printed.
func (a *Authority) String() string {
	return fmt.Sprintf("development authority of %q", a.options.TrustDomain.Name())
}

// GoString is String.
func (a *Authority) GoString() string { return a.String() }

// LogValue keeps the keys out of structured logs.
func (a *Authority) LogValue() slog.Value { return slog.StringValue(a.String()) }

// Source returns an in-process source of id's material, rotated at half life.
func (a *Authority) Source(id spiffeid.ID) Source { return &issuedSource{authority: a, id: id} }

type issuedSource struct {
	authority *Authority
	id        spiffeid.ID
	failure   lastError
}

func (s *issuedSource) LastError() string { return s.failure.text() }

// Run implements Source. A failure to read the shared state is retried.
func (s *issuedSource) Run(ctx context.Context, out func(Material)) error {
	return s.authority.follow(ctx, s.id, func(g grant, err error) error {
		if s.failure.note(s.authority.log, "development authority cannot issue", err); err == nil {
			out(g.material)
		}
		return nil
	})
}

// serialNumber draws 127 random bits (RFC 5280 section 4.1.2.2: positive, at most
// 20 octets).
func serialNumber() (*big.Int, error) {
	return rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
}

// issue signs an SVID as SPIFFE X509-SVID asks: one URI name, digitalSignature,
// both usages, no authority.
func (r root) issue(id spiffeid.ID, now time.Time, ttl time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: svid key: %w", err)
	}
	serial, err := serialNumber()
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: svid serial: %w", err)
	}
	notAfter := now.Add(ttl + time.Second - 1).Truncate(time.Second) // certificates count whole seconds
	if notAfter.After(r.certificate.NotAfter) {
		notAfter = r.certificate.NotAfter
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		URIs:                  []*url.URL{id.URL()},
		NotBefore:             now.Add(-min(ttl/10, time.Minute)), // for clocks that lag
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, r.certificate, key.Public(), r.key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: sign svid of %s: %w", id, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("identity: own svid of %s: %w", id, err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
