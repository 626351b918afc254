package consul

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"
)

// CleanOptions say what a Cleaner may take away.
type CleanOptions struct {
	// CriticalFor is how long an instance must have been silent, seen by the same Cleaner all the time.
	CriticalFor time.Duration
	// MaxShare of our proxies, between 0 and 1, is the most that one sweep takes away; one proxy it may always.
	// If more are silent, it is Consul or the network that is at fault, or somebody ought to look.
	MaxShare float64
	// DryRun takes nothing away.
	DryRun bool
}

// Cleaner takes away what proxies have left behind that died without deregistering. How long an instance
// has been silent Consul does not tell, so that a Cleaner has to watch. Its methods are for one goroutine.
type Cleaner struct {
	client  *Client
	options CleanOptions
	since   map[held]silence
	index   uint64
	self    string // node of the agent that we ask
}

// held is where an instance is registered.
type held struct{ node, id string }

// silence is how long nothing was heard of an instance.
type silence struct {
	stamp uint64 // changes when something was heard
	first time.Time
}

// Swept is what one sweep has found and done.
type Swept struct {
	// Proxies are ours, by their mark; Silent are those instances, workloads included, of which nothing
	// is heard.
	Proxies int `json:"proxies"`
	Silent  int `json:"silent"`
	// Due were silent for long enough; they are removed, unless that failed, was a dry run, or Held says why not.
	Due  []Dead `json:"due,omitempty"`
	Held string `json:"held,omitempty"`
	// Hidden tells that the token does not show everything.
	Hidden bool `json:"hidden,omitempty"`
}

// Dead is an instance whose proxy is gone.
type Dead struct {
	Node    string  `json:"node"`
	ID      string  `json:"id"`
	Service string  `json:"service"`
	Why     string  `json:"why"`
	Seconds float64 `json:"silent_seconds"`
	// Through is agent or catalog, by which it was removed.
	Through string `json:"through,omitempty"`
	Removed bool   `json:"removed"`
	Error   string `json:"error,omitempty"`

	proxy bool
	entry *api.ServiceEntry
}

// Cleaner returns one that has seen nothing yet.
func (c *Client) Cleaner(o CleanOptions) *Cleaner {
	return &Cleaner{client: c, options: o, since: map[held]silence{}}
}

// cleanLimit bounds one question or change of a sweep.
const cleanLimit = 10 * time.Second

// cleanNeeds are the permissions for looking.
const cleanNeeds = "service:read and node:read, and to remove service:write and, of nodes in the catalog, node:write"

// Sweep looks once and takes away what is due. It blocks for its calls. After an error, which is
// Consul's not answering, all silences are counted anew: whoever could not be asked was perhaps
// not heard either.
func (c *Cleaner) Sweep(ctx context.Context) (Swept, error) {
	entries, hidden, err := c.ours(ctx)
	if err != nil {
		clear(c.since)
		return Swept{}, c.client.failed(ctx, "look for what is left behind", cleanNeeds, err)
	}
	s := Swept{Hidden: hidden}
	c.count(entries, &s, time.Now())
	due := 0
	for _, d := range s.Due {
		if d.proxy {
			due++
		}
	}
	if most := max(1, int(math.Floor(c.options.MaxShare*float64(s.Proxies)))); due > most {
		s.Held = fmt.Sprintf("%d of %d proxies have been silent, and at most %d may be taken away at once: was Consul or the network down? "+
			"If they are really gone, a higher share says so", due, s.Proxies, most)
		return s, nil
	}
	if !c.options.DryRun {
		for i := range s.Due {
			c.remove(ctx, &s.Due[i])
		}
	}
	return s, nil
}

// ours are all instances that bear our mark, as the leader knows them.
func (c *Cleaner) ours(ctx context.Context) (entries []*api.ServiceEntry, hidden bool, err error) {
	ask := func() (*api.QueryOptions, context.CancelFunc) {
		limited, cancel := context.WithTimeoutCause(ctx, cleanLimit, hungError{cleanLimit})
		q := c.client.read(limited)
		q.RequireConsistent = true
		return q, cancel
	}
	q, cancel := ask()
	names, meta, err := c.client.api.Catalog().Services(q)
	cancel()
	if err != nil {
		return nil, false, err
	}
	if meta.LastIndex < c.index {
		clear(c.since) // another Consul, or one that has lost its data
	}
	c.index, hidden = meta.LastIndex, meta.ResultsFilteredByACLs
	for _, name := range slices.Sorted(maps.Keys(names)) {
		q, cancel := ask()
		q.Filter = fmt.Sprintf("%q in Service.Meta", MetaMark)
		found, meta, err := c.client.api.Health().Service(name, "", false, q)
		cancel()
		if err != nil {
			return nil, false, err
		}
		hidden = hidden || meta.ResultsFilteredByACLs
		entries = append(entries, found...)
	}
	return entries, hidden, nil
}

// count notes who is silent, and lists who has been so for long enough: proxies first.
func (c *Cleaner) count(entries []*api.ServiceEntry, s *Swept, now time.Time) {
	all := map[held]*api.ServiceEntry{}
	for _, e := range entries {
		all[held{e.Node.Node, e.Service.ID}] = e
	}
	for at := range c.since {
		if all[at] == nil {
			delete(c.since, at)
		}
	}
	for at, e := range all {
		proxy := e.Service.Kind == api.ServiceKindConnectProxy
		if proxy {
			s.Proxies++
		}
		why, stamp := unheard(e, all)
		if why == "" {
			delete(c.since, at)
			continue
		}
		s.Silent++
		if was, ok := c.since[at]; !ok || was.stamp != stamp {
			c.since[at] = silence{stamp, now}
		}
		if for_ := now.Sub(c.since[at].first); for_ >= c.options.CriticalFor {
			s.Due = append(s.Due, Dead{Node: at.node, ID: at.id, Service: e.Service.Service, Why: why, Seconds: for_.Seconds(), proxy: proxy, entry: e})
		}
	}
	slices.SortFunc(s.Due, func(a, b Dead) int {
		if a.proxy != b.proxy {
			return map[bool]int{true: -1, false: 1}[a.proxy]
		}
		return strings.Compare(a.Node+" "+a.ID, b.Node+" "+b.ID)
	})
}

// unheard says why nothing is heard of an instance, and a number that changes when something is; empty: it
// lives, or is in maintenance, which has to outlast it.
func unheard(e *api.ServiceEntry, all map[held]*api.ServiceEntry) (why string, stamp uint64) {
	var own, alive, host *api.HealthCheck
	for _, c := range e.Checks {
		switch c.CheckID {
		case maintenanceCheck(e.Service.ID):
			return "", 0
		case ttlCheck(e.Service.ID):
			own = c
		case aliveCheck(e.Service.ID):
			alive = c
		case "serfHealth":
			host = c
		}
	}
	critical := func(c *api.HealthCheck) bool { return c != nil && c.Status == api.HealthCritical }
	switch {
	case critical(host):
		return "the agent of its node is gone", host.ModifyIndex
	case alive != nil:
		if critical(alive) {
			return "its proxy's session has ended", alive.ModifyIndex
		}
		return "", 0
	case own != nil:
		if critical(own) && !ownWord(own.Output) {
			return "its proxy does not report any more", own.ModifyIndex
		}
		return "", 0
	case e.Service.Meta[MetaProxy] == "":
		return "", 0 // marked, but with nothing of ours to judge by
	}
	proxy := all[held{e.Node.Node, e.Service.Meta[MetaProxy]}]
	if proxy == nil {
		return "its proxy is not registered any more", e.Service.ModifyIndex
	}
	return unheard(proxy, all)
}

// The beginnings of what a living proxy says of itself.
const (
	NotReady = "not ready: "
	Ready    = "ready"
)

// ownWord tells a report from what an agent writes when none comes.
func ownWord(output string) bool {
	return strings.HasPrefix(output, NotReady) || strings.HasPrefix(output, Ready)
}

// remove takes an instance away: by the agent that holds it, which would otherwise register it again,
// or where there is none from the catalog.
func (c *Cleaner) remove(ctx context.Context, d *Dead) {
	ctx, cancel := context.WithTimeoutCause(ctx, cleanLimit, hungError{cleanLimit})
	defer cancel()
	agent, err := c.holder(ctx, d.entry)
	d.Through = "catalog"
	switch {
	case err != nil:
	case agent != nil:
		d.Through = "agent"
		if err = agent.api.Agent().ServiceDeregisterOpts(d.ID, agent.agentQuery().WithContext(ctx)); isUnknown(err) {
			err = nil
		}
	default:
		err = c.client.dropFromCatalog(ctx, d.Node, d.ID)
	}
	if err != nil {
		d.Error = c.client.failed(ctx, fmt.Sprintf("remove %q of the node %q", d.ID, d.Node), cleanNeeds, err).Error()
		return
	}
	d.Removed = true
	delete(c.since, held{d.Node, d.ID})
}

// holder is the living agent that holds an instance; nil: there is none.
func (c *Cleaner) holder(ctx context.Context, e *api.ServiceEntry) (*Client, error) {
	lives := slices.ContainsFunc(e.Checks, func(h *api.HealthCheck) bool {
		return h.CheckID == "serfHealth" && h.Status != api.HealthCritical
	})
	if !lives {
		return nil, nil
	}
	if c.self == "" {
		name, err := c.client.nodeName(ctx)
		if err != nil {
			return nil, err
		}
		c.self = name
	}
	if e.Node.Node == c.self {
		return c.client, nil
	}
	_, port, err := net.SplitHostPort(c.client.target.host)
	if c.client.target.socket != "" || err != nil {
		return nil, errors.New("it is held by the agent of that node, which has to be asked over the network: clean there, too")
	}
	address, err := c.client.memberAddress(ctx, e.Node.Node)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, errors.New("its node has the check of an agent, and no agent of that name is alive where this one is a member: whoever wrote it has to remove it, or clean there, too")
	}
	o := c.client.options
	o.Address = c.client.target.scheme + "://" + net.JoinHostPort(address, port)
	agent, err := New(o)
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	if name, err := agent.nodeName(ctx); err != nil || name != e.Node.Node {
		return nil, fmt.Errorf("it is held by the agent of that node, which does not answer at %s: clean there, too", o.Address)
	}
	return agent, nil
}

// memberAddress is the address of a living agent, as the agents know it among themselves; empty: there is
// none. What the catalog says whoever may write a node can make up, and our token goes there.
func (c *Client) memberAddress(ctx context.Context, node string) (string, error) {
	var members []struct {
		Name, Addr string
		Status     int
	}
	if _, err := c.api.Raw().Query("/v1/agent/members", &members, c.agentQuery().WithContext(ctx)); err != nil {
		return "", err
	}
	const alive = 1 // Consul's serf.StatusAlive
	for _, m := range members {
		if m.Name == node && m.Status == alive {
			return m.Addr, nil
		}
	}
	return "", nil
}

// nodeName is that of the agent.
func (c *Client) nodeName(ctx context.Context) (string, error) {
	var self struct{ Config struct{ NodeName string } }
	_, err := c.api.Raw().Query("/v1/agent/self", &self, c.agentQuery().WithContext(ctx))
	return self.Config.NodeName, err
}
