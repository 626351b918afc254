package consul

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
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
	// Address is IP:port, or :port for the address of the agent's node or, where the agent
	// is not on this host, for that from which this host reaches it.
	Address string
	// Weight is the share among passing instances; 0: 1.
	Weight int
	Tags   []string
	Meta   map[string]string
	// Check, when positive, has the agent connect to Address this often; the instance
	// is critical until it has succeeded once.
	Check time.Duration
	// Checked is the IP:port that it connects to; empty: Address.
	Checked string
	// HTTP is a URL for that check to ask instead.
	HTTP string
	// Timeout bounds that check; 0: as long as Check, at most a second.
	Timeout time.Duration
	// TTL, when positive, makes the instance critical when UpdateTTL has not been called
	// for so long.
	TTL time.Duration
	// Forget, when positive, has the agent remove the instance once it has been
	// critical for so long; Consul's least is one minute.
	Forget time.Duration
	// ServiceID, Local and Upstreams are of a proxy: the instance that it stands before,
	// whose state counts for it too, the instance's address (IP:port), and whom it calls.
	ServiceID string
	// Unchecked: no check of that instance is made, so that its state counts as good from the
	// start. The agent may lose its first look at it, and looks again at a change of one of its
	// checks only, or after a minute: until then the proxy would be critical.
	Unchecked bool
	Local     string
	Upstreams []RegisteredUpstream
}

// RegisteredUpstream is a service that an instance calls through its proxy.
type RegisteredUpstream struct {
	Service, Datacenter string
	Bind                string // IP:port
}

// MetaMark is the metadata by which a registration says that it is Larboard's own, and of which
// version: what nobody has marked nobody may clean up.
const MetaMark = "larboard"

// MetaProxy is the metadata by which a workload that we have registered names its proxy's ID.
const MetaProxy = "larboard-proxy"

// ttlCheck is the ID of the check that UpdateTTL feeds.
func ttlCheck(id string) string { return "larboard:" + id }

// Register makes an instance known, or changes it. It blocks until the agent has
// answered, at most slack, and does not retry.
func (c *Client) Register(ctx context.Context, r Registration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	service, err := c.registration(ctx, r)
	if err != nil {
		return fmt.Errorf("consul: register %q: %w", r.ID, err)
	}
	// Without it, a check of an earlier registration of this ID would live on.
	opts := api.ServiceRegisterOpts{ReplaceExistingChecks: true}
	err = c.api.Agent().ServiceRegisterOpts(service, opts.WithContext(ctx))
	return c.outcome(ctx, "register", r.ID, err)
}

// registration is r in the library's words. It blocks no longer than ownAddress does.
func (c *Client) registration(ctx context.Context, r Registration) (*api.AgentServiceRegistration, error) {
	if port, ok := strings.CutPrefix(r.Address, ":"); ok {
		own, err := c.target.ownAddress(ctx)
		if err != nil {
			return nil, err
		}
		if own != "" {
			r.Address = net.JoinHostPort(own, port)
		}
	}
	host, port, err := addressOf(r.Address)
	if err != nil {
		return nil, err
	}
	service := &api.AgentServiceRegistration{
		ID: r.ID, Name: r.Service, Address: host, Port: port, Tags: r.Tags, Meta: r.Meta,
		Weights:   &api.AgentWeights{Passing: max(1, r.Weight), Warning: 1},
		Namespace: c.options.Namespace, Partition: c.options.Partition,
		Checks: checks(r),
	}
	if !r.Proxy {
		return service, nil
	}
	service.Kind = api.ServiceKindConnectProxy
	service.Name = r.Service + "-sidecar-proxy"
	service.Proxy = &api.AgentServiceConnectProxyConfig{DestinationServiceName: r.Service, DestinationServiceID: r.ServiceID}
	if r.Local != "" {
		if service.Proxy.LocalServiceAddress, service.Proxy.LocalServicePort, err = addressOf(r.Local); err != nil {
			return nil, err
		}
	}
	for _, u := range r.Upstreams {
		host, port, err := addressOf(u.Bind)
		if err != nil {
			return nil, err
		}
		service.Proxy.Upstreams = append(service.Proxy.Upstreams, api.Upstream{
			DestinationName: u.Service, Datacenter: u.Datacenter, LocalBindAddress: host, LocalBindPort: port,
		})
	}
	return service, nil
}

// checks are those of a registration.
func checks(r Registration) (all api.AgentServiceChecks) {
	if r.Check > 0 {
		timeout := r.Timeout
		if timeout == 0 {
			timeout = min(r.Check, time.Second)
		}
		check := &api.AgentServiceCheck{Interval: r.Check.String(), Timeout: timeout.String(), HTTP: r.HTTP}
		if r.HTTP == "" {
			host, port, _ := addressOf(firstOf(r.Checked, r.Address))
			check.TCP = fmt.Sprint(netip.AddrPortFrom(netip.MustParseAddr(firstOf(host, "127.0.0.1")), uint16(port)))
		}
		if r.Proxy && r.TTL > 0 {
			check.Status = api.HealthPassing // the other check says better how it begins
		}
		all = append(all, check)
	}
	if r.TTL > 0 {
		all = append(all, &api.AgentServiceCheck{CheckID: ttlCheck(r.ID), Name: "larboard is ready", TTL: r.TTL.String(), Status: api.HealthCritical})
	}
	if r.Forget > 0 {
		for _, check := range all {
			check.DeregisterCriticalServiceAfter = r.Forget.String()
		}
	}
	if r.Proxy && r.ServiceID != "" {
		alias := &api.AgentServiceCheck{Name: "workload", AliasService: r.ServiceID}
		if r.Unchecked {
			alias.Status = api.HealthPassing
		}
		all = append(all, alias)
	}
	return all
}

// addressOf takes IP:port apart; the host is empty for :port.
func addressOf(text string) (host string, port int, err error) {
	if len(text) > 1 && text[0] == ':' {
		n, err := strconv.ParseUint(text[1:], 10, 16)
		if err == nil {
			return "", int(n), nil
		}
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil {
		return "", 0, fmt.Errorf("address %q is not IP:port", text)
	}
	return at.Addr().String(), int(at.Port()), nil
}

// Deregister takes an instance away by its ID; one that is not there is an error.
// It blocks as Register does.
func (c *Client) Deregister(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, slack, hungError{slack})
	defer cancel()
	err := c.api.Agent().ServiceDeregisterOpts(id, c.agentQuery().WithContext(ctx))
	return c.outcome(ctx, "deregister", id, err)
}

// outcome explains the error of a single call.
func (c *Client) outcome(ctx context.Context, verb, id string, err error) error {
	if err == nil {
		return nil
	}
	return c.failed(ctx, fmt.Sprintf("%s %q", verb, id), "service:write", err)
}

// Check is an agent's look at an application; zero: none.
type Check struct {
	Path              string // to ask for; empty: a connection will do
	Interval, Timeout time.Duration
}

// Watch has the agent check the application at address (IP:port).
func (r *Registration) Watch(address string, c Check) {
	r.Check, r.Timeout, r.Checked = c.Interval, c.Timeout, address
	if c.Interval > 0 && c.Path != "" {
		r.HTTP = "http://" + address + c.Path
	}
}
