package compile

import (
	"sync/atomic"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// secureListener gives l its side of TLS: the proxy's identity in a mesh, a
// site's certificates at an edge.
func (out *Output) secureListener(in Input, c *config.Listener, l *proxy.ListenerConfig) error {
	switch {
	case c.TLS == nil:
		return nil
	case c.TLS.SPIFFE != nil:
		return secureMesh(in, c, l)
	}
	var pairs []identity.KeyPair
	for _, p := range c.TLS.Certificates {
		pairs = append(pairs, identity.KeyPair{Cert: p.Cert, Key: p.Key})
	}
	certificates, err := identity.ServerCertificates(pairs, in.Log)
	if err != nil {
		return err
	}
	material := proxy.TLSMaterial{Config: certificates.Config()}
	material.Config.NextProtos = alpn(c)
	if c.Protocol == config.Auto {
		identity.Tolerate(material.Config)
	}
	out.Certificates = append(out.Certificates, certificates)
	l.TLS = func() (proxy.TLSMaterial, error) {
		now := material
		now.Slow = certificates.Slow() // files may have been replaced
		return now, nil
	}
	return nil
}

// forwardedFields is how many fields the sidecar of the caller may have added, and
// forwardedBytes what they take: a request that it let pass must not be too large here.
const (
	forwardedFields = 8
	forwardedBytes  = 1 << 10
)

func secureMesh(in Input, c *config.Listener, l *proxy.ListenerConfig) error {
	current, err := in.identity(c.TLS.SPIFFE.Identity)
	if err != nil {
		return err
	}
	accepted, offered := identity.AnyTrusted(), alpn(c)
	l.TLS = func() (proxy.TLSMaterial, error) {
		snap := current.Snapshot()
		if snap == nil {
			return proxy.TLSMaterial{}, &policy.Error{Reason: policy.NoIdentity, Phase: policy.PhaseAccept}
		}
		return proxy.TLSMaterial{Config: snap.ServerConfig(accepted, offered...), Identity: snap}, nil
	}
	l.Allow = authorizer(in, c, current)
	l.HTTP.Limits.Fields += forwardedFields
	l.HTTP.Limits.Head += forwardedBytes
	return nil
}

// authorizer decides on the callers of a mesh listener.
func authorizer(in Input, c *config.Listener, current *identity.Current) proxy.Authorizer {
	if c.Intentions != nil {
		return &byIntentions{current: current, known: in.Intentions(c.Intentions.Service)}
	}
	list := &allowList{current: current}
	for _, p := range c.Allow {
		list.patterns = append(list.patterns, string(p))
	}
	return list
}

// allowList compiles its patterns once the own trust domain is known, which an
// identity that arrives late tells only then. Until it is, nobody may call.
type allowList struct {
	current  *identity.Current
	patterns []string
	compiled atomic.Pointer[compiledList]
}

type compiledList struct {
	domain spiffeid.TrustDomain
	list   *authz.AllowList
}

// Allow implements proxy.Authorizer.
func (a *allowList) Allow(id spiffeid.ID) authz.Verdict {
	snap := a.current.Snapshot()
	if snap == nil {
		return authz.Verdict{}
	}
	domain := snap.ID().TrustDomain()
	c := a.compiled.Load()
	if c == nil || c.domain != domain {
		list, err := authz.Compile(a.patterns, domain)
		if err != nil {
			return authz.Verdict{} // patterns are checked with the configuration
		}
		c = &compiledList{domain, list}
		a.compiled.Store(c)
	}
	return c.list.Allow(id)
}
