package sidecar

import (
	"cmp"
	"context"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// proxyCheck is how often the agent connects to our own port.
const proxyCheck = 5 * time.Second

// leaveWithin bounds what a stop gives to Consul.
const leaveWithin = 3 * time.Second

// presences are what we keep registered.
type presences struct {
	mu   sync.Mutex // guards what follows; held for moments
	all  map[string]*presence
	left bool
}

// presence is that of one listener, keyed by the ID of its proxy.
type presence struct {
	*consul.Presence
	id, service string
	node        string            // of the catalog; empty: at the agent
	meta        map[string]string // of the proxy
	adopted     bool
	propagation time.Duration
}

// register makes what c wants registered so, changes what has changed and takes the
// rest away. It does not wait for Consul. Called with applying held.
func (s *Sidecar) register(c *config.Config) {
	if s.sources.consul == nil {
		return
	}
	want := map[string]consul.Present{}
	given := map[string]*config.Listener{}
	for i := range c.Listeners {
		if l := &c.Listeners[i]; l.Register != nil {
			present, id := s.present(c, l)
			want[id], given[id] = present, l
		}
	}
	p := &s.presences
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left {
		return
	}
	if p.all == nil {
		p.all = map[string]*presence{}
	}
	for id, old := range p.all {
		if _, kept := want[id]; !kept {
			delete(p.all, id)
			s.wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), leaveWithin)
				defer cancel()
				old.Leave(ctx)
			})
		}
	}
	for id, present := range want {
		r := given[id].Register
		one := p.all[id]
		if one == nil {
			one = &presence{id: id, Presence: s.sources.consul.Keep(present, s.stateOf(given[id].Name))}
			p.all[id] = one
			ctx := s.ctx
			s.run("registration", func() error { return one.Run(ctx) })
		} else {
			one.Set(present)
		}
		one.service, one.adopted, one.propagation, one.node, one.meta = r.Service, r.Adopt != "", r.Propagation.D(), present.Node, nil
		if n := len(present.Register); n > 0 {
			one.meta = present.Register[n-1].Meta
		}
	}
}

// present is what the registration of l comes to.
func (s *Sidecar) present(c *config.Config, l *config.Listener) (consul.Present, string) {
	r := l.Register
	out := consul.Present{Adopt: r.Adopt, TTL: r.TTL.D()}
	if r.Adopt != "" {
		return out, r.Adopt
	}
	if r.Through == config.ThroughCatalog {
		out.Node = catalogNode(r)
	}
	id := r.ID
	if id == "" {
		id = r.Service
	}
	meta := map[string]string{}
	maps.Copy(meta, r.Meta)
	meta[consul.MetaMark] = cmp.Or(meta[consul.MetaMark], s.options.Version, "unknown")
	proxy := consul.Registration{
		ID: id + "-sidecar-proxy", Service: r.Service, Proxy: true, Address: s.advertised(l), Weight: r.Weight, Tags: r.Tags, Meta: meta,
		Check: proxyCheck, TTL: r.TTL.D(), Forget: r.DeregisterAfter.D(), Upstreams: registeredUpstreams(c, l),
	}
	if port, err := netip.ParseAddrPort(r.Local); err == nil {
		proxy.Local, proxy.ServiceID = r.Local, id
		host, _, _ := net.SplitHostPort(proxy.Address)
		workload := consul.Registration{
			ID: id, Service: r.Service, Weight: r.Weight, Tags: r.Tags, Meta: maps.Clone(meta), Forget: r.DeregisterAfter.D(),
			Address: net.JoinHostPort(host, portText(port.Port())),
		}
		if host == "" {
			workload.Address = ":" + portText(port.Port())
		}
		workload.Meta[consul.MetaProxy] = proxy.ID
		workload.Watch(r.Local, checkOf(r.Check))
		proxy.Unchecked = workload.Check == 0
		out.Register = append(out.Register, workload)
	}
	out.Register = append(out.Register, proxy)
	return out, proxy.ID
}

// catalogNode is the node of the catalog that instances of this host or container stand on.
func catalogNode(r *config.Register) string {
	if r.Node != "" {
		return r.Node
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = r.Service
	}
	return "larboard-" + host
}

func checkOf(c *config.RegisterCheck) consul.Check {
	if c == nil {
		return consul.Check{}
	}
	return consul.Check{Path: c.HTTP, Interval: c.Interval.D(), Timeout: c.Timeout.D()}
}

func portText(port uint16) string {
	return netip.AddrPortFrom(netip.IPv4Unspecified(), port).String()[len("0.0.0.0:"):]
}

// advertised is the address of l that others are told.
func (s *Sidecar) advertised(l *config.Listener) string {
	at := l.Address[0]
	for _, bound := range s.proxy.Listeners() {
		if bound.Config().Name == l.Name && len(bound.Addresses()) > 0 {
			at = bound.Addresses()[0]
		}
	}
	address, err := netip.ParseAddrPort(at)
	if err != nil {
		return at
	}
	port := portText(address.Port())
	switch {
	case l.Register.Address != "":
		return net.JoinHostPort(l.Register.Address, port)
	case address.Addr().IsUnspecified():
		return ":" + port
	}
	return address.String()
}

// registeredUpstreams are what is called as the identity of l through Consul.
func registeredUpstreams(c *config.Config, l *config.Listener) (all []consul.RegisteredUpstream) {
	services := map[string]*config.Service{}
	for i := range c.Services {
		services[c.Services[i].Name] = &c.Services[i]
	}
	for _, out := range c.Listeners {
		name := out.Service
		if len(out.Routes) == 1 {
			name = out.Routes[0].Service
		}
		s := services[name]
		if out.Direction != config.Outbound || s == nil || len(s.Discovery) != 1 || s.Discovery[0].Consul == nil {
			continue
		}
		if len(out.Address) == 0 { // called by captured addresses alone
			continue
		}
		if _, err := netip.ParseAddrPort(out.Address[0]); err != nil || strings.HasSuffix(out.Address[0], ":0") || !sameIdentity(s, l) {
			continue
		}
		d := s.Discovery[0].Consul
		all = append(all, consul.RegisteredUpstream{Service: d.Service, Datacenter: d.Datacenter, Bind: out.Address[0]})
	}
	return all
}

func sameIdentity(s *config.Service, l *config.Listener) bool {
	if s.TLS == nil || s.TLS.SPIFFE == nil || l.TLS == nil || l.TLS.SPIFFE == nil {
		return false
	}
	return s.TLS.SPIFFE.Identity == l.TLS.SPIFFE.Identity
}

// stateOf is what we say of ourselves: ready or not, and whether there is a workload
// behind the listener that our own checks do not find down.
func (s *Sidecar) stateOf(listener string) func() consul.State {
	return func() consul.State {
		if ready, reasons := s.readyView(); !ready {
			return consul.State{Verdict: consul.Critical, Output: consul.NotReady + strings.Join(reasons, ", ")}
		}
		for _, l := range s.current().Listeners {
			if l.Name != listener {
				continue
			}
			if svc := s.serviceMap()[servedBy(&l)]; svc != nil {
				members := svc.Set().Members
				up := 0
				for _, m := range members {
					if !m.Down() {
						up++
					}
				}
				if len(members) > 0 && up == 0 {
					return consul.State{Verdict: consul.Critical, Output: consul.Ready + ", and the health check finds the workload down"}
				}
			}
		}
		return consul.State{Verdict: consul.Passing, Output: consul.Ready}
	}
}

// servedBy is the service of a listener that leads to one only.
func servedBy(l *config.Listener) string {
	if len(l.Routes) == 1 {
		return l.Routes[0].Service
	}
	return l.Service
}

// leave takes us out of Consul, and returns how long the news may take to spread; zero
// where there was nothing to do. Only the first call does something.
func (s *Sidecar) leave(ctx context.Context) (propagation time.Duration) {
	p := &s.presences
	p.mu.Lock()
	p.left = true
	all := slices.Collect(maps.Values(p.all))
	p.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	var leaving sync.WaitGroup
	for _, one := range all {
		if registered, _, _ := one.Status(); registered {
			propagation = max(propagation, one.propagation)
		}
		leaving.Go(func() { one.Leave(ctx) })
	}
	leaving.Wait()
	return propagation
}

// maintain implements admin.Views.Maintain.
func (s *Sidecar) maintain(ctx context.Context, id, reason string) (ids []string, err error) {
	p := &s.presences
	p.mu.Lock()
	all := slices.SortedFunc(maps.Values(p.all), func(a, b *presence) int { return strings.Compare(a.id, b.id) })
	p.mu.Unlock()
	for _, one := range all {
		if id != "" && id != one.id {
			continue
		}
		if err := one.Maintain(ctx, reason); err != nil {
			return ids, err
		}
		ids = append(ids, one.id)
	}
	return ids, nil
}

// registrationViews tell what is registered.
func (s *Sidecar) registrationViews() []admin.RegistrationView {
	p := &s.presences
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []admin.RegistrationView
	for _, one := range p.all {
		v := admin.RegistrationView{ID: one.id, Service: one.service, Adopted: one.adopted, Node: one.node, Meta: one.meta}
		var err error
		if v.Registered, v.ReportedAt, err = one.Status(); err != nil {
			v.Error = err.Error()
		}
		all = append(all, v)
	}
	return all
}

// registerPresence feeds the metric of what is registered.
func (s *Sidecar) registerPresence() {
	s.metrics.Register(metrics.ConsulRegistered, func(emit metrics.Emit) {
		for _, v := range s.registrationViews() {
			registered := 0.0
			if v.Registered {
				registered = 1
			}
			emit(registered, v.Service, v.ID)
		}
	})
}
