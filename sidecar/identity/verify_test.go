package identity

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/tests/pki"
)

const (
	apiID   = "spiffe://mesh.test/svc/api"
	webID   = "spiffe://mesh.test/svc/web"
	otherID = "spiffe://mesh.test/svc/other"
)

// refusalCases are peers' certificates and what must become of them, on either side.
type refusalCase struct {
	name   string
	peer   func(w *world) *tls.Certificate // nil: none presented
	reason policy.Reason                   // None: accepted
	text   string                          // part of the error
}

// world is a domain with a root and an intermediate, and a foreign domain.
type world struct {
	root, intermediate, foreign, federated *ca
}

func newWorld(t testing.TB) *world {
	w := &world{root: newCA(t, "mesh"), foreign: newCA(t, "foreign"), federated: newCA(t, "federated")}
	w.intermediate = &ca{w.root.Authority("mesh intermediate", nil), t}
	return w
}

func (w *world) own(id string) *Snapshot {
	return snapshotOf(w.root.t, w.root.material(id, map[spiffeid.TrustDomain][]*x509.Certificate{
		spiffeid.RequireTrustDomainFromString("federated.test"): {w.federated.Cert},
	}))
}

func presented(c tls.Certificate, intermediates ...*pki.CA) *tls.Certificate {
	for _, i := range intermediates {
		c.Certificate = append(c.Certificate, i.Cert.Raw)
	}
	return &c
}

func refusalCases() []refusalCase {
	good := func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, webID)) }
	spoilt := func(change func(*x509.Certificate)) func(w *world) *tls.Certificate {
		return func(w *world) *tls.Certificate { return presented(w.root.Issue(change, webID)) }
	}
	return []refusalCase{
		{"accepted", good, policy.None, ""},
		{"accepted through an intermediate", func(w *world) *tls.Certificate {
			return presented(w.intermediate.Issue(nil, webID), w.intermediate.CA)
		}, policy.None, ""},
		{"accepted from a federated domain", func(w *world) *tls.Certificate {
			return presented(w.federated.Issue(nil, "spiffe://federated.test/svc/web"))
		}, policy.None, ""},
		{"accepted without extended key usage", spoilt(func(c *x509.Certificate) { c.ExtKeyUsage = nil }), policy.None, ""},
		{"accepted with a DNS name beside", spoilt(func(c *x509.Certificate) { c.DNSNames = []string{"web"} }), policy.None, ""},

		{"no certificate", nil, policy.TLSNoCertificate, "no certificate was presented"},
		{"another service", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, otherID)) },
			policy.TLSUnknownID, "the peer is " + otherID + "; accepted: " + webID},
		{"the accepted ID as a prefix", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, webID+"2")) },
			policy.TLSUnknownID, webID + "2"},
		{"expired", spoilt(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-10 * time.Second) }),
			policy.TLSExpired, "expired at"},
		{"not yet valid", spoilt(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(10 * time.Minute) }),
			policy.TLSExpired, "not valid before"},
		{"expired intermediate", func(w *world) *tls.Certificate {
			i := w.root.Authority("old", func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) })
			return presented(i.Issue(nil, webID), i)
		}, policy.TLSExpired, "intermediate certificate"},
		{"missing intermediate", func(w *world) *tls.Certificate { return presented(w.intermediate.Issue(nil, webID)) },
			policy.TLSBadCertificate, "does not verify against the bundle"},
		{"domain without a bundle", func(w *world) *tls.Certificate {
			return presented(w.foreign.Issue(nil, "spiffe://foreign.test/svc/web"))
		}, policy.TLSUnknownDomain, `trust domain "foreign.test"; trusted here: federated.test, mesh.test`},
		{"own domain claimed by a foreign authority", func(w *world) *tls.Certificate { return presented(w.foreign.Issue(nil, webID)) },
			policy.TLSBadCertificate, "does not verify against the bundle"},
		{"own domain claimed by a federated authority", func(w *world) *tls.Certificate { return presented(w.federated.Issue(nil, webID)) },
			policy.TLSBadCertificate, `bundle of "mesh.test"`},
		{"federated domain claimed by our authority", func(w *world) *tls.Certificate {
			return presented(w.root.Issue(nil, "spiffe://federated.test/svc/web"))
		}, policy.TLSBadCertificate, `bundle of "federated.test"`},
		{"self-signed", func(w *world) *tls.Certificate {
			self := newCA(w.root.t, "self")
			return presented(self.Issue(nil, webID), self.CA)
		}, policy.TLSBadCertificate, "does not verify"},
		{"two URI names", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, webID, apiID)) },
			policy.TLSSeveralIDs, "2 URI names, the first two " + webID + " and " + apiID},
		{"the same URI name twice", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, webID, webID)) },
			policy.TLSSeveralIDs, "2 URI names"},
		{"a SPIFFE ID and another URI", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, webID, "https://web")) },
			policy.TLSSeveralIDs, "https://web"},
		{"no name at all", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil)) },
			policy.TLSNoID, "no URI name"},
		{"DNS name only", func(w *world) *tls.Certificate {
			return presented(w.root.Issue(func(c *x509.Certificate) { c.DNSNames = []string{"web.mesh.test"} }))
		}, policy.TLSNoID, `DNS name "web.mesh.test" holds no URI name`},
		{"a URI of another scheme", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, "https://mesh.test/svc/web")) },
			policy.TLSNoID, "no SPIFFE ID"},
		{"a SPIFFE ID with a port", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, "spiffe://mesh.test:1/svc/web")) },
			policy.TLSNoID, "no SPIFFE ID"},
		{"a trust domain as a workload", func(w *world) *tls.Certificate { return presented(w.root.Issue(nil, "spiffe://mesh.test")) },
			policy.TLSNoID, "not a workload"},
		{"an authority as a workload", spoilt(func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }),
			policy.TLSBadCertificate, "certificate of an authority"},
		{"key usage without digitalSignature", spoilt(func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement }),
			policy.TLSBadCertificate, "digitalSignature"},
		{"key usage with keyCertSign", spoilt(func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }),
			policy.TLSBadCertificate, "signing"},
		{"extended key usage for mail", spoilt(func(c *x509.Certificate) {
			c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}
		}), policy.TLSBadCertificate, "incompatible key usage"},
		{"domain outside the authority's constraint", func(w *world) *tls.Certificate {
			i := w.root.Authority("constrained", func(c *x509.Certificate) {
				c.PermittedDNSDomainsCritical, c.PermittedURIDomains = true, []string{"elsewhere.test"}
			})
			return presented(i.Issue(nil, webID), i)
		}, policy.TLSBadCertificate, "does not verify"},
	}
}

func accepting() Peers {
	return Union(AnyOf(spiffeid.RequireFromString(webID)),
		MemberOf(spiffeid.RequireTrustDomainFromString("federated.test")))
}

func TestCallersAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	server := w.own(apiID).ServerConfig(accepting())
	for _, tc := range refusalCases() {
		t.Run(tc.name, func(t *testing.T) {
			client := meshConfig(nil)
			client.InsecureSkipVerify = true
			if tc.peer != nil {
				certificate := tc.peer(w)
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return certificate, nil }
			}
			r := handshake(client, server)
			checkRefusal(t, tc, r.server, policy.Downstream, policy.PhaseAccept, tc.reason)
			if tc.reason != policy.None && !IsAlert(r.client) {
				t.Errorf("the client saw %v, want an alert", r.client)
			}
		})
	}
}

func TestEndpointsAreRefusedByName(t *testing.T) {
	w := newWorld(t)
	client := w.own(apiID).ClientConfig(accepting())
	for _, tc := range refusalCases() {
		if tc.peer == nil {
			continue // a TLS 1.3 server always presents one
		}
		t.Run(tc.name, func(t *testing.T) {
			server := meshConfig(nil)
			server.Certificates = []tls.Certificate{*tc.peer(w)}
			server.ClientAuth = tls.RequestClientCert
			r := handshake(client, server)
			checkRefusal(t, tc, r.client, policy.Upstream, policy.PhaseConnect, policy.UpstreamTLSIdentity)
			if tc.reason != policy.None {
				inner := errors.Unwrap(Classify(r.client, false))
				if got := policy.ReasonOf(inner); got != tc.reason {
					t.Errorf("the reason inside is %s, want %s", got, tc.reason)
				}
				if e := Classify(r.client, false); !e.Retryable || e.MaybeProcessed {
					t.Errorf("retryable %v, maybe processed %v", e.Retryable, e.MaybeProcessed)
				}
			}
		})
	}
}

func checkRefusal(t *testing.T, tc refusalCase, err error, side policy.Side, phase policy.Phase, reason policy.Reason) {
	t.Helper()
	if tc.reason == policy.None {
		if err != nil {
			t.Fatalf("refused: %v", err)
		}
		return
	}
	var e *policy.Error
	if !errors.As(err, &e) {
		t.Fatalf("got %v, want a *policy.Error", err)
	}
	if e.Reason != reason || e.Side != side || e.Phase != phase {
		t.Errorf("got %s of %s in %s, want %s of %s in %s", e.Reason, e.Side, e.Phase, reason, side, phase)
	}
	if !strings.Contains(err.Error(), tc.text) {
		t.Errorf("the text %q lacks %q", err, tc.text)
	}
	if Classify(err, side == policy.Downstream) != e {
		t.Error("Classify does not return the error itself")
	}
}

// Both sides ours, both verify: the ordinary case, and the peer's ID afterwards.
func TestMutualHandshake(t *testing.T) {
	w := newWorld(t)
	api, web := w.own(apiID), w.own(webID)
	r := handshake(web.ClientConfig(AnyOf(api.ID()), "http/1.1"), api.ServerConfig(AnyOf(web.ID()), "h2", "http/1.1"))
	if r.server != nil || r.client != nil {
		t.Fatalf("server: %v, client: %v", r.server, r.client)
	}
	for side, state := range map[string]tls.ConnectionState{apiID: r.clientState, webID: r.serverState} {
		id, err := PeerID(state)
		if err != nil || id.String() != side {
			t.Errorf("peer is %s (%v), want %s", id, err, side)
		}
		if state.Version != tls.VersionTLS13 || state.NegotiatedProtocol != "http/1.1" || state.DidResume {
			t.Errorf("version %x, protocol %q, resumed %v", state.Version, state.NegotiatedProtocol, state.DidResume)
		}
	}
}

// A verified chain is remembered, but never past its end, and never for the other
// usage or another acceptance.
func TestVerdictsAreBoundedByTimeAndUse(t *testing.T) {
	w := newWorld(t)
	s := w.own(apiID)
	leaf := w.root.Issue(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }, webID)
	state := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf.Leaf}}
	for range 2 {
		if r := s.verifyPeer(state, x509.ExtKeyUsageClientAuth, accepting()); r != nil {
			t.Fatal(r.err)
		}
	}
	if len(s.verdicts.known) != 1 {
		t.Fatalf("%d chains remembered, want 1", len(s.verdicts.known))
	}
	if r := s.verifyPeer(state, x509.ExtKeyUsageServerAuth, accepting()); r == nil || r.reason != policy.TLSBadCertificate {
		t.Errorf("a client's certificate was accepted of a server: %v", r)
	}
	if r := s.verifyPeer(state, x509.ExtKeyUsageClientAuth, Peers{}); r == nil || r.reason != policy.TLSUnknownID {
		t.Errorf("remembered and therefore accepted: %v", r)
	}
	if _, hit := s.verdicts.find(state.PeerCertificates, x509.ExtKeyUsageClientAuth, leaf.Leaf.NotAfter.Add(time.Second)); hit {
		t.Error("a chain is remembered past its end")
	}
}

func TestVerdictsAreBoundedInNumber(t *testing.T) {
	var v verdicts
	for i := range 3 * verdictLimit {
		chain := []*x509.Certificate{{Raw: []byte{byte(i), byte(i >> 8)}}}
		v.keep(chain, x509.ExtKeyUsageAny, verified{})
	}
	if n := len(v.known); n > verdictLimit {
		t.Errorf("%d chains remembered, limit %d", n, verdictLimit)
	}
}

func TestPeerIDWithoutCertificate(t *testing.T) {
	_, err := PeerID(tls.ConnectionState{})
	if policy.ReasonOf(err) != policy.TLSNoCertificate {
		t.Errorf("got %v", err)
	}
}

func TestErrorTextsAreBounded(t *testing.T) {
	long := strings.Repeat("a", 10000)
	leaf := &x509.Certificate{URIs: []*url.URL{{Scheme: "https", Host: "x", Path: "/" + long}}}
	if _, r := idOf(leaf); r == nil || len(r.err.Error()) > 2*boundedLength {
		t.Errorf("text of %d bytes", len(r.err.Error()))
	}
}
