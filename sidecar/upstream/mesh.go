package upstream

import (
	"crypto/tls"

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
	return snap.ClientConfig(peers)
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
