package config

import (
	"fmt"
	"slices"
	"strings"
)

func (v *validator) listener(path string, l *Listener) {
	v.name(join(path, "name"), l.Name)
	if len(l.Captures) == 0 || v.given(join(path, "address")) {
		v.addresses(path, l.Address)
	}
	v.captures(path, l.Captures, l.Direction)
	v.socketMode(path, l.SocketMode, l.Address...)
	v.protocol(join(path, "protocol"), l.Protocol)
	v.oneOf(join(path, "direction"), string(l.Direction), string(Inbound), string(Outbound))
	v.detect(path, l.Protocol)
	var usual ListenerHTTP2
	if usual.setDefaults(); l.HTTP2 != usual { // that is printed for every listener
		v.needsHTTP(join(path, "http2"), join(path, "protocol"), l.Protocol)
	}
	v.proxyProtocol(join(path, "proxy_protocol"), l.ProxyProtocol)
	v.listenerTLS(path, l)
	v.intentions(path, l)
	if l.Register != nil {
		v.required(join(path, "register.service"), l.Register.Service)
		if strings.HasPrefix(slices.Concat(l.Address, []string{""})[0], "unix:") {
			v.report(join(path, "register"), "needs a listener with a port")
		}
	}
	v.register(join(path, "register"), l.Register)
	v.targets(path, l)
	if l.TrustTraces != nil && v.config.Tracing == nil {
		v.report(join(path, "trust_traces"), "needs the tracing section")
	}
	v.http2(join(path, "http2"), l.HTTP2.Settings())
	v.between(join(path, "max_connections"), l.MaxConnections, 0, MaxConnections)
	v.limitsOf(path, l)
	v.positive(join(path, "timeouts.request_head"), l.Timeouts.RequestHead)
	v.positive(join(path, "timeouts.idle"), l.Timeouts.Idle)
}

func (v *validator) addresses(path string, list Addresses) {
	path = join(path, "address")
	if len(list) == 0 {
		if !v.given(path) {
			v.report(path, "is missing")
		} else {
			v.report(path, "the list is empty")
		}
	}
	for i, one := range list {
		v.address(v.elementPath(path, i), one, true)
	}
}

func (v *validator) elementPath(path string, i int) string {
	return v.config.source.elementPath(path, i)
}

func (v *validator) protocol(path string, p Protocol) {
	v.spelled(path, string(p), map[string]string{
		"http1": "http", "http/1.1": "http", "http2": "http", "h2": "http", "h2c": "http", "grpc": "http", "https": "http", "websocket": "http",
		"opaque": "tcp", "tls": "tcp", "detect": "auto",
	}, string(HTTP), string(TCP), string(Auto))
}

func (v *validator) detect(path string, p Protocol) {
	at := join(path, "detect")
	if v.given(at) && p != Auto && !v.broken(join(path, "protocol")) {
		v.report(at, "is for protocol auto")
	}
}

// needsHTTP reports a field about HTTP where everything is passed on as it is.
func (v *validator) needsHTTP(path, protocol string, p Protocol) {
	if v.given(path) && p == TCP && !v.broken(protocol) {
		v.report(path, "is for protocol http or auto")
	}
}

func (v *validator) proxyProtocol(path string, p *ProxyProtocol) {
	if p == nil {
		return
	}
	if len(p.From) == 0 && !v.broken(join(path, "from")) {
		v.report(join(path, "from"), "is missing: who sends the header is believed, so say who may")
	}
	for i, b := range p.From {
		v.block(fmt.Sprintf("%s.from[%d]", path, i), b)
	}
}

func (v *validator) block(path string, b Block) {
	if b == UnixClients {
		return
	}
	switch block, err := b.Prefix(); {
	case err != nil:
		v.report(path, fmt.Sprintf("%q is neither an IP address, nor a block like 10.0.0.0/8, nor unix", string(b)))
	case block.Addr().Is4In6():
		v.propose(path, fmt.Sprintf("%q is IPv4 written as IPv6; write IPv4", string(b)), "")
	case block != block.Masked():
		v.propose(path, fmt.Sprintf("%q has bits beyond its length", string(b)), block.Masked().String())
	}
}

// choice is oneOf with words that a later version will understand.
func (v *validator) choice(path, value string, later []string, allowed ...string) {
	if slices.Contains(later, value) {
		v.report(path, fmt.Sprintf("%q is not in this version; there are %s", value, strings.Join(allowed, ", ")))
		return
	}
	v.oneOf(path, value, allowed...)
}

func (v *validator) listenerTLS(path string, l *Listener) {
	allow := join(path, "allow")
	if l.TLS == nil {
		if v.given(allow) {
			v.report(allow, "needs tls.spiffe: without it no caller has an identity")
		}
		return
	}
	tls := join(path, "tls")
	v.exclusive(tls, "certificates", "spiffe")
	if len(l.TLS.Certificates) == 0 && l.TLS.SPIFFE == nil {
		v.incomplete(tls, "needs certificates or spiffe")
	}
	for i, c := range l.TLS.Certificates {
		at := fmt.Sprintf("%s.certificates[%d]", tls, i)
		v.required(join(at, "cert"), c.Cert)
		v.required(join(at, "key"), c.Key)
	}
	if l.TLS.SPIFFE != nil {
		v.ownIdentity(join(tls, "spiffe"), l.TLS.SPIFFE.Identity)
	} else if v.given(allow) {
		v.report(allow, "needs tls.spiffe: without it no caller has an identity")
		return
	}
	v.allow(allow, l.Allow)
}

// intentions checks who is said to decide about callers.
func (v *validator) intentions(path string, l *Listener) {
	at := join(path, "intentions")
	if l.Intentions == nil {
		return
	}
	v.exclusive(path, "allow", "intentions")
	if l.TLS == nil || l.TLS.SPIFFE == nil && !v.broken(join(path, "tls")) {
		v.report(at, "needs tls.spiffe: without it no caller has an identity")
		return
	}
	name := join(at, "service")
	if !v.given(name) && l.Intentions.Service != "" {
		name = at
	}
	v.name(name, l.Intentions.Service)
}

// targets checks where a listener's traffic goes.
func (v *validator) targets(path string, l *Listener) {
	if l.Protocol == TCP {
		v.tcpOnly(path, l)
		return
	}
	if l.Protocol != Auto {
		v.exclusive(path, "service", "routes")
	} else if l.Service == "" && !v.given(join(path, "service")) {
		v.report(join(path, "service"), "is missing: what is no HTTP goes there")
	}
	if len(l.Routes) == 0 && l.Protocol == Auto && v.given(join(path, "routes")) {
		v.report(join(path, "routes"), "is empty; without it requests go to service")
	}
	switch {
	case l.Service != "":
		v.knownService(join(path, "service"), l.Service)
	case l.Protocol == Auto:
	case len(l.Routes) == 0 && !v.broken(join(path, "service")):
		v.report(join(path, "routes"), "is missing; give routes, or service for all requests")
	}
	for i, r := range l.Routes {
		at := fmt.Sprintf("%s.routes[%d]", path, i)
		v.match(join(at, "match"), r.Match)
		v.retries(join(at, "retries"), r.Retries)
		if v.required(join(at, "service"), r.Service) {
			v.knownService(join(at, "service"), r.Service)
		}
	}
}

func (v *validator) tcpOnly(path string, l *Listener) {
	if v.given(join(path, "routes")) {
		v.report(join(path, "routes"), "is for protocol http; protocol tcp takes service")
		return
	}
	if l.AllowConnect {
		v.report(join(path, "allow_connect"), "is for protocol http")
	}
	v.needsHTTP(join(path, "reason_header"), join(path, "protocol"), l.Protocol)
	v.needsHTTP(join(path, "trust_traces"), join(path, "protocol"), l.Protocol)
	if v.required(join(path, "service"), l.Service) {
		v.knownService(join(path, "service"), l.Service)
	}
}

func (v *validator) match(path string, m Match) {
	if m.Host != "" {
		v.host(join(path, "host"), m.Host)
	}
	v.exclusive(path, "path", "path_prefix")
	v.urlPath(join(path, "path"), m.Path)
	v.urlPath(join(path, "path_prefix"), m.PathPrefix)
}

// urlPath checks a path that requests are compared with; they carry no query.
func (v *validator) urlPath(path, value string) {
	switch {
	case value == "":
	case value[0] != '/':
		v.propose(path, fmt.Sprintf("%q does not begin with /", value), "/"+value)
	case strings.ContainsAny(value, "?#"):
		v.report(path, fmt.Sprintf("%q holds a query or a fragment; only the path is compared", value))
	case strings.ContainsFunc(value, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		v.report(path, fmt.Sprintf("%q holds a character that no request target holds; write it as %%XX", value))
	}
}

// knownService reports a name that no service has. While a service's own name is
// in doubt that would be guesswork.
func (v *validator) knownService(path, name string) {
	if v.broken("services") {
		return
	}
	for i, s := range v.config.Services {
		if s.Name == "" || v.broken(join(servicePath(i), "name")) {
			return
		}
	}
	if slices.Contains(v.services, name) {
		return
	}
	message := fmt.Sprintf("no service is named %q", name)
	meant := suggest(name, v.services)
	if meant == "" && len(v.services) > 0 && len(v.services) <= 8 {
		message += "; there are " + strings.Join(v.services, ", ")
	}
	v.propose(path, message, meant)
}

// serviceNames are those of the services of the file and of the expansion.
func (c *Config) serviceNames() []string {
	var names []string
	for _, s := range c.Services {
		names = append(names, s.Name)
	}
	for _, u := range c.Upstreams {
		if c.service(u.Service) == nil {
			names = append(names, u.Service)
		}
	}
	if c.Workload != nil {
		names = append(names, LocalService)
	}
	for _, w := range c.Workloads {
		names = append(names, w.prefixed(LocalService))
		for _, u := range w.Upstreams {
			names = append(names, w.prefixed(u.Service))
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// service returns the service of the file with that name, or nil.
func (c *Config) service(name string) *Service {
	for i := range c.Services {
		if c.Services[i].Name == name {
			return &c.Services[i]
		}
	}
	return nil
}
