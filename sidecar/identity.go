package sidecar

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// workloadAPI is the development authority's socket, where configured.
type workloadAPI struct {
	serve func(context.Context) error
}

// buildIdentity chooses the source of our identity.
func (s *Sidecar) buildIdentity(c *config.Config) error {
	var err error
	switch i := c.Identity; {
	case i == nil:
		return nil
	case i.SPIFFE != nil:
		s.issuer, err = identity.NewWorkloadAPI(identity.WorkloadOptions{Socket: i.SPIFFE.Socket, Log: s.log})
	case i.Files != nil:
		s.issuer, err = filesSource(i.Files, s.log)
	case i.Dev != nil:
		err = s.buildAuthority(i.Dev)
	}
	s.identity = identity.NewCurrent(s.log)
	return err
}

// reauthorizeOnChange judges live connections again whenever the identity or its trust
// bundles change, until ctx ends.
func (s *Sidecar) reauthorizeOnChange(ctx context.Context, current *identity.Current) error {
	for {
		changed := current.Changed()
		s.proxy.Reauthorize()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func filesSource(f *config.FilesIdentity, log *slog.Logger) (identity.Source, error) {
	own, err := certificateDomain(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("identity.files: %w", err)
	}
	bundles := map[spiffeid.TrustDomain]string{own: f.Bundle}
	for name, file := range f.Bundles {
		domain, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, fmt.Errorf("identity.files.bundles: %w", err)
		}
		bundles[domain] = file
	}
	return identity.NewFiles(identity.FilesOptions{Cert: f.Cert, Key: f.Key, Bundles: bundles, Log: log})
}

func certificateDomain(cert, key string) (spiffeid.TrustDomain, error) {
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return spiffeid.TrustDomain{}, err
	}
	if len(pair.Leaf.URIs) != 1 {
		return spiffeid.TrustDomain{}, fmt.Errorf("%s: the certificate holds %d URI names; a SPIFFE identity has exactly one", cert, len(pair.Leaf.URIs))
	}
	id, err := spiffeid.FromURI(pair.Leaf.URIs[0])
	if err != nil {
		return spiffeid.TrustDomain{}, fmt.Errorf("%s: %w", cert, err)
	}
	return id.TrustDomain(), nil
}

// buildAuthority makes the development authority, or takes the one we were given,
// and issues ourselves an identity from it.
func (s *Sidecar) buildAuthority(d *config.DevIdentity) error {
	domain, err := spiffeid.TrustDomainFromString(d.TrustDomain)
	if err != nil {
		return fmt.Errorf("identity.dev.trust_domain: %w", err)
	}
	authority := s.options.Authority
	if authority == nil {
		authority, err = identity.NewAuthority(identity.AuthorityOptions{
			TrustDomain: domain, TTL: d.TTL.D(), StateDir: d.State, Log: s.log,
			Path: func(service string) string { return compile.ServicePath("", service) },
		})
		if err != nil {
			return err
		}
	}
	id, err := s.devID(d, authority)
	if err != nil {
		return fmt.Errorf("identity.dev.id: %w", err)
	}
	s.issuer = authority.Source(id)
	if d.Socket != "" {
		s.workload.serve = func(ctx context.Context) error { return authority.ServeWorkloadAPI(ctx, d.Socket, id) }
	}
	return nil
}

func (s *Sidecar) devID(d *config.DevIdentity, a *identity.Authority) (spiffeid.ID, error) {
	if d.ID != "" {
		return spiffeid.FromString(d.ID)
	}
	if w := s.config0.Workload; w != nil {
		return spiffeid.FromPath(a.TrustDomain(), compile.NamespacePath(s.config0.Consul.Namespace, s.config0.Consul.Datacenter, w.Service))
	}
	return spiffeid.FromPath(a.TrustDomain(), "/larboard")
}
