package manifest

import (
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// labelPrefix begins the labels of docker-compose services that are for us.
const labelPrefix = "larboard."

// sidecarLabel marks a service that was added for another one, which it names.
const sidecarLabel = labelPrefix + "sidecar-for"

// Label is a setting of a service in a docker-compose file.
type Label struct {
	Name    string // without larboard.
	Values  string // as the manual writes them
	Default string // likewise; empty: none
	Meaning string
}

// Labels lists all, in the order of the manual.
func Labels() []Label {
	return []Label{
		{"inject", "`true`, `false`", "`true` where a service has any other of these labels", "whether it gets a proxy"},
		{"service", "a name", "the service's own in the file", "the name that others know it by"},
		{"port", "`8080`, `8080/http`, `none`", "the first of `expose`, else of `ports`", "the application's port, and what it speaks: `auto`, `http`, `http2`, `grpc` or `tcp`; `none` where it only calls others"},
		{"upstreams", "`stock:9191`, `stock:9191, db:5432/tcp`", "", "services to call, each at a port of 127.0.0.1"},
		{"protocol", "as for `port`", "`auto`", "what ports and upstreams speak that do not say so"},
		{"allow", "SPIFFE IDs, as in [`allow`](configuration.md)", "all of the own trust domain", "who may call"},
		{"intentions", "`true`, `false`", "`false`", "have Consul's intentions decide who may call"},
		{"register", "`true`, `false`", "`true`", "register it in Consul while it is ready"},
		{"consul-address", "`HOST:PORT`, `https://HOST:PORT`", "`consul:8500`", "the Consul agent or server"},
		{"identity", "`spiffe`, `consul`, `files`, `dev`", "`spiffe`", "where the proxy's certificate comes from"},
		{"identity-volume", "a volume's name, or a path of the host", "`/run/spire/sockets` for `spiffe`", "the directory with SPIRE's `agent.sock`; with `tls.crt`, `tls.key` and `ca.crt` for `files`; with the state of the development authority for `dev`"},
		{"trust-domain", "a name", "", "that of the identity `dev`"},
		{"order", "`after`, `before`", "`after`", "whether the proxy starts after its application and ends before it, or the other way round"},
		{"depends-on", "names of services", "", "what the proxy waits for beside its application, where it is in this file, the agent of Consul"},
		{"user", "`1337`, `1337:1337`", "`1337:1337`", "the proxy's user and group: SPIRE's agent may tell workloads apart by it"},
		{"image", "an image", "`${LARBOARD_IMAGE:-larboard/larboard:VERSION}`", "the proxy's image"},
		{"log-level", "`debug`, `info`, `warn`, `error`", "`info`", "of the proxy's own log"},
		{"cpu-limit", "`0.5`", "none", "CPUs for the proxy"},
		{"memory-limit", "`64m`", "none", "memory for the proxy"},
		{"config", "YAML", "", "a part of the proxy's [configuration](configuration.md) that is put over the generated one: mappings by their keys, everything else as a whole; `null` takes a field away"},
	}
}

// labels are those of a service that are for us, by name.
type labels map[string]*yaml.Node

// takeLabels returns those of a service. It reports unknown ones.
func (f *file) takeLabels(service string, n *yaml.Node) labels {
	found := labels{}
	take := func(key string, value, at *yaml.Node) {
		name, ours := strings.CutPrefix(key, labelPrefix)
		if !ours {
			return
		}
		copied := *value
		copied.Line, copied.Column = at.Line, at.Column
		found[name] = &copied
	}
	all := yamltext.Get(n, "labels")
	switch {
	case all == nil:
	case all.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(all.Content); i += 2 {
			key, value := all.Content[i].Value, all.Content[i+1]
			if strings.HasPrefix(key, labelPrefix) && value.Kind != yaml.ScalarNode {
				f.report(value, "services."+service, "the label %s must be a text", key)
				continue
			}
			take(key, value, value)
		}
	case all.Kind == yaml.SequenceNode:
		for _, one := range all.Content {
			key, value, _ := strings.Cut(textOf(one), "=")
			take(key, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: value}, one)
		}
	}
	var names []string
	for _, l := range Labels() {
		names = append(names, l.Name)
	}
	for name, value := range found {
		switch near := config.Suggest(name, names); {
		case contains(names, name) && strings.TrimSpace(value.Value) == "":
			f.report(value, "services."+service, "the label %s%s has no value; leave it out for the default", labelPrefix, name)
		case contains(names, name):
		default:
			f.report(value, "services."+service, "unknown label %s%s", labelPrefix, name)
			if near != "" {
				f.problems[len(f.problems)-1].Suggestion = labelPrefix + near
			}
		}
	}
	return found
}

func contains(all []string, one string) bool {
	for _, other := range all {
		if other == one {
			return true
		}
	}
	return false
}
