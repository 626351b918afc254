package identity

import (
	"crypto/tls"
	"crypto/x509"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Proof is what a peer has shown in a handshake, kept so that it can be judged again
// when the trust bundles change. It belongs to one connection, and to its loop.
type Proof struct {
	chain  []*x509.Certificate
	usage  x509.ExtKeyUsage
	under  *Snapshot // the newest one that it is known to hold under
	proven time.Time
}

// CallerProof keeps what the caller has shown in a handshake with a configuration of s.
func (s *Snapshot) CallerProof(state tls.ConnectionState) Proof {
	return Proof{state.PeerCertificates, x509.ExtKeyUsageClientAuth, s, s.now()}
}

// EndpointProof is CallerProof for an endpoint that we have called.
func (s *Snapshot) EndpointProof(state tls.ConnectionState) Proof {
	return Proof{state.PeerCertificates, x509.ExtKeyUsageServerAuth, s, s.now()}
}

// Holds says whether the bundles of now still vouch for the peer as it has proven
// itself, nil, or a *policy.Error with the reason why not. That its certificate has
// expired since is no such reason: the handshake was in its time, and peers rotate
// without giving up their connections. It costs a comparison where the bundle of the
// peer's trust domain is the same (our own rotation), else one verification.
func (p *Proof) Holds(now *Snapshot) error {
	if now == p.under {
		return nil
	}
	if r := p.judge(now); r != nil {
		if p.usage == x509.ExtKeyUsageServerAuth {
			return r.asClient()
		}
		return r.asServer()
	}
	p.under = now
	return nil
}

func (p *Proof) judge(now *Snapshot) *refusal {
	if len(p.chain) == 0 {
		return refuse(policy.TLSNoCertificate, "no certificate was presented")
	}
	id, r := idOf(p.chain[0])
	if r != nil {
		return r
	}
	domain := id.TrustDomain()
	if was, is := p.under.pools[domain], now.pools[domain]; was != nil && is != nil && was.Equal(is) {
		return nil
	}
	if _, hit := now.verdicts.find(p.chain, p.usage, p.proven); hit {
		return nil
	}
	v, r := now.verifyChain(p.chain, p.usage, p.proven)
	if r == nil {
		now.verdicts.keep(p.chain, p.usage, v)
	}
	return r
}
