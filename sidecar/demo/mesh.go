// Package demo shows a whole mesh in one process: a development authority, a
// registry in memory (or a real Consul), three services with a sidecar beside
// each instance, and a steady load. It must not know anything that an operator
// could not do with configuration files and the public interfaces.
package demo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/discovery/static"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
)

const (
	trustDomain    = "demo.larboard.test"
	certificateTTL = 12 * time.Second
)

// mesh is everything that runs.
type mesh struct {
	dir       string
	log       *slog.Logger
	authority *identity.Authority
	registry  static.Registry
	collector *collector     // of spans
	consul    *consul.Client // nil: the registry in memory
	address   string         // of Consul

	mu    sync.Mutex
	nodes []*node
}

func newMesh(o Options) (*mesh, error) {
	domain := spiffeid.RequireTrustDomainFromString(trustDomain)
	authority, err := identity.NewAuthority(identity.AuthorityOptions{
		TrustDomain: domain, TTL: certificateTTL, Log: o.Log,
		Path: func(service string) string { return compile.ServicePath("", service) },
	})
	if err != nil {
		return nil, err
	}
	m := &mesh{log: o.Log, authority: authority, address: o.Consul}
	if o.Consul != "" {
		if m.consul, err = consul.New(consul.Options{Address: o.Consul, Log: o.Log}); err != nil {
			return nil, err
		}
	}
	if m.collector, err = startCollector(); err != nil {
		return nil, err
	}
	m.dir, err = os.MkdirTemp("", "larboard-demo-")
	return m, err
}

// configuration is what the operator of one instance writes.
func (m *mesh) configuration(n *node, upstreams []string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# %s: written by larboard demo\nloops: 1\n", n.name)
	fmt.Fprintf(&b, "identity: {dev: {trust_domain: %s, id: %q}}\n", trustDomain, m.id(n.service))
	// Recorded is what a caller asks for alone.
	fmt.Fprintf(&b, "tracing: {otlp: {endpoint: \"http://%s\", interval: 100ms}, sample: 0%%, service: %s}\n", m.collector.addr, n.name)
	if m.address != "" {
		fmt.Fprintf(&b, "consul: {address: %q}\n", m.address)
	}
	if n.workload != nil {
		b.WriteString("drain: {outbound: inbound}\n") // the workload is ended after it
		callers := map[string]string{"api": "web", "stock": "api"}
		fmt.Fprintf(&b, "workload:\n  service: %s\n  address: %s\n  listen: 127.0.0.1:0\n  allow: [%q]\n",
			n.service, n.workload.addr, m.id(callers[n.service]))
	}
	if n.workload == nil {
		fmt.Fprintf(&b, edge, tryTimeout, visits)
	}
	if len(upstreams) > 0 {
		b.WriteString("upstreams:\n")
	}
	for _, u := range upstreams {
		fmt.Fprintf(&b, "- {service: %s, bind: \"127.0.0.1:0\"}\n", u)
	}
	return b.String()
}

// visits is how many calls a visitor may make at once; it takes an hour to win them back.
const visits = 10

// edge is what web's sidecar has beside its upstream: api's instances may fail and be slow
// without callers noticing, and visitors are served, each so many calls.
const edge = `services:
- name: api
  discovery: {consul: {connect: true}}
  tls: {spiffe: {}}
  retries:
    on: [connect_failure, refused_stream, reset, timeout, 5xx]
    per_try_timeout: %s
    budget: {percent: 50, min: 10}
  ejection: {consecutive: 5, time: 2s, ramp: 1s}
listeners:
- name: shop
  address: "127.0.0.1:0"
  service: api
  limits:
  - {name: visits, rate: %d/h, by: {header: x-visitor}}
`

func (m *mesh) id(service string) string {
	return "spiffe://" + trustDomain + compile.ServicePath("", service)
}

// source stands in for Consul where there is none.
func (m *mesh) source() func(*config.ConsulDiscovery) discovery.Source {
	if m.consul != nil {
		return nil
	}
	return func(d *config.ConsulDiscovery) discovery.Source { return m.registry.Source(d.Service) }
}

// register makes an instance known.
func (m *mesh) register(n *node) error {
	m.mu.Lock()
	m.nodes = append(m.nodes, n)
	m.mu.Unlock()
	if n.workload == nil {
		return nil
	}
	address := n.listener(config.InboundListener)
	if m.consul != nil {
		return m.consul.Register(context.Background(), consul.Registration{ID: "demo-" + n.name, Service: n.service, Proxy: true, Address: address})
	}
	return m.registry.Register(n.service, discovery.Endpoint{
		ID: n.name, Address: address, Weight: 1, Source: "registry", IdentityPath: compile.ServicePath("", n.service),
	})
}

// build starts the services from the far end, so that each finds whom it calls.
func (m *mesh) build(ctx context.Context) error {
	for _, name := range []string{"stock-1", "stock-2"} {
		if _, err := m.start(ctx, name, "stock"); err != nil {
			return err
		}
	}
	for _, name := range []string{"api-1", "api-2", "api-3"} {
		if _, err := m.start(ctx, name, "api", "stock"); err != nil {
			return err
		}
	}
	_, err := m.start(ctx, "web", "web", "api")
	return err
}

// forget takes a dead instance out of the registry, as its agent would once the
// check fails.
func (m *mesh) forget(ctx context.Context, n *node) {
	if m.consul != nil {
		m.consul.Deregister(ctx, "demo-"+n.name)
		return
	}
	m.registry.Deregister(n.service, n.name)
}

func (m *mesh) node(name string) *node {
	for _, n := range m.all() {
		if n.name == name {
			return n
		}
	}
	return nil
}

// at is the name of the instance whose sidecar listens there.
func (m *mesh) at(address string) string {
	for _, n := range m.all() {
		if n.workload != nil && n.listener(config.InboundListener) == address {
			return n.name
		}
	}
	return address
}

// attempts says what came of each attempt.
func (m *mesh) attempts(d *admin.DecisionView) string {
	var all []string
	for _, t := range d.Tries {
		came := fmt.Sprint(t.Status)
		if t.Reason != policy.None.String() {
			came = t.Reason
		}
		all = append(all, fmt.Sprintf("%s %s (%.0fms)", m.at(t.Endpoint), came, t.DurationMS))
	}
	return strings.Join(all, ", ")
}

func (m *mesh) all() []*node {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]*node(nil), m.nodes...)
}

// close ends everything, callers first.
func (m *mesh) close() error {
	var errs []error
	all := m.all()
	for i := len(all) - 1; i >= 0; i-- {
		if err := all[i].stop(); err != nil && !errors.Is(err, context.Canceled) {
			errs = append(errs, fmt.Errorf("%s: %w", all[i].name, err))
		}
		if m.consul != nil && all[i].workload != nil {
			m.forget(context.Background(), all[i])
		}
	}
	return errors.Join(append(errs, m.collector.stop(), os.RemoveAll(m.dir))...)
}
