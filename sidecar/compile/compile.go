// Package compile turns a configuration into what the data plane runs on: a
// snapshot of listeners and routes, and the settings of its services. It is pure
// but for reading the certificates that a listener names. It must not know of
// sockets, sources or goroutines.
package compile

import (
	"fmt"
	"log/slog"

	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Input is a configuration and what outlives configurations.
type Input struct {
	// Config is expanded and without problems.
	Config *config.Config
	// Identities are our own, by their names in the configuration; that of its
	// `identity` has the name "". Needed where anything says spiffe.
	Identities map[string]*identity.Current
	// Intentions returns what tells Consul's intentions for a destination, now and
	// later; needed where a listener asks for them.
	Intentions func(destination string) Intentions
	// Services are those of the snapshot in force, by name: one that stays keeps its
	// handle, and with it its endpoints, their state and their pools.
	Services   map[string]*upstream.Service
	Generation uint64
	// Limits are the rate limits in force: those that stay keep their buckets. Nil: none are.
	Limits *limit.Registry
	// Quota is the rate limit service; needed where a limit is shared.
	Quota proxy.Quota
	// Connections bounds those of all listeners together; 0: no limit.
	Connections int64
	Log         *slog.Logger
}

// Output is a snapshot that has not been applied. New settings take effect by
// Commit, so that a snapshot that cannot be applied changes nothing.
type Output struct {
	Snapshot *proxy.Snapshot
	Services map[string]*upstream.Service
	// Certificates are those of edge listeners, for the caller to keep fresh.
	Certificates []*identity.EdgeCertificates
	// Limits are the rate limits, for the caller to keep.
	Limits []limit.Placed

	serviceLimits map[string]ratelimits
	settings      map[string]*upstream.Settings
}

// Commit brings the new settings of services that were there before into force.
func (o *Output) Commit() {
	for name, s := range o.settings {
		o.Services[name].Configure(s)
	}
}

// Compile builds the snapshot. Errors: a certificate that cannot be read, a SPIFFE
// setting without identity.
func Compile(in Input) (*Output, error) {
	out := &Output{
		Snapshot: &proxy.Snapshot{Generation: in.Generation, MaxConnections: in.Connections},
		Services: map[string]*upstream.Service{},
		settings: map[string]*upstream.Settings{},

		serviceLimits: map[string]ratelimits{},
	}
	if in.Limits == nil {
		in.Limits = limit.NewRegistry()
	}
	for i := range in.Config.Services {
		c := &in.Config.Services[i]
		settings, err := compileService(in, c)
		if err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Name, err)
		}
		s := in.Services[c.Name]
		if s == nil {
			s = upstream.NewService(c.Name, settings)
		}
		out.settings[c.Name], out.Services[c.Name] = settings, s
		out.Snapshot.Services = append(out.Snapshot.Services, s)
		if out.serviceLimits[c.Name], err = out.rateLimits(in, "service "+c.Name, c.Limits); err != nil {
			return nil, fmt.Errorf("service %q: %w", c.Name, err)
		}
	}
	for i := range in.Config.Listeners {
		l, err := out.compileListener(in, &in.Config.Listeners[i])
		if err != nil {
			return nil, fmt.Errorf("listener %q: %w", in.Config.Listeners[i].Name, err)
		}
		out.Snapshot.Listeners = append(out.Snapshot.Listeners, l)
	}
	if err := out.captureListeners(in); err != nil {
		return nil, err
	}
	return out, nil
}

func limits(c *config.Config) http1.Limits {
	return http1.Limits{
		Head:        int(c.Limits.Head),
		Fields:      c.Limits.Fields,
		RequestLine: int(c.Limits.RequestLine),
	}.WithDefaults()
}

func (out *Output) compileListener(in Input, c *config.Listener) (*proxy.ListenerConfig, error) {
	l := &proxy.ListenerConfig{
		Name:      c.Name,
		Addresses: c.Address,
		Bind:      proxy.Bind{FreeBind: c.FreeBind, V6Only: c.V6Only, SocketMode: c.SocketMode.Mode()},
		Inbound:   c.Direction == config.Inbound,
		// nil with TCP, which has no answers
		HideReason: c.ReasonHeader != nil && !*c.ReasonHeader,

		MaxConnections: int64(c.MaxConnections),
		Timeouts: proxy.Timeouts{
			RequestHead: c.Timeouts.RequestHead.D(),
			KeepAlive:   c.Timeouts.Idle.D(),
			Body:        c.Timeouts.Body.D(),
		},
		HTTP: http1.ServerOptions{Limits: limits(in.Config), AllowConnect: c.AllowConnect},
	}
	l.Tracing = tracing(in.Config.Tracing, c)
	if err := out.secureListener(in, c, l); err != nil {
		return nil, err
	}
	l.ConnectionRate = out.connectionRate(in, c)
	if p := c.ProxyProtocol; p != nil {
		l.Proxied = proxied(p.From)
	}
	switch c.Protocol {
	case config.TCP:
		l.Protocol, l.Service = proxy.TCP, out.Services[c.Service]
		return l, nil
	case config.Auto:
		l.Protocol, l.Service = proxy.Auto, out.Services[c.Service]
		l.Detect = proxy.Detect{ServerFirst: c.Detect.ServerFirst, Within: c.Detect.Within.D()}
	}
	l.HTTP2 = listenerHTTP2(c, l.HTTP.Limits)
	return l, out.compileRoutes(in, c, l)
}

func proxied(from []config.Block) (p proxy.Proxied) {
	for _, b := range from {
		if b == config.UnixClients {
			p.Unix = true
		} else if block, err := b.Prefix(); err == nil { // it has been validated
			p.From = append(p.From, block)
		}
	}
	return p
}

func (out *Output) compileRoutes(in Input, c *config.Listener, l *proxy.ListenerConfig) error {
	mesh := c.TLS != nil && c.TLS.SPIFFE != nil
	forwarded := &proxy.Forwarded{Trust: mesh || c.Direction == config.Outbound, Proto: "http"}
	if c.TLS != nil {
		forwarded.Proto = "https"
	}
	steps := []proxy.Step{forwarded}
	if l.HideReason {
		steps = append(steps, proxy.HideReason{})
	}
	whole, err := out.rateLimits(in, "listener "+c.Name, c.Limits)
	if err != nil {
		return err
	}
	rules := make([]route.Rule, len(c.Routes))
	for i, r := range c.Routes {
		rules[i] = route.Rule{Host: r.Match.Host, Path: r.Match.Path, PathPrefix: r.Match.PathPrefix}
		one := &proxy.Route{Name: routeName(rules[i]), Service: out.Services[r.Service], Retries: retries(r.Retries), Steps: steps}
		own, err := out.rateLimits(in, "route "+c.Name+" "+one.Name, r.Limits)
		if err != nil {
			return err
		}
		if all := whole.and(own).and(out.serviceLimits[r.Service]); len(all.own)+len(all.shared) > 0 {
			step := proxy.NewLimits(all.own, all.shared, limitFields(in.Config.RateLimitFields))
			one.Steps = append([]proxy.Step{step}, steps...)
		}
		l.Routes = append(l.Routes, one)
	}
	l.Table = route.Compile(rules)
	return nil
}

// routeName is how logs and metrics call a route.
func routeName(r route.Rule) string {
	switch {
	case r.Host == "" && r.Path == "" && r.PathPrefix == "":
		return "default"
	case r.Path != "":
		return r.Host + r.Path
	}
	return r.Host + r.PathPrefix
}
