package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// maxName bounds the names of listeners and services, which become labels of
// metrics.
const maxName = 128

func (v *validator) name(path, name string) {
	if !v.required(path, name) {
		return
	}
	switch {
	case len(name) > maxName:
		v.report(path, fmt.Sprintf("is longer than %d characters", maxName))
	case strings.ContainsFunc(name, func(r rune) bool { return !nameRune(r) }) || strings.Trim(name, "-_.") != name:
		v.report(path, fmt.Sprintf("%q is not a name: letters and digits, with -, _ and . between them", name))
	}
}

func nameRune(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '_' || r == '.'
}

// host checks the host of a route's match: a name or an IP address, no port.
func (v *validator) host(path, host string) {
	switch {
	case host == "*", validHost(strings.TrimPrefix(host, "*.")), validAddress(host):
	case strings.Contains(host, "*"):
		v.report(path, fmt.Sprintf("%q: a * stands only for whole labels at the start, as in *.example.com", host))
	case strings.Contains(host, "://"):
		_, rest, _ := strings.Cut(host, "://")
		v.propose(path, fmt.Sprintf("%q is a URL; write the host", host), strings.TrimRight(rest, "/"))
	case strings.Contains(host, ":"):
		name, _, _ := strings.Cut(host, ":")
		v.propose(path, fmt.Sprintf("%q has a port; hosts are compared without it", host), name)
	default:
		v.report(path, fmt.Sprintf("%q is not a host name", host))
	}
}

// validAddress reports whether host is an IPv6 address in brackets, as it stands
// in a Host field.
func validAddress(host string) bool {
	inner, ok := strings.CutPrefix(host, "[")
	inner, closed := strings.CutSuffix(inner, "]")
	addr, err := netip.ParseAddr(inner)
	return ok && closed && err == nil && addr.Is6()
}

// hostPort checks a Host field: a host with or without a port.
func (v *validator) hostPort(path, text string) {
	if !validHost(text) {
		v.hostAndPort(path, text)
	}
}

// validHost reports whether host is an IP address or a DNS name (RFC 1123 section
// 2.1; underscores are common and allowed).
func validHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "-") != label {
			return false
		}
		if strings.ContainsFunc(label, func(r rune) bool { return !nameRune(r) }) {
			return false
		}
	}
	return true
}

// uniqueNames reports listeners and services of the same name, those of the
// shorthand included.
func (v *validator) uniqueNames() {
	c := v.config
	listeners, services := map[string]string{}, map[string]string{}
	if c.Workload != nil {
		listeners[InboundListener], services[LocalService] = "workload", "workload"
	}
	v.interceptionNames(listeners, services)
	for i, l := range c.Listeners {
		v.unique(listeners, l.Name, listenerPath(i), "name", "listener")
	}
	for i, s := range c.Services {
		v.unique(services, s.Name, servicePath(i), "name", "service")
	}
	for i, u := range c.Upstreams {
		v.unique(listeners, u.Service, upstreamPath(i), "service", "listener")
		if c.service(u.Service) == nil {
			v.unique(services, u.Service, upstreamPath(i), "service", "service")
		}
	}
	for i := range c.Workloads {
		w, path := &c.Workloads[i], workloadPath(i)
		if w.Service == "" && w.Name == "" {
			continue
		}
		v.unique(listeners, w.prefixed(InboundListener), path, "name", "listener")
		v.unique(services, w.prefixed(LocalService), path, "name", "service")
		for j, u := range w.Upstreams {
			v.unique(listeners, w.prefixed(u.Service), join(path, upstreamPath(j)), "service", "listener")
			v.unique(services, w.prefixed(u.Service), join(path, upstreamPath(j)), "service", "service")
		}
	}
}

// unique notes that the element at path has name, or reports that another has it.
func (v *validator) unique(seen map[string]string, name, path, field, what string) {
	if name == "" {
		return
	}
	if first, twice := seen[name]; twice {
		v.report(join(path, field), fmt.Sprintf("%s already gives the %s %q", first, what, name))
		return
	}
	seen[name] = path
}

// uniqueAddresses reports two things that listen in the same place.
func (v *validator) uniqueAddresses() {
	c := v.config
	seen := map[string]string{}
	take := func(path, text string) {
		key := text
		if addr, err := netip.ParseAddrPort(text); err == nil && addr.Port() != 0 {
			key = addr.String()
		} else if !strings.HasPrefix(text, "unix://") {
			return
		}
		if first, twice := seen[key]; twice {
			v.report(path, fmt.Sprintf("%s is already taken by %s", text, first))
			return
		}
		seen[key] = path
	}
	take("admin.address", c.Admin.Address)
	if c.Admin.Socket != "" {
		take("admin.socket", "unix://"+c.Admin.Socket)
	}
	if c.Probes != nil {
		take("probes.address", c.Probes.Address)
	}
	for _, p := range c.interceptionAddresses() {
		for j, one := range p.list {
			take(v.elementPath(p.path, j), one)
		}
	}
	for i, l := range c.Listeners {
		path := join(listenerPath(i), "address")
		for j, one := range l.Address {
			take(v.elementPath(path, j), one)
		}
	}
	if c.Workload != nil {
		take("workload.listen", c.Workload.Listen)
	}
	for i, u := range c.Upstreams {
		take(join(upstreamPath(i), "bind"), u.Bind)
	}
	for i, w := range c.Workloads {
		take(join(workloadPath(i), "listen"), w.Listen)
		for j, u := range w.Upstreams {
			take(join(join(workloadPath(i), upstreamPath(j)), "bind"), u.Bind)
		}
	}
}
