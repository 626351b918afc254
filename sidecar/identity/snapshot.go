package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Snapshot is one generation of an identity: everything a handshake needs, built
// once and immutable. All its methods are safe from any goroutine and never block
// for longer than a map look-up; connections keep the snapshot they were made with.
type Snapshot struct {
	// immutable after construction
	id                  spiffeid.ID
	generation          uint64
	notBefore, notAfter time.Time
	source              string
	certificate         *tls.Certificate
	pools               map[spiffeid.TrustDomain]*x509.CertPool
	domains             []spiffeid.TrustDomain // sorted keys of pools
	authorities         map[spiffeid.TrustDomain]int
	now                 func() time.Time

	verdicts verdicts

	mu      sync.Mutex
	configs map[configKey]*tls.Config
}

type configKey struct {
	server bool
	peers  string
	alpn   string
	name   string
}

// newSnapshot checks that the material is complete and its own: a snapshot that
// exists can serve.
func newSnapshot(m Material, generation uint64) (*Snapshot, error) {
	if err := checkMaterial(m); err != nil {
		return nil, err
	}
	s := &Snapshot{
		id: m.ID, generation: generation, source: m.Source,
		notBefore: m.Certificate.Leaf.NotBefore, notAfter: m.Certificate.Leaf.NotAfter,
		certificate: &m.Certificate,
		pools:       make(map[spiffeid.TrustDomain]*x509.CertPool, len(m.Bundles)),
		configs:     make(map[configKey]*tls.Config),
		authorities: make(map[spiffeid.TrustDomain]int, len(m.Bundles)),
		now:         time.Now,
	}
	for domain, authorities := range m.Bundles {
		pool := x509.NewCertPool()
		for _, c := range authorities {
			pool.AddCert(c)
		}
		s.pools[domain], s.authorities[domain] = pool, len(authorities)
		s.domains = append(s.domains, domain)
	}
	slices.SortFunc(s.domains, spiffeid.TrustDomain.Compare)
	return s, nil
}

func checkMaterial(m Material) error {
	leaf := m.Certificate.Leaf
	if leaf == nil || len(m.Certificate.Certificate) == 0 || m.Certificate.PrivateKey == nil {
		return errors.New("identity: material without certificate or key")
	}
	id, r := idOf(leaf)
	if r != nil {
		return fmt.Errorf("identity: own certificate: %w", r.err)
	}
	if id != m.ID {
		return fmt.Errorf("identity: own certificate is for %s, not %s", id, m.ID)
	}
	if err := checkLeaf(leaf); err != nil {
		return fmt.Errorf("identity: own certificate of %s: %w", id, err)
	}
	if len(m.Bundles[id.TrustDomain()]) == 0 {
		return fmt.Errorf("identity: no bundle for the own trust domain %q", id.TrustDomain().Name())
	}
	return nil
}

// ID returns our own SPIFFE ID.
func (s *Snapshot) ID() spiffeid.ID { return s.id }

// Generation counts the materials accepted by one Current, from 1. It belongs in
// the key of a connection pool.
func (s *Snapshot) Generation() uint64 { return s.generation }

// NotAfter is the end of our own certificate's life.
func (s *Snapshot) NotAfter() time.Time { return s.notAfter }

// TrustDomains lists the trust domains whose members can be verified, sorted.
func (s *Snapshot) TrustDomains() []spiffeid.TrustDomain { return slices.Clone(s.domains) }

func (s *Snapshot) domainNames() string {
	names := make([]string, 0, namedInErrors)
	for i, d := range s.domains {
		if i == namedInErrors {
			names = append(names, fmt.Sprintf("and %d more", len(s.domains)-i))
			break
		}
		names = append(names, d.Name())
	}
	return strings.Join(names, ", ")
}

// ServerConfig returns the configuration of an inbound mesh listener: TLS 1.3,
// our certificate, and a caller who proves to be one of accepted. alpn lists the
// protocols offered; none means that the client's wish is ignored. The value is
// cached by its arguments and shared: callers hold it and must not change it.
//
// The client's certificate is requested, not required, by crypto/tls: the refusal
// of its absence then comes from us, typed.
func (s *Snapshot) ServerConfig(accepted Peers, alpn ...string) *tls.Config {
	return s.config(configKey{server: true, peers: accepted.Key(), alpn: strings.Join(alpn, " ")}, func() *tls.Config {
		c := meshConfig(alpn)
		c.Certificates = []tls.Certificate{*s.certificate}
		c.ClientAuth = tls.RequestClientCert
		c.SessionTicketsDisabled = true
		Tolerate(c)
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if r := s.verifyPeer(state, x509.ExtKeyUsageClientAuth, accepted); r != nil {
				return r.asServer()
			}
			return nil
		}
		return c
	})
}

// ClientConfig returns the configuration of connections to endpoints that must
// prove to be one of expected. It sends no server name. Cached and shared like
// ServerConfig's.
func (s *Snapshot) ClientConfig(expected Peers, alpn ...string) *tls.Config {
	return s.ClientConfigTo("", expected, alpn...)
}

// ClientConfigTo is ClientConfig with a server name to send, by which a gateway on the
// way finds the endpoint. It proves nothing.
func (s *Snapshot) ClientConfigTo(serverName string, expected Peers, alpn ...string) *tls.Config {
	return s.config(configKey{peers: expected.Key(), alpn: strings.Join(alpn, " "), name: serverName}, func() *tls.Config {
		c := meshConfig(alpn)
		c.ServerName = serverName
		// Not Certificates: crypto/tls would withhold ours where the server names
		// authorities that did not issue it, as in a federated domain.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			return s.certificate, nil
		}
		// The peer has a SPIFFE ID, not a host name; all of the verification is in
		// VerifyConnection, which crypto/tls calls on every handshake.
		c.InsecureSkipVerify = true
		c.VerifyConnection = func(state tls.ConnectionState) error {
			if r := s.verifyPeer(state, x509.ExtKeyUsageServerAuth, expected); r != nil {
				return r.asClient()
			}
			return nil
		}
		return c
	})
}

// Tolerate makes c accept clients that name only protocols of their own, as those do that tunnel
// bytes through the mesh: what they speak shows in what they send.
func Tolerate(c *tls.Config) {
	if len(c.NextProtos) == 0 {
		return
	}
	c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		known := func(p string) bool { return slices.Contains(c.NextProtos, p) }
		if len(hello.SupportedProtos) == 0 || slices.ContainsFunc(hello.SupportedProtos, known) {
			return nil, nil
		}
		silent := c.Clone()
		silent.NextProtos, silent.GetConfigForClient = nil, nil
		return silent, nil
	}
}

// meshConfig is what both directions share. Without tickets and session cache
// every connection is a full handshake, so nobody is authorized by an old one.
func meshConfig(alpn []string) *tls.Config {
	return &tls.Config{
		MinVersion:       tls.VersionTLS13,
		MaxVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519, tls.CurveP256},
		NextProtos:       slices.Clone(alpn),
		Renegotiation:    tls.RenegotiateNever,
	}
}

// configLimit bounds the cache against callers whose accepted peers never repeat.
const configLimit = 4096

func (s *Snapshot) config(key configKey, build func() *tls.Config) *tls.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, ok := s.configs[key]; ok {
		return c
	}
	if len(s.configs) >= configLimit {
		clear(s.configs)
	}
	c := build()
	s.configs[key] = c
	return c
}

// The margin before expiry within which a connection is drained: a tenth of the
// certificate's life, yet enough for an ordinary request and never so long that a
// certificate of months is unusable for days.
const (
	drainMarginLeast = time.Second
	drainMarginMost  = 10 * time.Minute
)

// DrainConnection returns when a connection whose handshake has just finished should
// stop taking new requests, so that none outlives the first certificate to expire of
// our own and the peer's. Each call draws its own jitter (one to two margins before
// NotAfter): connections of one generation do not all come back at the same moment.
// With a rotation at half life the successor is long there by then. Where little of
// the life is left (a stalled rotation) connections get half of the rest at least, in
// place of being closed as soon as made.
func (s *Snapshot) DrainConnection(state tls.ConnectionState, jitter *rand.Rand) time.Time {
	now := s.now()
	own := drainBefore(s.notBefore, s.notAfter, now, jitter)
	if len(state.PeerCertificates) == 0 {
		return own
	}
	leaf := state.PeerCertificates[0]
	if peer := drainBefore(leaf.NotBefore, leaf.NotAfter, now, jitter); peer.Before(own) {
		return peer
	}
	return own
}

// ConnectionEnd returns when the first of our own certificate and the peer's of a
// finished handshake expires.
func (s *Snapshot) ConnectionEnd(state tls.ConnectionState) time.Time {
	if len(state.PeerCertificates) > 0 && state.PeerCertificates[0].NotAfter.Before(s.notAfter) {
		return state.PeerCertificates[0].NotAfter
	}
	return s.notAfter
}

func drainBefore(notBefore, notAfter, now time.Time, jitter *rand.Rand) time.Time {
	left := notAfter.Sub(now)
	if left <= 0 {
		return notAfter
	}
	margin := min(max(notAfter.Sub(notBefore)/10, drainMarginLeast), drainMarginMost)
	margin += time.Duration(jitter.Int64N(int64(margin)))
	return notAfter.Add(-min(margin, left/2))
}

// String names the snapshot without any secret.
func (s *Snapshot) String() string {
	return fmt.Sprintf("%s generation %d until %s", s.id, s.generation, s.notAfter.UTC().Format(time.RFC3339))
}

// GoString is String: the key must not appear under %#v either.
func (s *Snapshot) GoString() string { return s.String() }

// LogValue keeps the key out of structured logs.
func (s *Snapshot) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", s.id.String()), slog.Uint64("generation", s.generation),
		slog.Time("not_after", s.notAfter), slog.String("source", s.source))
}

// Authorities counts the roots by which members of domain are verified.
func (s *Snapshot) Authorities(domain spiffeid.TrustDomain) int { return s.authorities[domain] }
