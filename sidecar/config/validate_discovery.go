package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"time"
)

// maxSources bounds the sources of one service.
const maxSources = 16

func (v *validator) discovery(path string, list Discovery) {
	if v.given(path) && len(list) == 0 {
		v.report(path, "the list is empty")
	}
	if len(list) > maxSources {
		v.report(path, fmt.Sprintf("has %d sources; at most %d are possible", len(list), maxSources))
	}
	for i := range list {
		v.discoverySource(v.elementPath(path, i), &list[i])
	}
}

func (v *validator) discoverySource(path string, d *DiscoverySource) {
	v.exclusive(path, "consul", "dns")
	v.exclusive(path, "consul", "file")
	v.exclusive(path, "dns", "file")
	switch {
	case d.Consul != nil:
		v.consulDiscovery(join(path, "consul"), d.Consul)
	case d.DNS != nil:
		v.dnsDiscovery(join(path, "dns"), d.DNS)
	case d.File != nil:
		v.required(join(path, "file.path"), d.File.Path)
	default:
		v.incomplete(path, "needs a source: "+strings.Join(fieldNames(reflect.TypeFor[DiscoverySource]()), ", "))
	}
}

func (v *validator) consulDiscovery(path string, d *ConsulDiscovery) {
	v.onEmpty(join(path, "on_empty"), d.OnEmpty)
	for i, tag := range d.Tags {
		if tag == "" {
			v.report(fmt.Sprintf("%s.tags[%d]", path, i), "is empty")
		}
	}
}

func (v *validator) onEmpty(path string, o OnEmpty) {
	v.choice(path, string(o), nil, string(ConfirmEmpty), string(KeepEmpty), string(AcceptEmpty))
}

func (v *validator) dnsDiscovery(path string, d *DNSDiscovery) {
	v.onEmpty(join(path, "on_empty"), d.OnEmpty)
	v.oneOf(join(path, "type"), d.Type, DNSA, DNSAAAA, DNSSRV)
	v.dnsName(join(path, "name"), d.Name)
	switch port := join(path, "port"); {
	case d.Type != DNSSRV && !v.given(port):
		v.report(port, "is missing; only records of type srv have ports of their own")
	case d.Type != DNSSRV:
		v.between(port, d.Port, 1, 65535)
	case d.Port != 0:
		v.report(port, "is for types a and aaaa; records of type srv have ports of their own")
	}
	for i, one := range d.Resolvers {
		v.resolver(fmt.Sprintf("%s.resolvers[%d]", path, i), one)
	}
	if low := Duration(100 * time.Millisecond); d.MinTTL < low {
		v.report(join(path, "min_ttl"), fmt.Sprintf("%s is less than %s; the name would be asked for too often", d.MinTTL, low))
	}
	if d.MaxTTL < d.MinTTL {
		v.report(join(path, "max_ttl"), fmt.Sprintf("%s is less than min_ttl, %s", d.MaxTTL, d.MinTTL))
	}
}

func (v *validator) dnsName(path, name string) {
	if !v.required(path, name) {
		return
	}
	bare := strings.TrimSuffix(name, ".")
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		v.report(path, fmt.Sprintf("%q is an address; write it under endpoints", name))
	} else if host, port, ok := strings.Cut(name, ":"); ok && validHost(host) {
		v.report(path, fmt.Sprintf("%q has a port; write name: %s and port: %s", name, host, port))
	} else if !validHost(bare) {
		v.report(path, fmt.Sprintf("%q is not a DNS name", name))
	}
}

// resolver checks IP or IP:port.
func (v *validator) resolver(path, text string) {
	if _, err := netip.ParseAddr(text); err == nil {
		return
	}
	if addr, err := netip.ParseAddrPort(text); err != nil || addr.Port() == 0 {
		v.report(path, fmt.Sprintf("%q is not the address of a resolver: IP, or IP:port", text))
	}
}
