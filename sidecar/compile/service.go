package compile

import (
	"cmp"
	"errors"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

func compileService(in Input, c *config.Service) (*upstream.Settings, error) {
	s := &upstream.Settings{
		Balance: string(c.Balance),
		Timeouts: upstream.Timeouts{
			Connect:      c.Timeouts.Connect.D(),
			ResponseHead: c.Timeouts.ResponseHead.D(),
			Request:      c.Timeouts.Request.D(),
			Body:         c.Timeouts.Body.D(),
			Idle:         c.Timeouts.Idle.D(),
			Tunnel:       c.Timeouts.Tunnel.D(),
		},
		MaxConnections: int64(c.MaxConnections),
		SendProxy:      proxyVersion(c.SendProxy),
		Breaker:        serviceBreaker(c),
		Ejection:       serviceEjection(c.Ejection),

		Retries: retries(&c.Retries),
		Version: versions[c.Protocol],
		HTTP:    http1.ClientOptions{Limits: limits(in.Config), Authority: c.Name},
		HTTP2:   serviceHTTP2(c, limits(in.Config)),
	}
	if c.TLS == nil || c.TLS.SPIFFE == nil {
		return s, nil
	}
	mesh, err := compileMesh(in, c)
	s.Mesh = mesh
	return s, err
}

func proxyVersion(v config.ProxyVersion) proxyproto.Version {
	switch v {
	case config.ProxyV1:
		return proxyproto.V1
	case config.ProxyV2:
		return proxyproto.V2
	}
	return 0
}

// ServicePath is the path of a service's SPIFFE ID by Consul's convention, in the
// default namespace.
func ServicePath(datacenter, service string) string { return NamespacePath("", datacenter, service) }

// NamespacePath is ServicePath in a namespace; empty: "default".
func NamespacePath(namespace, datacenter, service string) string {
	return "/ns/" + cmp.Or(namespace, "default") + "/dc/" + cmp.Or(datacenter, "dc1") + "/svc/" + service
}

// identity is ours of that name.
func (in Input) identity(name string) (*identity.Current, error) {
	switch own := in.Identities[name]; {
	case own != nil:
		return own, nil
	case name == "":
		return nil, errors.New("tls.spiffe needs an identity; add the identity section")
	}
	return nil, fmt.Errorf("tls.spiffe.identity: no identity is named %q; named ones take effect at the next start", name)
}

func compileMesh(in Input, c *config.Service) (*upstream.Mesh, error) {
	own, err := in.identity(c.TLS.SPIFFE.Identity)
	if err != nil {
		return nil, err
	}
	name, datacenter, namespace := cmp.Or(c.TLS.SPIFFE.Service, c.Name), in.Config.Consul.Datacenter, in.Config.Consul.Namespace
	partition := in.Config.Consul.Partition
	if d := c.Discovery.FirstConsul(); d != nil {
		name = cmp.Or(c.TLS.SPIFFE.Service, d.Service)
		datacenter, namespace = cmp.Or(d.Datacenter, datacenter), cmp.Or(d.Namespace, namespace)
		partition = cmp.Or(d.Partition, partition)
	}
	mesh := &upstream.Mesh{Identity: own, Path: NamespacePath(namespace, datacenter, name)}
	if partition != "" && partition != "default" {
		mesh.Path = "/ap/" + partition + mesh.Path
	}
	if mesh.Pinned, err = pinned(c.Endpoints); err != nil {
		return nil, err
	}
	var accepted []string
	for _, id := range c.TLS.SPIFFE.IDs {
		accepted = append(accepted, string(id))
	}
	for _, domain := range c.TLS.SPIFFE.TrustDomains {
		accepted = append(accepted, "spiffe://"+domain+"/*")
	}
	if len(accepted) == 0 {
		return mesh, nil
	}
	mesh.Peers, err = identity.ParsePeers(accepted...)
	return mesh, err
}

// pinned are the IDs that the file gives single endpoints.
func pinned(endpoints []config.Endpoint) (map[discovery.EndpointKey]spiffeid.ID, error) {
	var all map[discovery.EndpointKey]spiffeid.ID
	for _, e := range endpoints {
		if e.SPIFFEID == "" {
			continue
		}
		id, err := spiffeid.FromString(e.SPIFFEID)
		if err != nil {
			return nil, err
		}
		if all == nil {
			all = map[discovery.EndpointKey]spiffeid.ID{}
		}
		all[discovery.EndpointKey{ID: cmp.Or(e.ID, e.Address), Address: e.Address}] = id
	}
	return all, nil
}
