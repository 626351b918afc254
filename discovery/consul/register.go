package consul

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/hashicorp/consul/api"
)

// Registration is an instance to make known through the agent of a Client.
type Registration struct {
	// ID is unique on the agent's node. A second registration replaces the first.
	ID string
	// Service is the name that others ask for.
	Service string
	// Proxy registers the mesh proxy of an instance of Service, as found with
	// Health.Connect, instead of an instance.
	Proxy bool
	// Address is IP:port.
	Address string
	// Weight is the share among passing instances; 0: 1.
	Weight int
	Tags   []string
	Meta   map[string]string
	// Check, when positive, has the agent connect to Address this often; the instance
	// is critical until it has succeeded once.
	Check time.Duration
	// Forget, when positive, has the agent remove the instance once it has been
	// critical for so long; Consul's least is one minute.
	Forget time.Duration
}

// Register makes an instance known, or changes it. It blocks until the agent has
// answered, at most slack, and does not retry.
func (c *Client) Register(ctx context.Context, r Registration) error {
	at, err := netip.ParseAddrPort(r.Address)
	if err != nil {
		return fmt.Errorf("consul: register %q: address %q is not IP:port", r.ID, r.Address)
	}
	service := &api.AgentServiceRegistration{
		ID: r.ID, Name: r.Service, Address: at.Addr().String(), Port: int(at.Port()), Tags: r.Tags, Meta: r.Meta,
		Weights:   &api.AgentWeights{Passing: max(1, r.Weight), Warning: 1},
		Namespace: c.options.Namespace, Partition: c.options.Partition,
	}
	if r.Proxy {
		service.Kind = api.ServiceKindConnectProxy
		service.Name = r.Service + "-sidecar-proxy"
		service.Proxy = &api.AgentServiceConnectProxyConfig{DestinationServiceName: r.Service}
	}
	if r.Check > 0 {
		service.Check = &api.AgentServiceCheck{TCP: at.String(), Interval: r.Check.String(), Timeout: r.Check.String()}
		if r.Forget > 0 {
			service.Check.DeregisterCriticalServiceAfter = r.Forget.String()
		}
	}
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	// Without it, a check of an earlier registration of this ID would live on.
	opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true}
	err = c.api.Agent().ServiceRegisterOpts(service, opts.WithContext(ctx))
	return c.outcome(ctx, "register", r.ID, err)
}

// Deregister takes an instance away by its ID; one that is not there is an error.
// It blocks as Register does.
func (c *Client) Deregister(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	q := &api.QueryOptions{Namespace: c.options.Namespace, Partition: c.options.Partition}
	err := c.api.Agent().ServiceDeregisterOpts(id, q.WithContext(ctx))
	return c.outcome(ctx, "deregister", id, err)
}

// outcome explains the error of a single call.
func (c *Client) outcome(ctx context.Context, verb, id string, err error) error {
	if err == nil {
		return nil
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	return c.explain(fmt.Sprintf("%s %q", verb, id), "service:write", err)
}
