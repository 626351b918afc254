package config

import (
	"cmp"
	"slices"
)

// The names that the expansion of Workload gives. Those of one of several workloads
// stand behind its name and a dot, as do those of its upstreams.
const (
	InboundListener = "inbound"
	LocalService    = "local"
)

// Expand returns c with the shorthands turned into listeners and services, and with
// every HTTP listener in the form of routes. It leaves c as it is and expects one
// without problems; the result shares what it does not change.
func Expand(c *Config) *Config { return expand(c).out }

// Beside is the address of the one workload that a proxy stands beside, in what Expand
// returns; empty where there is none, or several.
func (c *Config) Beside() string {
	inbound := slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == InboundListener })
	if s := c.service(LocalService); inbound && s != nil && len(s.Endpoints) == 1 {
		return s.Endpoints[0].Address
	}
	return ""
}

// expansion is a configuration without shorthands, and what each of its listeners and
// services was made of.
type expansion struct {
	from, out           *Config
	listeners, services []stem
}

func expand(c *Config) *expansion {
	out := *c
	e := &expansion{from: c, out: &out}
	out.Listeners, out.Services = slices.Clone(c.Listeners), nil
	for i := range c.Listeners {
		e.listeners = append(e.listeners, stem{path: listenerPath(i)})
	}
	for i := range c.Services {
		if !c.pattern(c.Services[i].Name) {
			e.addService(c.Services[i], stem{path: servicePath(i)})
		}
	}
	out.Workload, out.Upstreams, out.Workloads = nil, nil, nil
	if c.Workload != nil {
		e.addWorkload(c.Workload, "workload", InboundListener, LocalService)
	}
	for i := range c.Upstreams {
		u := &c.Upstreams[i]
		e.addUpstream(u, upstreamPath(i), u.Service)
		if c.service(u.Service) == nil {
			e.addService(u.toService(), stem{path: upstreamPath(i), made: upstreamService})
		}
	}
	for i := range c.Workloads {
		e.addHosted(&c.Workloads[i], workloadPath(i))
	}
	for i := range out.Listeners {
		out.Listeners[i].routeService()
	}
	out.inheritAll()
	return e
}

func (e *expansion) addService(s Service, of stem) {
	e.out.Services = append(e.out.Services, s)
	e.services = append(e.services, of)
}

func (e *expansion) addListener(l Listener, of stem) {
	e.out.Listeners = append(e.out.Listeners, l)
	e.listeners = append(e.listeners, of)
}

// addHosted adds one of several workloads, which the file has at path, with its upstreams.
func (e *expansion) addHosted(w *Workload, path string) {
	e.addWorkload(w, path, w.prefixed(InboundListener), w.prefixed(LocalService))
	for i := range w.Upstreams {
		u, at := &w.Upstreams[i], join(path, upstreamPath(i))
		e.addUpstream(u, at, w.prefixed(u.Service))
		of := stem{path: at, made: upstreamService, workload: path}
		if k := slices.IndexFunc(e.from.Services, func(s Service) bool { return s.Name == u.Service }); k >= 0 {
			of.like = servicePath(k)
		}
		e.addService(e.from.serviceFor(w, u), of)
	}
}

// prefixed is how a listener or service of one of several workloads is called.
func (w *Workload) prefixed(name string) string { return cmp.Or(w.Name, w.Service) + "." + name }

func (e *expansion) addWorkload(w *Workload, path, listener, service string) {
	l := Listener{}
	l.setDefaults()
	l.Name, l.Address, l.Protocol = listener, Addresses{w.Listen}, w.Protocol
	l.TLS = &ListenerTLS{SPIFFE: &ListenerSPIFFE{Identity: w.Identity}}
	l.Allow, l.Service, l.Detect, l.ReasonHeader = w.Allow, service, w.Detect, w.ReasonHeader
	if w.Intentions {
		l.Intentions = &Intentions{Service: w.Service}
	}
	l.Register = w.registered()
	l.ConnectionRate, l.Limits = w.ConnectionRate, w.Limits
	l.Captures = e.from.capturedFor(w)
	e.addListener(l, stem{path: path, made: workloadListener, workload: path})

	s := Service{}
	s.setDefaults()
	s.Name, s.Health = service, w.Health
	if w.Timeouts != nil {
		s.Timeouts = *w.Timeouts
	}
	if w.Retries != nil {
		s.Retries = *w.Retries
	}
	s.Endpoints, s.Protocol = []Endpoint{{Address: w.Address, Weight: 1}}, w.HTTP
	e.addService(s, stem{path: path, made: workloadService, workload: path})
}

// addUpstream adds the listener of u, which the file has at path; its service has the
// same name.
func (e *expansion) addUpstream(u *Upstream, path, name string) {
	l := Listener{}
	l.setDefaults()
	l.Name, l.Direction, l.Captures = name, Outbound, e.from.captured(u)
	if u.Bind != "" {
		l.Address = Addresses{u.Bind}
	}
	l.SocketMode = u.SocketMode
	l.Protocol, l.Service, l.Detect, l.ReasonHeader = u.Protocol, name, u.Detect, u.ReasonHeader
	e.addListener(l, stem{path: path, made: upstreamListener})
}

// toService is what u says of a service that the file does not describe elsewhere.
func (u *Upstream) toService() Service {
	s := Service{}
	s.setDefaults()
	s.Name, s.Endpoints, s.Discovery = u.Service, u.Endpoints, u.Discovery
	s.Protocol = cmp.Or(u.HTTP, s.Protocol)
	if u.Timeouts != nil {
		s.Timeouts = *u.Timeouts
	}
	if u.Retries != nil {
		s.Retries = *u.Retries
	}
	if u.Balance != "" {
		s.Balance = u.Balance
	}
	s.Breaker, s.Ejection = u.Breaker, u.Ejection
	s.Limits = u.Limits
	if len(s.Endpoints) == 0 && len(s.Discovery) == 0 {
		mesh := &ConsulDiscovery{}
		mesh.setDefaults()
		mesh.Service, mesh.Connect = u.Service, true
		s.Discovery = Discovery{{Consul: mesh}}
	}
	s.TLS = &ServiceTLS{SPIFFE: &ServiceSPIFFE{IDs: u.IDs}}
	return s
}

// serviceFor is the service of u as workload w alone uses it: a service of its own
// even where others use the same, so that w's identity, its connections and its
// counters are never shared.
func (c *Config) serviceFor(w *Workload, u *Upstream) Service {
	s := u.toService()
	if described := c.service(u.Service); described != nil {
		s = *described
	}
	s.Name = w.prefixed(u.Service)
	if s.TLS == nil || s.TLS.SPIFFE == nil {
		return s
	}
	spiffe := *s.TLS.SPIFFE
	spiffe.Identity = w.Identity
	if s.Discovery.FirstConsul() == nil { // which names it
		spiffe.Service = cmp.Or(spiffe.Service, u.Service)
	}
	s.TLS = &ServiceTLS{SPIFFE: &spiffe}
	return s
}

// pattern reports whether only upstreams of workloads use the service of the file
// with that name, and each as an identity of its own: then it only says what theirs
// look like.
func (c *Config) pattern(name string) bool {
	s := c.service(name)
	if s == nil || s.TLS == nil || s.TLS.SPIFFE == nil || s.TLS.SPIFFE.Identity != "" && len(c.Identities) != 1 {
		return false
	}
	for _, l := range c.Listeners {
		if l.Service == name || slices.ContainsFunc(l.Routes, func(r Route) bool { return r.Service == name }) {
			return false
		}
	}
	uses := func(u Upstream) bool { return u.Service == name }
	return !slices.ContainsFunc(c.Upstreams, uses) &&
		slices.ContainsFunc(c.Workloads, func(w Workload) bool { return slices.ContainsFunc(w.Upstreams, uses) })
}

// routeService turns the service of a listener that takes requests into a route. One
// that takes other things too keeps it for those.
func (l *Listener) routeService() {
	if l.Protocol == TCP || l.Service == "" {
		return
	}
	if len(l.Routes) == 0 {
		l.Routes = []Route{{Service: l.Service}}
	}
	if l.Protocol == HTTP {
		l.Service = ""
	}
}
