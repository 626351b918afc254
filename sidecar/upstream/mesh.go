package upstream

import (
	"crypto/tls"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// peers says whom a connection to member must prove to be.
func (m *Mesh) peers(member *Member, snap *identity.Snapshot) (identity.Peers, error) {
	if id, ok := m.Pinned[member.Key()]; ok {
		return identity.AnyOf(id), nil
	}
	if !m.Peers.IsZero() {
		return m.Peers, nil
	}
	if !member.Identity.IsZero() {
		return identity.AnyOf(member.Identity), nil
	}
	path := member.IdentityPath
	if path == "" {
		path = m.Path
	}
	id, err := spiffeid.FromPath(snap.ID().TrustDomain(), path)
	if err != nil {
		return identity.Peers{}, err
	}
	return identity.AnyOf(id), nil
}

// ClientTLS is the configuration that a connection to m is made with, for health
// checks: nil while there is no identity. Any goroutine.
func (s *Service) ClientTLS(m *Member) *tls.Config {
	mesh := s.Settings().Mesh
	if mesh == nil {
		return nil
	}
	snap := mesh.Identity.Snapshot()
	if snap == nil {
		return nil
	}
	peers, err := mesh.peers(m, snap)
	if err != nil {
		return nil
	}
	return snap.ClientConfigTo(serverName(m.IdentityPath, snap.ID().TrustDomain()), peers)
}

// serverName is what Consul's proxies and gateways route a connection by, for an
// endpoint whose SPIFFE ID has this path in Consul:
//
//	/ns/<namespace>/dc/<dc>/svc/<service>  ->  <service>.<namespace>.<dc>.internal.<trust domain>
//	/ap/<partition>/...                    ->  <service>.<namespace>.<partition>.<dc>.internal-v1.<trust domain>
//
// Empty, so that none is sent, for any other path.
func serverName(path string, domain spiffeid.TrustDomain) string {
	p := strings.Split(path, "/")
	partition, version := "", ".internal."
	if len(p) == 9 && p[1] == "ap" {
		partition, version = p[2]+".", ".internal-v1."
		p = p[2:]
	}
	if len(p) != 7 || p[1] != "ns" || p[3] != "dc" || p[5] != "svc" {
		return ""
	}
	return p[6] + "." + p[2] + "." + partition + p[4] + version + domain.Name()
}

// Expected names whom a connection to m must prove to be; empty where nothing is
// asked, or not known yet. Any goroutine.
func (s *Service) Expected(m *Member) string {
	mesh := s.Settings().Mesh
	if mesh == nil {
		return ""
	}
	snap := mesh.Identity.Snapshot()
	if snap == nil {
		return ""
	}
	peers, err := mesh.peers(m, snap)
	if err != nil {
		return ""
	}
	return peers.String()
}
