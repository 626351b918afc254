package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// refusal is why a peer's certificate was not accepted, before it is known on
// which side of the connection we stood.
type refusal struct {
	reason policy.Reason
	err    error
}

func refuse(reason policy.Reason, format string, args ...any) *refusal {
	return &refusal{reason, fmt.Errorf(format, args...)}
}

// asServer is the refusal of a caller: the connection is closed without an answer.
func (r *refusal) asServer() *policy.Error {
	return &policy.Error{Reason: r.reason, Side: policy.Downstream, Phase: policy.PhaseAccept, Err: r.err}
}

// asClient is the refusal of an endpoint. Whatever was wrong with its certificate,
// our own caller gets an answer and the endpoint the blame: the reason is
// UpstreamTLSIdentity, and the particular one stands inside. No byte of a request
// has been sent.
func (r *refusal) asClient() *policy.Error {
	cause := &policy.Error{Reason: r.reason, Side: policy.Upstream, Phase: policy.PhaseConnect, Err: r.err}
	return &policy.Error{
		Reason: policy.UpstreamTLSIdentity, Side: policy.Upstream, Phase: policy.PhaseConnect,
		Retryable: true, Err: cause,
	}
}

// PeerID returns the SPIFFE ID of the peer of a finished handshake. It trusts that
// the configuration was one of a Snapshot, which has verified the certificate;
// it only reads the name. Errors are *policy.Error with TLSNoCertificate, TLSNoID
// or TLSSeveralIDs. It does no I/O.
func PeerID(state tls.ConnectionState) (spiffeid.ID, error) {
	if len(state.PeerCertificates) == 0 {
		return spiffeid.ID{}, refuse(policy.TLSNoCertificate, "no certificate was presented").asServer()
	}
	id, r := idOf(state.PeerCertificates[0])
	if r != nil {
		return spiffeid.ID{}, r.asServer()
	}
	return id, nil
}

// idOf reads the one SPIFFE ID of a leaf (SPIFFE X509-SVID section 2: exactly one
// URI SAN; section 5.2: a leaf names a workload, so its path is not empty).
func idOf(leaf *x509.Certificate) (spiffeid.ID, *refusal) {
	switch n := len(leaf.URIs); {
	case n == 0:
		return spiffeid.ID{}, refuse(policy.TLSNoID, "the certificate of %s holds no URI name", subjectOf(leaf))
	case n > 1:
		return spiffeid.ID{}, refuse(policy.TLSSeveralIDs, "the certificate holds %d URI names, the first two %s and %s",
			n, bounded(leaf.URIs[0].String()), bounded(leaf.URIs[1].String()))
	}
	id, err := spiffeid.FromURI(leaf.URIs[0])
	if err != nil {
		return spiffeid.ID{}, refuse(policy.TLSNoID, "the certificate's URI name %s is no SPIFFE ID: %w", bounded(leaf.URIs[0].String()), err)
	}
	if id.Path() == "" {
		return spiffeid.ID{}, refuse(policy.TLSNoID, "the certificate names the trust domain %s, not a workload", bounded(id.String()))
	}
	return id, nil
}

// checkLeaf holds the rules of SPIFFE X509-SVID sections 4.1 and 4.3 that chain
// verification does not: a leaf signs handshakes and nothing else.
func checkLeaf(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA:
		return errors.New("it is the certificate of an authority")
	case leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0:
		return errors.New("its key usage lacks digitalSignature")
	case leaf.KeyUsage&(x509.KeyUsageCertSign|x509.KeyUsageCRLSign) != 0:
		return errors.New("its key usage allows signing certificates or revocation lists")
	}
	return nil
}

// verified is the result of a chain verification: who it is and while it holds.
type verified struct {
	id                  spiffeid.ID
	notBefore, notAfter time.Time // of the whole chain
}

// verifyChain verifies what a peer presented against the bundle of the peer's own
// trust domain only: no authority can vouch for a name of another domain.
func (s *Snapshot) verifyChain(chain []*x509.Certificate, usage x509.ExtKeyUsage, now time.Time) (verified, *refusal) {
	leaf := chain[0]
	id, r := idOf(leaf)
	if r != nil {
		return verified{}, r
	}
	pool, known := s.pools[id.TrustDomain()]
	if !known {
		return verified{}, refuse(policy.TLSUnknownDomain, "%s belongs to trust domain %q; trusted here: %s",
			bounded(id.String()), bounded(id.TrustDomain().Name()), s.domainNames())
	}
	if err := checkLeaf(leaf); err != nil {
		return verified{}, refuse(policy.TLSBadCertificate, "the certificate of %s: %w", bounded(id.String()), err)
	}
	options := x509.VerifyOptions{
		Roots: pool, Intermediates: x509.NewCertPool(), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{usage},
	}
	for _, c := range chain[1:] {
		options.Intermediates.AddCert(c)
	}
	chains, err := leaf.Verify(options)
	if err != nil {
		return verified{}, refuseChain(id, chain, err, now)
	}
	v := verified{id: id, notBefore: leaf.NotBefore, notAfter: leaf.NotAfter}
	for _, c := range chains[0] {
		if c.NotBefore.After(v.notBefore) {
			v.notBefore = c.NotBefore
		}
		if c.NotAfter.Before(v.notAfter) {
			v.notAfter = c.NotAfter
		}
	}
	return v, nil
}

// refuseChain tells an untimely certificate from one that does not verify. For an
// untimely intermediate crypto/x509 only reports an unknown authority.
func refuseChain(id spiffeid.ID, chain []*x509.Certificate, err error, now time.Time) *refusal {
	for i, c := range chain {
		what := "the certificate"
		if i > 0 {
			what = "an intermediate certificate"
		}
		switch {
		case now.After(c.NotAfter):
			return refuse(policy.TLSExpired, "%s of %s expired at %s: %w", what, bounded(id.String()), c.NotAfter.Format(time.RFC3339), err)
		case now.Before(c.NotBefore):
			return refuse(policy.TLSExpired, "%s of %s is not valid before %s: %w", what, bounded(id.String()), c.NotBefore.Format(time.RFC3339), err)
		}
	}
	var invalid x509.CertificateInvalidError
	if errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return refuse(policy.TLSExpired, "the authority of %s is out of its time: %w", bounded(id.String()), err)
	}
	return refuse(policy.TLSBadCertificate, "the certificate claims to be %s but does not verify against the bundle of %q: %w",
		bounded(id.String()), bounded(id.TrustDomain().Name()), err)
}

// verifyPeer is the whole decision about a peer, made in VerifyConnection.
// VerifyPeerCertificate was rejected: crypto/tls does not call it on resumption.
func (s *Snapshot) verifyPeer(state tls.ConnectionState, usage x509.ExtKeyUsage, accepted Peers) *refusal {
	chain := state.PeerCertificates
	if len(chain) == 0 {
		return refuse(policy.TLSNoCertificate, "no certificate was presented; accepted: %s", accepted)
	}
	now := s.now()
	v, hit := s.verdicts.find(chain, usage, now)
	if !hit {
		var r *refusal
		if v, r = s.verifyChain(chain, usage, now); r != nil {
			return r
		}
		s.verdicts.keep(chain, usage, v)
	}
	if !accepted.Accept(v.id) {
		return refuse(policy.TLSUnknownID, "the peer is %s; accepted: %s", bounded(v.id.String()), accepted)
	}
	return nil
}

// boundedLength is enough for any sensible name and keeps a hostile one out of logs.
const boundedLength = 256

func bounded(text string) string {
	if len(text) <= boundedLength {
		return text
	}
	return text[:boundedLength] + "..."
}

func subjectOf(c *x509.Certificate) string {
	if len(c.DNSNames) > 0 {
		return fmt.Sprintf("DNS name %q", bounded(c.DNSNames[0]))
	}
	return fmt.Sprintf("subject %q", bounded(c.Subject.String()))
}
