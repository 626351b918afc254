package config

import (
	"fmt"
	"net/netip"
	"strings"
)

// interception checks where captured connections come in.
func (v *validator) interception() {
	c := &v.config.Capture
	if v.given("capture") && c.Outbound == nil && c.Inbound == nil {
		v.incomplete("capture", "needs outbound or inbound")
	}
	for _, p := range v.config.interceptionAddresses() {
		if len(p.list) == 0 {
			v.report(p.path, "the list is empty")
		}
		for i, one := range p.list {
			at := v.elementPath(p.path, i)
			if strings.HasPrefix(one, "unix:") {
				v.report(at, "the kernel redirects to IP addresses only; write IP:port")
				continue
			}
			v.address(at, one, true)
		}
	}
	if c.Outbound != nil {
		v.unknown("capture.outbound.unknown", c.Outbound.Unknown)
		if v.config.callers() > 1 {
			v.report("capture.outbound", "does not tell which of several workloads a connection is from, so that it could not be made as the right identity; only one of them may have upstreams")
		}
	}
	if c.Inbound != nil {
		v.unknown("capture.inbound.plain", c.Inbound.Plain)
		v.unknown("capture.inbound.unknown", c.Inbound.Unknown)
	}
}

// callers is how many of the workloads call others.
func (c *Config) callers() (n int) {
	for i := range c.Workloads {
		if len(c.Workloads[i].Upstreams) > 0 {
			n++
		}
	}
	return n
}

func (v *validator) unknown(path string, u Unknown) {
	v.spelled(path, string(u), map[string]string{
		"passthrough": "pass", "allow": "pass", "allow_any": "pass", "permissive": "pass", "true": "pass",
		"deny": "refuse", "reject": "refuse", "block": "refuse", "registry_only": "refuse", "strict": "refuse", "false": "refuse",
	}, string(PassUnknown), string(RefuseUnknown))
}

// addressesAt are those that the file has, or could have, at path.
type addressesAt struct {
	path string
	list Addresses
}

// interceptionAddresses are those of the capture listeners.
func (c *Config) interceptionAddresses() (all []addressesAt) {
	if o := c.Capture.Outbound; o != nil {
		all = append(all, addressesAt{"capture.outbound.address", o.Address})
	}
	if i := c.Capture.Inbound; i != nil {
		all = append(all, addressesAt{"capture.inbound.address", i.Address})
	}
	return all
}

// interceptionNames notes the names that capturing takes.
func (v *validator) interceptionNames(listeners, services map[string]string) {
	c := &v.config.Capture
	if c.Outbound != nil {
		listeners[CapturedOutbound] = "capture.outbound"
	}
	if c.Inbound != nil {
		listeners[CapturedInbound] = "capture.inbound"
	}
	if c.Outbound != nil || c.Inbound != nil {
		services[Passthrough] = "capture"
	}
	if c.Inbound == nil || c.Inbound.Plain != PassUnknown {
		return
	}
	take := func(name string) { listeners[name+PlainSuffix] = "capture.inbound.plain" }
	if v.config.Workload != nil {
		take(InboundListener)
	}
	for i := range v.config.Workloads {
		take(v.config.Workloads[i].prefixed(InboundListener))
	}
	for i := range v.config.Listeners {
		if l := &v.config.Listeners[i]; len(l.Captures) > 0 && l.Direction == Inbound {
			take(l.Name)
		}
	}
}

// captures checks the addresses whose connections a listener of that direction takes.
func (v *validator) captures(path string, list Captures, d Direction) {
	at := join(path, "captures")
	if len(list) == 0 {
		if v.given(at) && !v.broken(at) {
			v.report(at, "the list is empty")
		}
		return
	}
	switch {
	case d == Outbound && !v.config.capturesOutbound():
		v.report(at, "needs capture.outbound: without it nothing that the workload calls is captured")
		return
	case d == Inbound && !v.config.capturesInbound():
		v.report(at, "needs capture.inbound: without it nothing that calls the workload is captured")
		return
	}
	seen := map[string]bool{}
	for i, one := range list {
		here := v.elementPath(at, i)
		c, err := ParseCaptured(one)
		switch {
		case err != nil:
			v.proposeCaptured(here, one, err)
		case d == Inbound && (c.Consul || c.Name != ""):
			v.report(here, fmt.Sprintf("%q: what calls the workload is told by its port or by an address of this host; write *:PORT or IP:PORT", one))
		case seen[one]:
			v.report(here, fmt.Sprintf("%s is given twice", one))
		}
		seen[one] = true
	}
}

// proposeCaptured reports err and what was probably meant by text.
func (v *validator) proposeCaptured(path, text string, err error) {
	meant := ""
	if _, rest, ok := strings.Cut(text, "://"); ok {
		meant = strings.TrimRight(rest, "/")
	} else if host, _, e := splitCaptured(text); e == nil {
		if p, e := netip.ParsePrefix(host); e == nil && p != p.Masked() {
			meant = strings.Replace(text, host, p.Masked().String(), 1)
		}
	}
	if suggestion := suggest(text, []string{ConsulCaptures}); suggestion != "" && strings.HasPrefix(text, "@") {
		meant = suggestion
	}
	v.propose(path, err.Error(), meant)
}

// upstreamPlaces checks where an upstream's connections come in.
func (v *validator) upstreamPlaces(path string, u *Upstream) {
	c := v.config
	v.captures(path, u.Captures, Outbound)
	at := join(path, "bind")
	switch {
	case u.Bind != "" || v.given(at) || !c.capturesOutbound():
		if v.required(at, u.Bind) {
			v.address(at, u.Bind, true)
			v.socketMode(path, u.SocketMode, u.Bind)
		}
		return
	case len(u.Captures) == 0 && !v.given(join(path, "captures")) && u.Service != "" && !c.foundByConsul(u):
		v.report(at, fmt.Sprintf("is missing, and so is captures: nothing would lead to %q", u.Service))
	}
	v.socketMode(path, u.SocketMode)
}
