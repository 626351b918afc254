package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
)

// The values of the label order.
const (
	// orderAfter has the proxy join the application's network, once the application runs.
	orderAfter = "after"
	// orderBefore has the application join the proxy's network, once the proxy is ready.
	orderBefore = "before"
)

// keptPrefix is before the keys of an application whose network is the proxy's, as they were; the
// proxy has them. docker-compose ignores keys that begin with x-.
const keptPrefix = "x-larboard-"

// ofNetwork are the keys of a service that belong to whoever has the network.
var ofNetwork = []string{
	"ports", "expose", "networks", "hostname", "domainname", "dns", "dns_search", "dns_opt", "extra_hosts", "mac_address",
}

// order is the value of the label order.
func (s *composeService) order() string {
	l := s.labels["order"]
	if l == nil || l.Value == orderAfter {
		return orderAfter
	}
	if l.Value != orderBefore {
		s.problem(l, "the label %sorder: %q is neither %s nor %s", labelPrefix, l.Value, orderBefore, orderAfter)
	}
	for _, field := range []string{"network_mode", "links", "external_links"} {
		if n := yamltext.Get(s.n, field); n != nil {
			s.problem(n, "with the label %sorder: %s the network is the proxy's, and %s cannot stand here", labelPrefix, orderBefore, field)
		}
	}
	return orderBefore
}

// behind is an application that joins its proxy's network and starts once the proxy is ready.
func (s *composeService) behind() *yaml.Node {
	out := *s.n
	out.Content = nil
	depends := mapping()
	for i := 0; i+1 < len(s.n.Content); i += 2 {
		key, value := s.n.Content[i], s.n.Content[i+1]
		switch {
		case contains(ofNetwork, key.Value):
			key = node(keptPrefix + key.Value)
		case key.Value == "depends_on" && value.Kind == yaml.MappingNode:
			copied := *value
			depends = &copied
			continue
		case key.Value == "depends_on":
			for _, one := range value.Content {
				put(depends, one.Value, mapping("condition", "service_started"))
			}
			key = node(keptPrefix + key.Value)
		}
		out.Content = append(out.Content, key, value)
	}
	put(depends, s.sidecarName(), mapping("condition", "service_healthy"))
	put(&out, "network_mode", node("service:"+s.sidecarName()))
	put(&out, "depends_on", depends)
	return &out
}

// original is a service as it was before an injection.
func original(name string, n *yaml.Node) *yaml.Node {
	if textOf(yamltext.Get(n, "network_mode")) != "service:"+name+"-larboard" {
		return n
	}
	out := *n
	out.Content = nil
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		old, kept := strings.CutPrefix(key.Value, keptPrefix)
		switch {
		case kept:
			key = node(old)
		case key.Value == "network_mode" || yamltext.Get(n, keptPrefix+key.Value) != nil:
			continue
		case key.Value == "depends_on":
			if value = depending(value, map[string]bool{name + "-larboard": false}); len(value.Content) == 0 {
				continue
			}
		}
		out.Content = append(out.Content, key, value)
	}
	return &out
}

// networks are those of a service whose network is its proxy's, in which it has its name.
func (s *composeService) networks() *yaml.Node {
	given := yamltext.Get(s.n, "networks")
	named := func() *yaml.Node { return mapping("aliases", flow(node([]string{s.name}))) }
	out := mapping()
	switch {
	case given == nil:
		put(out, "default", named())
	case given.Kind == yaml.SequenceNode:
		for _, one := range given.Content {
			put(out, one.Value, named())
		}
	default:
		for i := 0; i+1 < len(given.Content); i += 2 {
			settings := named()
			if old := given.Content[i+1]; old.Kind == yaml.MappingNode {
				settings = bare(old)
				aliases := node([]string{s.name})
				if more := yamltext.Get(old, "aliases"); more != nil {
					aliases.Content = append(aliases.Content, bare(more).Content...)
				}
				overlay(settings, mapping("aliases", aliases))
			}
			put(out, given.Content[i].Value, settings)
		}
	}
	return out
}

// takeNetwork gives the sidecar n what belongs to the network.
func (s *composeService) takeNetwork(n *yaml.Node) {
	for _, key := range ofNetwork {
		if value := yamltext.Get(s.n, key); value != nil && key != "networks" {
			put(n, key, bare(value))
		}
	}
	put(n, "networks", s.networks())
}
