package config

import "slices"

// The names that the expansion of Workload gives.
const (
	InboundListener = "inbound"
	LocalService    = "local"
)

// Expand returns c with the sidecar shorthand turned into listeners and services,
// and with every HTTP listener in the form of routes. It leaves c as it is and
// expects one without problems; the result shares what it does not change.
func Expand(c *Config) *Config {
	out := *c
	out.Listeners = slices.Clone(c.Listeners)
	out.Services = slices.Clone(c.Services)
	out.Workload, out.Upstreams = nil, nil
	if c.Workload != nil {
		out.addWorkload(c.Workload)
	}
	for i := range c.Upstreams {
		out.addUpstream(&c.Upstreams[i])
	}
	for i := range out.Listeners {
		out.Listeners[i].routeService()
	}
	out.inheritAll()
	return &out
}

func (c *Config) addWorkload(w *Workload) {
	l := Listener{}
	l.setDefaults()
	l.Name, l.Address, l.Protocol = InboundListener, Addresses{w.Listen}, w.Protocol
	l.TLS = &ListenerTLS{SPIFFE: &ListenerSPIFFE{}}
	l.Allow, l.Service = w.Allow, LocalService
	c.Listeners = append(c.Listeners, l)

	s := Service{}
	s.setDefaults()
	s.Name, s.Health = LocalService, w.Health
	s.Endpoints = []Endpoint{{Address: w.Address, Weight: 1}}
	c.Services = append(c.Services, s)
}

func (c *Config) addUpstream(u *Upstream) {
	l := Listener{}
	l.setDefaults()
	l.Name, l.Direction, l.Address = u.Service, Outbound, Addresses{u.Bind}
	l.Protocol, l.Service = u.Protocol, u.Service
	c.Listeners = append(c.Listeners, l)
	if c.service(u.Service) != nil {
		return
	}

	s := Service{}
	s.setDefaults()
	s.Name, s.Endpoints, s.Discovery = u.Service, u.Endpoints, u.Discovery
	if u.Balance != "" {
		s.Balance = u.Balance
	}
	if len(s.Endpoints) == 0 && s.Discovery == nil {
		mesh := &ConsulDiscovery{}
		mesh.setDefaults()
		mesh.Service, mesh.Connect = u.Service, true
		s.Discovery = &Discovery{Consul: mesh}
	}
	s.TLS = &ServiceTLS{SPIFFE: &ServiceSPIFFE{IDs: u.IDs}}
	c.Services = append(c.Services, s)
}

// routeService turns an HTTP listener's service into a route.
func (l *Listener) routeService() {
	if l.Protocol == HTTP && l.Service != "" {
		l.Routes = []Route{{Service: l.Service}}
		l.Service = ""
	}
}
