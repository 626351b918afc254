package consul

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// definitionNeeds are the permissions for reading a sidecar's definition and the
// protocols of its services.
const definitionNeeds = "service:read"

// Definition is a sidecar proxy as it is registered at the agent.
type Definition struct {
	ID, Service, ServiceID string
	Address                string
	Port                   int
	LocalAddress           string
	LocalPort              int
	LocalSocket            string
	Mode                   string
	Exposed                int // paths
	// Protocol is the one that Consul's config entries give Service.
	Protocol  string
	Config    map[string]any
	Upstreams []DefinedUpstream
	// Hash changes whenever the registration does.
	Hash string
}

// DefinedUpstream is one upstream of a Definition.
type DefinedUpstream struct {
	Type, Name, Namespace, Partition, Peer, Datacenter string
	Address                                            string
	Port                                               int
	Socket, SocketMode                                 string
	Protocol                                           string // as that of Definition
	Config                                             map[string]any
}

// SidecarFor returns the ID of the one sidecar proxy that is registered at the agent for
// a service: by the service's ID as `consul connect proxy -sidecar-for` does or, where no
// service has it as an ID, by its name. It blocks for one answer and does not retry.
func (c *Client) SidecarFor(ctx context.Context, service string) (proxy string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	all, err := c.api.Agent().ServicesWithFilterOpts("", c.agentQuery().WithContext(ctx))
	what := fmt.Sprintf("find the sidecar of %q", service)
	if err != nil {
		return "", c.failed(ctx, what, definitionNeeds, err)
	}
	for _, by := range []func(*api.AgentServiceConnectProxyConfig) string{
		func(p *api.AgentServiceConnectProxyConfig) string { return p.DestinationServiceID },
		func(p *api.AgentServiceConnectProxyConfig) string { return p.DestinationServiceName },
	} {
		var found []string
		for _, s := range all {
			if s.Kind == api.ServiceKindConnectProxy && s.Proxy != nil && strings.EqualFold(by(s.Proxy), service) {
				found = append(found, s.ID)
			}
		}
		slices.Sort(found)
		switch len(found) {
		case 0:
		case 1:
			return found[0], nil
		default:
			return "", c.explain(what, definitionNeeds, fmt.Errorf("several are registered: %s; give the ID of the service instance", strings.Join(found, ", ")))
		}
	}
	return "", c.explain(what, definitionNeeds, errors.New("none is registered at this agent: register the service with connect { sidecar_service {} }"))
}

// Definition reads the definition of a sidecar proxy by its ID, as it is now. It blocks
// for a few answers and does not retry.
func (c *Client) Definition(ctx context.Context, proxy string) (*Definition, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	what := fmt.Sprintf("read the definition of %q", proxy)
	s, _, err := c.api.Agent().Service(proxy, c.agentQuery().WithContext(ctx))
	if err != nil {
		return nil, c.failed(ctx, what, definitionNeeds, err)
	}
	if s.Kind != api.ServiceKindConnectProxy || s.Proxy == nil {
		return nil, c.explain(what, definitionNeeds, fmt.Errorf("is no sidecar proxy but a service of the kind %q", s.Kind))
	}
	d := definition(s)
	if d.LocalPort == 0 && d.LocalSocket == "" && d.ServiceID != "" {
		// A proxy that is registered for itself need not repeat it.
		local, _, err := c.api.Agent().Service(d.ServiceID, c.agentQuery().WithContext(ctx))
		if err != nil && !isStatus(err, http.StatusNotFound) {
			return nil, c.failed(ctx, what, definitionNeeds, err)
		}
		if err == nil {
			d.LocalPort, d.LocalSocket = local.Port, local.SocketPath
		}
	}
	if err := c.protocols(ctx, d); err != nil {
		return nil, c.failed(ctx, what, definitionNeeds, err)
	}
	return d, nil
}

// definition takes over what a registration says.
func definition(s *api.AgentService) *Definition {
	p := s.Proxy
	d := &Definition{
		ID: s.ID, Service: p.DestinationServiceName, ServiceID: p.DestinationServiceID, Address: s.Address, Port: s.Port,
		LocalAddress: p.LocalServiceAddress, LocalPort: p.LocalServicePort, LocalSocket: p.LocalServiceSocketPath,
		Mode: string(p.Mode), Exposed: len(p.Expose.Paths), Config: p.Config, Hash: s.ContentHash,
	}
	for _, u := range p.Upstreams {
		if u.CentrallyConfigured && u.LocalBindPort == 0 && u.LocalBindSocketPath == "" {
			continue // defaults for upstreams that nobody has asked for
		}
		d.Upstreams = append(d.Upstreams, DefinedUpstream{
			Type: string(u.DestinationType), Name: u.DestinationName, Namespace: u.DestinationNamespace,
			Partition: u.DestinationPartition, Peer: u.DestinationPeer, Datacenter: u.Datacenter,
			Address: u.LocalBindAddress, Port: u.LocalBindPort, Socket: u.LocalBindSocketPath,
			SocketMode: u.LocalBindSocketMode, Config: u.Config,
		})
	}
	return d
}

// protocols asks for those that the definition does not give itself.
func (c *Client) protocols(ctx context.Context, d *Definition) (err error) {
	known := map[[3]string]string{}
	ask := func(name, namespace, datacenter string, config map[string]any) string {
		key := [3]string{name, namespace, datacenter}
		if _, said := config["protocol"]; said || err != nil || name == "" {
			return ""
		}
		if _, done := known[key]; !done {
			known[key], err = c.protocol(ctx, key)
		}
		return known[key]
	}
	d.Protocol = ask(d.Service, "", "", d.Config)
	for i := range d.Upstreams {
		u := &d.Upstreams[i]
		if u.Peer == "" && (u.Type == "" || u.Type == string(api.UpstreamDestTypeService)) {
			u.Protocol = ask(u.Name, u.Namespace, u.Datacenter, u.Config)
		}
	}
	return err
}

// protocol is what service-defaults and proxy-defaults come to for a service.
func (c *Client) protocol(ctx context.Context, key [3]string) (string, error) {
	q := c.agentQuery()
	q.Namespace = firstOf(key[1], q.Namespace)
	answer, _, err := c.api.DiscoveryChain().Get(key[0], &api.DiscoveryChainOptions{EvaluateInDatacenter: key[2]}, q.WithContext(ctx))
	switch {
	case err != nil:
		return "", fmt.Errorf("protocol of %q: %w", key[0], err)
	case answer.Chain == nil:
		return "", nil
	}
	return answer.Chain.Protocol, nil
}

// WatchDefinition calls changed whenever the definition of a sidecar proxy differs from
// the one that has hash, until ctx ends. That it is gone for a while is no change: what
// was registered before stays in force. changed must not block for long; it returns the
// hash of what it has taken over.
func (c *Client) WatchDefinition(ctx context.Context, proxy, hash string, changed func() string) error {
	r, pace, limit := c.reach(""), newBucket(burst, refill), time.Duration(slack)
	failures := 0
	for {
		now := time.Now()
		if err := sleep(ctx, max(pace.take(now), c.pace.take(now))); err != nil {
			return err
		}
		asked := r.ask(ctx)
		got, err := c.awaitDefinition(asked.ctx, proxy, hash, limit)
		asked.end()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failures++
			if failures == 1 && !errors.Is(err, errStale) {
				c.log.Warn("the sidecar's definition cannot be watched, the last one stays", "proxy", proxy,
					"error", c.explain("watch the definition", definitionNeeds, err))
			}
			if limit, err = r.wait(ctx, failure{err: err, count: failures, backs: asked.backs}, c.rand); err != nil {
				return err
			}
			// What is asked after a failure is answered at once.
			hash, limit = "", max(limit, probeLimit)
			continue
		}
		failures, limit = 0, slack
		r.answered()
		if got != hash {
			hash = changed()
		}
	}
}

// awaitDefinition returns the hash of the definition when it is no longer the one given.
func (c *Client) awaitDefinition(ctx context.Context, proxy, hash string, limit time.Duration) (string, error) {
	q := c.agentQuery()
	if hash != "" {
		q.WaitHash, q.WaitTime = hash, c.options.Wait
		limit = slack + q.WaitTime + q.WaitTime/16
	}
	ctx, cancel := context.WithTimeoutCause(ctx, limit, hungError{limit})
	defer cancel()
	s, _, err := c.api.Agent().Service(proxy, q.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return "", err
	}
	return s.ContentHash, nil
}

// agentQuery is what queries of the agent itself have in common.
func (c *Client) agentQuery() *api.QueryOptions {
	return &api.QueryOptions{Namespace: c.options.Namespace, Partition: c.options.Partition}
}

// failed explains the error of a single call under ctx.
func (c *Client) failed(ctx context.Context, what, needs string, err error) error {
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c.explain(what, needs, err)
}

// isStatus reports whether err is an answer with that status.
func isStatus(err error, code int) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code == code
}
