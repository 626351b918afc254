package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"
)

// Register makes a listener known in Consul as the mesh proxy of a service, and the
// service itself with it, while the proxy is ready.
type Register struct {
	// Service is the name that others ask for; for a workload its own.
	Service string `yaml:"service"`
	// Through says who holds the registration: agent or catalog.
	Through string `yaml:"through"`
	// Node in the catalog; empty: one by the name of this host, as it is when the proxy starts.
	Node string `yaml:"node"`
	// ID of the service at the agent, and of the proxy with "-sidecar-proxy" behind it;
	// empty: Service.
	ID string `yaml:"id"`
	// Address is what others are told, an IP address; empty: that of the listener or,
	// where it listens on all, the one of the agent's node.
	Address string `yaml:"address"`
	// Local is IP:port of the application; for a workload its own.
	Local  string            `yaml:"local"`
	Tags   []string          `yaml:"tags"`
	Meta   map[string]string `yaml:"meta"`
	Weight int               `yaml:"weight"`
	// Check is the agent's look at the application; nil: none.
	Check *RegisterCheck `yaml:"check"`
	// TTL is how long Consul believes that we live without a word of ours.
	TTL Duration `yaml:"ttl"`
	// DeregisterAfter has Consul forget what has been critical for so long; 0: never.
	DeregisterAfter Duration `yaml:"deregister_after"`
	// Propagation is how long inbound traffic is served after the deregistration, since
	// others learn of it a little later.
	Propagation Duration `yaml:"propagation"`
	// Adopt is the ID of a proxy that somebody else registers: then nothing is
	// registered, its TTL checks are kept alive, and maintenance takes the place of
	// deregistration.
	Adopt string `yaml:"adopt"`
}

// The holders of registrations: an agent, which looks after the checks and lets go of what is critical
// for too long, or the servers' catalog, where there is no agent beside the workload.
const (
	ThroughAgent   = "agent"
	ThroughCatalog = "catalog"
)

// RegisterCheck holds exactly one of TCP and HTTP.
type RegisterCheck struct {
	TCP      bool     `yaml:"tcp"`  // connect to the application
	HTTP     string   `yaml:"http"` // path to ask the application for
	Interval Duration `yaml:"interval"`
	Timeout  Duration `yaml:"timeout"`
}

func (r *Register) setDefaults() {
	*r = Register{
		Through: ThroughAgent, Weight: 1, TTL: Duration(15 * time.Second), DeregisterAfter: Duration(10 * time.Minute), Propagation: Duration(time.Second),
	}
}

func (c *RegisterCheck) setDefaults() {
	*c = RegisterCheck{Interval: Duration(5 * time.Second), Timeout: Duration(time.Second)}
}

// decodeNode takes true for the defaults.
func (r *Register) decodeNode(d *decoder, n *yaml.Node, path string) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!bool" {
		r.setDefaults()
		if n.Value != "true" {
			d.report(n, path, "is true or a mapping; leave it out for no registration", "")
		}
		return
	}
	d.structure(n, reflect.ValueOf(r).Elem(), path)
}

// registered is how the listener of w is registered.
func (w *Workload) registered() *Register {
	if w.Register == nil {
		return nil
	}
	r := *w.Register
	if r.Service == "" {
		r.Service = w.Service
	}
	if r.Local == "" {
		r.Local = w.Address
	}
	return &r
}

// uniqueRegistrations reports two that would replace each other in Consul.
func (v *validator) uniqueRegistrations() {
	c, seen := v.config, map[string]string{}
	take := func(path string, r *Register, service string) {
		if r != nil && r.Adopt == "" {
			v.unique(seen, cmp.Or(r.ID, r.Service, service), join(path, "register"), "id", "id")
		}
	}
	for i := range c.Listeners {
		take(listenerPath(i), c.Listeners[i].Register, "")
	}
	if c.Workload != nil {
		take("workload", c.Workload.Register, c.Workload.Service)
	}
	for i := range c.Workloads {
		take(workloadPath(i), c.Workloads[i].Register, c.Workloads[i].Service)
	}
}

func (v *validator) register(path string, r *Register) {
	if r == nil {
		return
	}
	if r.ID != "" {
		v.name(join(path, "id"), r.ID)
	}
	if _, err := netip.ParseAddr(r.Address); r.Address != "" && err != nil {
		v.report(join(path, "address"), fmt.Sprintf("%q is not an IP address", r.Address))
	}
	if r.Local != "" {
		v.address(join(path, "local"), r.Local, false)
	}
	v.through(path, r)
	v.between(join(path, "weight"), r.Weight, 1, 65535)
	if r.TTL < Duration(time.Second) || r.TTL > Duration(time.Hour) {
		v.report(join(path, "ttl"), fmt.Sprintf("%s is not between 1s and 1h", r.TTL))
	}
	if r.DeregisterAfter != 0 && r.DeregisterAfter < Duration(time.Minute) {
		v.report(join(path, "deregister_after"), fmt.Sprintf("%s is less than 1m, the least that Consul keeps to; 0 is never", r.DeregisterAfter))
	}
	if r.Propagation > Duration(time.Minute) {
		v.report(join(path, "propagation"), fmt.Sprintf("%s is more than 1m", r.Propagation))
	}
	if c := r.Check; c != nil {
		at := join(path, "check")
		if c.TCP == (c.HTTP != "") {
			v.incomplete(at, "needs one of tcp: true and http: PATH")
		}
		if c.HTTP != "" && c.HTTP[0] != '/' {
			v.propose(join(at, "http"), fmt.Sprintf("%q is not a path", c.HTTP), "/"+c.HTTP)
		}
		v.positive(join(at, "interval"), c.Interval)
		v.positive(join(at, "timeout"), c.Timeout)
	}
}

// leastCatalogTTL is what Consul's servers can tell: their shortest session is 10 s, and they wait for twice that.
const leastCatalogTTL = Duration(10 * time.Second)

// through reports what needs an agent where there is none.
func (v *validator) through(path string, r *Register) {
	v.oneOf(join(path, "through"), r.Through, ThroughAgent, ThroughCatalog)
	if r.Node != "" {
		v.name(join(path, "node"), r.Node)
	}
	if r.Through != ThroughCatalog {
		if r.Node != "" {
			v.report(join(path, "node"), "is for through: catalog; an agent registers on its own node")
		}
		return
	}
	if r.Check != nil {
		v.report(join(path, "check"), "needs an agent to make it; let the proxy look, by health of the workload or its service")
	}
	if r.Adopt != "" {
		v.report(join(path, "adopt"), "needs the agent that holds the registration")
	}
	if r.TTL < leastCatalogTTL {
		v.report(join(path, "ttl"), fmt.Sprintf("%s is less than %s, the least that Consul's servers can keep to", r.TTL, leastCatalogTTL))
	}
}
