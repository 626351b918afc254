package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
)

// Where there is no agent beside the workload, its instances stand in the servers' catalog, on a node that
// is theirs. Nobody there looks after a TTL. Instead each instance has a check that stands and
// falls with a session of Consul's: while it is renewed the check passes, and when it has been silent for
// between once and twice its time, the servers themselves make the check critical. Renewing it writes
// nothing, so that it wakes nobody up who watches the service.

// leastSession is the shortest time of a session that Consul accepts.
const leastSession = 10 * time.Second

// catalogLook is how often it is looked whether the servers still have what they were told.
const catalogLook = time.Minute

// errForgotten says that the servers no longer have what we have told them.
var errForgotten = errors.New("the servers have forgotten the registration")

// owned is an instance that we may have registered.
type owned struct{ id, node string } // node: in the catalog; empty: at the agent

// catalogState is what a Presence has in the catalog; guarded by its calling.
type catalogState struct {
	session string // ID; empty: none
	node    string // that the session belongs to
	told    State
	looked  time.Time
}

// aliveCheck is the ID of the check that falls with the session.
func aliveCheck(id string) string { return "larboard-alive:" + id }

// sessionTime is how long the session lives without a word, for others to believe us ttl at least.
// Source: Consul takes twice what it is told, so that nobody is given up too soon.
func sessionTime(ttl time.Duration) time.Duration { return max(leastSession, ttl/2) }

// tryCatalog is try for the catalog.
func (p *Presence) tryCatalog(ctx context.Context, want Present, known bool, state State) error {
	if known {
		if err := p.renew(ctx); err != nil {
			return err
		}
		if time.Since(p.catalog.looked) > catalogLook {
			if err := p.look(ctx, want); err != nil {
				return err
			}
		}
		if state == p.catalog.told {
			return nil
		}
	}
	if err := p.joinCatalog(ctx, want, state); err != nil {
		return err
	}
	p.catalog.told = state
	return nil
}

// renew prolongs the session.
func (p *Presence) renew(ctx context.Context) error {
	if p.catalog.session == "" {
		return errForgotten
	}
	session, _, err := p.client.api.Session().Renew(p.catalog.session, p.client.write(ctx))
	if err == nil && session == nil {
		err = errForgotten
	}
	if err != nil && !refused(err) && !errors.Is(err, errForgotten) {
		return err
	}
	if err != nil {
		p.catalog.session = "" // or a new one would never be asked for
	}
	return err
}

// look asks whether the checks are what they were told to be.
func (p *Presence) look(ctx context.Context, want Present) error {
	checks, _, err := p.client.api.Health().Node(want.Node, p.client.read(ctx))
	if err != nil {
		return err
	}
	for _, r := range want.Register {
		if !slices.ContainsFunc(checks, func(c *api.HealthCheck) bool {
			return c.CheckID == ttlCheck(r.ID) && c.Status == string(p.catalog.told.Verdict)
		}) {
			return errForgotten
		}
	}
	p.catalog.looked = time.Now()
	return nil
}

// joinCatalog registers the instances with their state, and has a session for them. It is as well
// the way to tell another state.
func (p *Presence) joinCatalog(ctx context.Context, want Present, state State) error {
	if err := p.takeBack(ctx, want); err != nil {
		return err
	}
	if p.catalog.session != "" && p.catalog.node != want.Node {
		p.endSession(ctx)
	}
	checks, _, err := p.client.api.Health().Node(want.Node, p.client.read(ctx))
	if err != nil {
		return err
	}
	if slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return c.CheckID == "serfHealth" }) {
		return fmt.Errorf("the node %q is an agent's, which would take away what it does not know; register through that agent, or give another node", want.Node)
	}
	for _, r := range want.Register {
		registration, err := p.client.catalogRegistration(ctx, r, want.Node)
		if err != nil {
			return err
		}
		registration.Checks = p.catalogChecks(r.ID, state)
		if mine := (owned{r.ID, want.Node}); !slices.Contains(p.ours, mine) {
			p.ours = append(p.ours, mine) // also if no answer comes
		}
		if _, err := p.client.api.Catalog().Register(registration, p.client.write(ctx)); err != nil {
			return err
		}
	}
	p.catalog.looked = time.Now()
	if p.catalog.session != "" {
		return nil
	}
	entry := &api.SessionEntry{Node: want.Node, Name: p.sessionName, TTL: sessionTime(want.TTL).String(), Behavior: api.SessionBehaviorDelete, LockDelay: time.Millisecond}
	id, _, err := p.client.api.Session().CreateNoChecks(entry, p.client.write(ctx))
	if err != nil {
		return err
	}
	p.catalog.session, p.catalog.node = id, want.Node
	return p.heeded(ctx, want)
}

// heeded makes sure that the servers have set the checks by the session, which Consul does from 1.21 on. By
// older ones an instance would never be found, and its death never be noticed.
func (p *Presence) heeded(ctx context.Context, want Present) error {
	checks, _, err := p.client.api.Health().Node(want.Node, p.client.read(ctx))
	if err != nil {
		return err
	}
	for _, c := range checks {
		if c.CheckID == aliveCheck(want.id()) && c.Status == api.HealthPassing {
			return nil
		}
	}
	p.endSession(ctx)
	return errors.New("these servers do not set checks by sessions, which Consul does from 1.21 on; register through an agent")
}

// catalogRegistration is r without its checks, in the words of the catalog.
func (c *Client) catalogRegistration(ctx context.Context, r Registration, node string) (*api.CatalogRegistration, error) {
	s, err := c.registration(ctx, r)
	if err != nil {
		return nil, err
	}
	address := s.Address
	if address == "" {
		address = "127.0.0.1" // as the servers are on this host
	}
	return &api.CatalogRegistration{
		Node: node, Address: address, NodeMeta: map[string]string{MetaMark: r.Meta[MetaMark]}, Partition: c.options.Partition, Datacenter: c.options.Datacenter,
		Service: &api.AgentService{Kind: s.Kind, ID: s.ID, Service: s.Name, Tags: s.Tags, Meta: s.Meta, Port: s.Port, Address: address,
			Weights: *s.Weights, Proxy: s.Proxy, Namespace: s.Namespace, Partition: s.Partition},
	}, nil
}

// catalogChecks are those of an instance: what we say of it, and that we are there to say it.
func (p *Presence) catalogChecks(id string, state State) api.HealthChecks {
	alive := &api.HealthCheck{CheckID: aliveCheck(id), ServiceID: id, Name: "larboard lives", Type: "session", Status: api.HealthCritical,
		Definition: api.HealthCheckDefinition{SessionName: p.sessionName}, Output: "waiting for the session " + p.sessionName}
	if p.catalog.session != "" {
		alive.Status, alive.Output = api.HealthPassing, fmt.Sprintf("Session '%s' in force", p.catalog.session)
	}
	all := api.HealthChecks{
		{CheckID: ttlCheck(id), ServiceID: id, Name: "larboard is ready", Status: string(state.Verdict), Output: state.Output}, alive,
	}
	if p.paused != "" {
		all = append(all, &api.HealthCheck{CheckID: maintenanceCheck(id), ServiceID: id, Name: "Service Maintenance Mode", Status: api.HealthCritical, Notes: p.paused})
	}
	return all
}

// withdraw takes one instance away, and with the last one its node. One that is not there is no
// error.
func (p *Presence) withdraw(ctx context.Context, o owned) error {
	q := p.client.agentQuery().WithContext(ctx)
	if o.node == "" {
		if err := p.client.api.Agent().ServiceDeregisterOpts(o.id, q); err != nil && !isUnknown(err) {
			return err
		}
		return nil
	}
	return p.client.dropFromCatalog(ctx, o.node, o.id)
}

// dropFromCatalog takes an instance away, and with the last one its node.
func (c *Client) dropFromCatalog(ctx context.Context, node, id string) error {
	drop := &api.CatalogDeregistration{Node: node, ServiceID: id, Datacenter: c.options.Datacenter, Namespace: c.options.Namespace, Partition: c.options.Partition}
	if _, err := c.api.Catalog().Deregister(drop, c.write(ctx)); err != nil {
		return err
	}
	left, _, err := c.api.Catalog().NodeServiceList(node, c.read(ctx))
	if err != nil || left == nil || left.Node == nil || len(left.Services) > 0 || left.Node.Meta[MetaMark] == "" {
		return err
	}
	_, err = c.api.Catalog().Deregister(&api.CatalogDeregistration{Node: node, Datacenter: c.options.Datacenter, Partition: c.options.Partition}, c.write(ctx))
	return err
}

// endSession gives the session back; where that fails, it ends by itself.
func (p *Presence) endSession(ctx context.Context) {
	if p.catalog.session != "" {
		_, _ = p.client.api.Session().Destroy(p.catalog.session, p.client.write(ctx))
		p.catalog.session = ""
	}
}

// maintainCatalog is Maintain for the catalog.
func (p *Presence) maintainCatalog(ctx context.Context, node, id, reason string) error {
	if reason == "" {
		drop := &api.CatalogDeregistration{Node: node, CheckID: maintenanceCheck(id), Datacenter: p.client.options.Datacenter,
			Namespace: p.client.options.Namespace, Partition: p.client.options.Partition}
		_, err := p.client.api.Catalog().Deregister(drop, p.client.write(ctx))
		return err
	}
	check := &api.HealthCheck{Node: node, CheckID: maintenanceCheck(id), ServiceID: id, Name: "Service Maintenance Mode", Status: api.HealthCritical, Notes: reason}
	_, err := p.client.api.Catalog().Register(&api.CatalogRegistration{Node: node, SkipNodeUpdate: true, Checks: api.HealthChecks{check},
		Datacenter: p.client.options.Datacenter, Partition: p.client.options.Partition}, p.client.write(ctx))
	return err
}

// write are the options of a change.
func (c *Client) write(ctx context.Context) *api.WriteOptions {
	q := &api.WriteOptions{Datacenter: c.options.Datacenter, Namespace: c.options.Namespace, Partition: c.options.Partition}
	return q.WithContext(ctx)
}

// read are the options of a question to the servers, which the leader answers.
func (c *Client) read(ctx context.Context) *api.QueryOptions {
	q := c.agentQuery()
	q.Datacenter = c.options.Datacenter
	return q.WithContext(ctx)
}
