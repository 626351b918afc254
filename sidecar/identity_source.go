package sidecar

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

// identityBuilder makes sources; development identities of one trust domain and state
// share their authority, or they would not trust each other.
type identityBuilder struct {
	sidecar     *Sidecar
	config      *config.Config
	authorities map[authorityKey]*identity.Authority
}

type authorityKey struct{ domain, state string }

func (b *identityBuilder) add(path, name string, c *config.Identity) error {
	log := b.sidecar.log
	if name != "" {
		log = log.With("identity_name", name)
	}
	source, err := b.source(name, c, log)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	own := &ownIdentity{name: name, current: identity.NewCurrent(log), source: source, log: log}
	b.sidecar.identities.all = append(b.sidecar.identities.all, own)
	return nil
}

// source is what c describes.
func (b *identityBuilder) source(name string, c *config.Identity, log *slog.Logger) (identity.Source, error) {
	switch {
	case c.SPIFFE != nil:
		return spiffeSource(c.SPIFFE, log)
	case c.Consul != nil && b.sidecar.sources.consul == nil:
		return nil, errors.New("consul: there is no Consul here")
	case c.Consul != nil:
		return newConnectCA(b.sidecar.sources.consul, c.Consul.Service, log), nil
	case c.Files != nil:
		return filesSource(c.Files, log)
	case c.Dev != nil:
		return b.dev(name, c.Dev, log)
	}
	return nil, errors.New("no source") // refused with the configuration
}

func spiffeSource(c *config.SPIFFEIdentity, log *slog.Logger) (identity.Source, error) {
	o := identity.WorkloadOptions{Socket: c.Socket, Hint: c.Hint, Log: log}
	if c.ID != "" {
		var err error
		if o.ID, err = spiffeid.FromString(c.ID); err != nil {
			return nil, fmt.Errorf("spiffe.id: %w", err)
		}
	}
	return identity.NewWorkloadAPI(o)
}

func filesSource(f *config.FilesIdentity, log *slog.Logger) (identity.Source, error) {
	own, err := certificateDomain(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("files: %w", err)
	}
	bundles := map[spiffeid.TrustDomain]string{own: f.Bundle}
	for name, file := range f.Bundles {
		domain, err := spiffeid.TrustDomainFromString(name)
		if err != nil {
			return nil, fmt.Errorf("files.bundles: %w", err)
		}
		bundles[domain] = file
	}
	return identity.NewFiles(identity.FilesOptions{Cert: f.Cert, Key: f.Key, Bundles: bundles, Log: log})
}

// dev makes the development authority, or takes one that is there, and issues
// ourselves an identity from it.
func (b *identityBuilder) dev(name string, d *config.DevIdentity, log *slog.Logger) (identity.Source, error) {
	authority, err := b.authority(d, log)
	if err != nil {
		return nil, err
	}
	id, err := b.devID(name, d, authority.TrustDomain())
	if err != nil {
		return nil, fmt.Errorf("dev.id: %w", err)
	}
	if d.Socket != "" {
		serve := func(ctx context.Context) error { return authority.ServeWorkloadAPI(ctx, d.Socket, id) }
		b.sidecar.identities.serve = append(b.sidecar.identities.serve, serve)
	}
	return authority.Source(id), nil
}

func (b *identityBuilder) authority(d *config.DevIdentity, log *slog.Logger) (*identity.Authority, error) {
	if given := b.sidecar.options.Authority; given != nil {
		return given, nil
	}
	key := authorityKey{d.TrustDomain, d.State}
	if known := b.authorities[key]; known != nil {
		return known, nil
	}
	domain, err := spiffeid.TrustDomainFromString(d.TrustDomain)
	if err != nil {
		return nil, fmt.Errorf("dev.trust_domain: %w", err)
	}
	b.authorities[key], err = identity.NewAuthority(identity.AuthorityOptions{
		TrustDomain: domain, TTL: d.TTL.D(), StateDir: d.State, Log: log,
		Path: func(service string) string { return compile.ServicePath("", service) },
	})
	return b.authorities[key], err
}

// devID is the ID that the configuration gives, that of the one workload that uses the
// identity, or one of the proxy itself.
func (b *identityBuilder) devID(name string, d *config.DevIdentity, domain spiffeid.TrustDomain) (spiffeid.ID, error) {
	if d.ID != "" {
		return spiffeid.FromString(d.ID)
	}
	// As loaded: the expansion has no workloads any more.
	c := b.sidecar.config0
	var users []string
	if w := c.Workload; w != nil && w.Identity == name {
		users = append(users, w.Service)
	}
	for _, w := range c.Workloads {
		if w.Identity == name {
			users = append(users, w.Service)
		}
	}
	slices.Sort(users)
	if users = slices.Compact(users); len(users) == 1 {
		return spiffeid.FromPath(domain, compile.NamespacePath(c.Consul.Namespace, c.Consul.Datacenter, users[0]))
	}
	if name == "" {
		return spiffeid.FromPath(domain, "/larboard")
	}
	return spiffeid.FromSegments(domain, "larboard", name)
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
