package config

import (
	"cmp"
	"slices"
	"time"
)

// Every default of the file format stands in this file. Those of timeouts follow
// what operators of other proxies are used to: a silent peer is cut off, an
// exchange that moves is not.

// inherit marks a timeout that the file leaves to the process-wide one.
const inherit = Duration(-1)

func (c *Config) setDefaults() {
	c.Version = 1
	c.Log = Log{Level: "info", Format: FormatText}
	c.AccessLog = make(AccessLogs, 1)
	c.AccessLog[0].setDefaults()
	c.Metrics.setDefaults()
	c.Limits.setDefaults()
	c.RateLimitFields.setDefaults()
	c.Timeouts.setDefaults()
	c.Consul.setDefaults()
	c.Drain.setDefaults()
	c.ReasonHeader, c.Decisions = true, 256
}

func (l *Log) setDefaults() { *l = Log{Level: "info", Format: FormatText} }

func (l *Limits) setDefaults() {
	*l = Limits{Head: 64 << 10, Fields: 100, RequestLine: 8 << 10, Buffers: 256 << 20, AcceptBurst: 64}
}

func (t *Timeouts) setDefaults() {
	*t = Timeouts{
		Connect:      Duration(time.Second),
		RequestHead:  Duration(10 * time.Second),
		Idle:         Duration(time.Minute),
		Body:         Duration(time.Minute),
		ResponseHead: Duration(30 * time.Second),
		Request:      0, // long downloads and streams are legitimate
		Tunnel:       Duration(time.Hour),
		Drain:        Duration(30 * time.Second),
	}
}

func (c *Consul) setDefaults() { *c = Consul{Address: "127.0.0.1:8500", Wait: Duration(time.Minute)} }

func (o *InterceptOutbound) setDefaults() {
	*o = InterceptOutbound{Address: Addresses{"127.0.0.1:15001", "[::1]:15001"}, Unknown: PassUnknown}
}

func (i *InterceptInbound) setDefaults() {
	*i = InterceptInbound{Address: Addresses{"0.0.0.0:15006", "[::]:15006"}, Plain: RefuseUnknown, Unknown: PassUnknown}
}

func (l *Listener) setDefaults() {
	*l = Listener{Direction: Inbound, Protocol: HTTP}
	l.HTTP2.setDefaults()
	l.Timeouts.setDefaults()
}

func (d *Detect) setDefaults() {
	*d = Detect{ServerFirst: true, Within: Duration(20 * time.Millisecond)}
}

// detectDefaults gives protocol auto its way to find out where the file says nothing of it.
func (l *Listener) detectDefaults() {
	if l.Protocol == Auto && l.Detect == nil {
		l.Detect = &Detect{}
		l.Detect.setDefaults()
	}
}

// inheritReasonHeader: the proxies that call a mesh listener decide by the reason whether a
// request may be sent again, so that only the listener itself can keep it from them.
func (l *Listener) inheritReasonHeader(all bool) {
	if l.Protocol == TCP || l.ReasonHeader != nil {
		return
	}
	tell := all || l.TLS != nil && l.TLS.SPIFFE != nil
	l.ReasonHeader = &tell
}

func (t *ListenerTimeouts) setDefaults() { *t = ListenerTimeouts{inherit, inherit, inherit} }

func (s *Service) setDefaults() {
	*s = Service{Balance: RoundRobin, Protocol: HTTPAuto}
	s.HTTP2.setDefaults()
	s.Retries.setDefaults()
	s.Timeouts.setDefaults()
}

func (r *Retries) setDefaults() {
	*r = Retries{Attempts: 3, Replay: 64 << 10} // On: see inherit
	r.Backoff.setDefaults()
	r.Budget.setDefaults()
}

// inherit names the failures that are repeated where the file does not.
func (r *Retries) inherit() {
	if r == nil || r.On != nil {
		return
	}
	r.On = RetryCauses{RetryConnectFailure, RetryRefusedStream, RetryReset}
	if r.PerTryTimeout > 0 {
		r.On = append(r.On, RetryTimeout)
	}
}

func (b *Backoff) setDefaults() {
	*b = Backoff{Base: Duration(25 * time.Millisecond), Max: Duration(250 * time.Millisecond)}
}

func (b *RetryBudget) setDefaults() { *b = RetryBudget{Percent: 20, Min: 3} }

func (t *ServiceTimeouts) setDefaults() {
	*t = ServiceTimeouts{inherit, inherit, inherit, inherit, inherit, inherit}
}

func (e *Endpoint) setDefaults() { *e = Endpoint{Weight: 1} }

// The service's name, where the file leaves it out, is filled in by inheritAll.
func (d *ConsulDiscovery) setDefaults() {
	*d = ConsulDiscovery{PassingOnly: true, OnEmpty: ConfirmEmpty}
}

func (d *DNSDiscovery) setDefaults() {
	*d = DNSDiscovery{Type: DNSA, MinTTL: Duration(time.Second), MaxTTL: Duration(time.Minute), OnEmpty: ConfirmEmpty}
}

func (h *Health) setDefaults() {
	*h = Health{
		Interval: Duration(2 * time.Second), Timeout: inherit,
		Rise: 2, Fall: 3, Jitter: 0.1,
	}
}

func (h *HTTPCheck) setDefaults() {
	*h = HTTPCheck{Method: "GET", Path: "/", ExpectStatus: StatusRanges{{200, 399}}}
}

func (d *DevIdentity) setDefaults() {
	*d = DevIdentity{TrustDomain: "dev.larboard", TTL: Duration(time.Hour)}
}

func (w *Workload) setDefaults() { *w = Workload{Protocol: HTTP, HTTP: HTTPAuto} }

// Balance and HTTP stay empty here: with a service of the same name they must not be given.
func (u *Upstream) setDefaults() { *u = Upstream{Protocol: HTTP} }

// inheritAll fills in the defaults that come from other fields.
func (c *Config) inheritAll() {
	c.Metrics.OTLP.every(metricsInterval)
	c.Tracing.inherit(c)
	for i := range c.Listeners {
		c.Listeners[i].Timeouts.inheritFrom(c.Timeouts)
		c.Listeners[i].detectDefaults()
		for j := range c.Listeners[i].Routes {
			c.Listeners[i].Routes[j].Retries.inherit()
		}
		c.Listeners[i].inheritLimits()
		c.Listeners[i].inheritReasonHeader(c.ReasonHeader)
	}
	for i := range c.Services {
		s := &c.Services[i]
		s.Timeouts.inheritFrom(c.Timeouts)
		s.Retries.inherit()
		s.Discovery.inheritService(s.Name)
		s.Health.limitTimeout()
		inheritLimits(s.Limits, s.Name)
	}
	if c.Workload != nil {
		c.Workload.Health.limitTimeout()
		c.Workload.inheritLimits(InboundListener)
		c.Workload.Timeouts.inheritFrom(c.Timeouts)
		c.Workload.Retries.inherit()
	}
	for i := range c.Upstreams {
		c.Upstreams[i].inherit(c, upstreamPath(i))
	}
	for i := range c.Workloads {
		w := &c.Workloads[i]
		w.Health.limitTimeout()
		w.Timeouts.inheritFrom(c.Timeouts)
		w.Retries.inherit()
		if w.Name == "" {
			w.Name = w.Service
		}
		w.inheritLimits(w.prefixed(InboundListener))
		for j := range w.Upstreams {
			w.Upstreams[j].inherit(c, join(workloadPath(i), upstreamPath(j)))
		}
	}
	c.inheritIdentity()
	if c.Identity != nil {
		c.Identity.inheritService(c.users(""))
	}
	for name, i := range c.Identities {
		i.inheritService(c.users(name))
	}
}

// users are the workloads that an identity is for.
func (c *Config) users(name string) (services []string) {
	if w := c.Workload; w != nil && w.Identity == name {
		services = append(services, w.Service)
	}
	for i := range c.Workloads {
		if w := &c.Workloads[i]; w.Identity == name && !slices.Contains(services, w.Service) {
			services = append(services, w.Service)
		}
	}
	return services
}

// inheritService names a certificate of Consul's after the one workload that uses it.
func (i *Identity) inheritService(users []string) {
	if i.Consul != nil && i.Consul.Service == "" && len(users) == 1 {
		i.Consul.Service = users[0]
	}
}

func (u *Upstream) inherit(c *Config, path string) {
	u.Discovery.inheritService(u.Service)
	u.Timeouts.inheritFrom(c.Timeouts)
	u.Retries.inherit()
	inheritLimits(u.Limits, u.Service)
	for i := range u.Discovery {
		at := c.source.elementPath(join(path, "discovery"), i)
		if d := u.Discovery[i].Consul; d != nil && !c.source.has(at+".consul.connect") {
			d.Connect = true
		}
	}
}

// inheritIdentity names the only named identity wherever none is named.
func (c *Config) inheritIdentity() {
	if len(c.Identities) != 1 {
		return
	}
	for only := range c.Identities {
		for i := range c.Listeners {
			if t := c.Listeners[i].TLS; t != nil && t.SPIFFE != nil {
				t.SPIFFE.Identity = cmp.Or(t.SPIFFE.Identity, only)
			}
		}
		for i := range c.Services {
			if t := c.Services[i].TLS; t != nil && t.SPIFFE != nil {
				t.SPIFFE.Identity = cmp.Or(t.SPIFFE.Identity, only)
			}
		}
		if c.Workload != nil {
			c.Workload.Identity = cmp.Or(c.Workload.Identity, only)
		}
		for i := range c.Workloads {
			c.Workloads[i].Identity = cmp.Or(c.Workloads[i].Identity, only)
		}
	}
}

// limitTimeout gives a check a second, or less where it comes round sooner.
func (h *Health) limitTimeout() {
	if h != nil {
		h.Timeout.or(min(Duration(time.Second), h.Interval))
	}
}

// inheritService names the service to discover after the one it is for.
func (d Discovery) inheritService(name string) {
	for i := range d {
		if c := d[i].Consul; c != nil && c.Service == "" {
			c.Service = name
		}
	}
}

func (t *ListenerTimeouts) inheritFrom(all Timeouts) {
	t.RequestHead.or(all.RequestHead)
	t.Idle.or(all.Idle)
	t.Body.or(all.Body)
}

func (t *ServiceTimeouts) inheritFrom(all Timeouts) {
	if t == nil {
		return
	}
	t.Connect.or(all.Connect)
	t.ResponseHead.or(all.ResponseHead)
	t.Request.or(all.Request)
	t.Body.or(all.Body)
	t.Idle.or(all.Idle)
	t.Tunnel.or(all.Tunnel)
}

func (d *Duration) or(other Duration) {
	if *d == inherit {
		*d = other
	}
}
