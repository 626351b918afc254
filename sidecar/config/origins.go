package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Origin says where one value of an expanded configuration comes from.
type Origin struct {
	Path  string     `json:"path"` // in what is printed, like services[0].timeouts.connect
	Value string     `json:"value"`
	From  OriginKind `json:"from"`
	// Source is the field or the shorthand that it comes from; empty for a default, and
	// for what no file says.
	Source string `json:"source,omitempty"`
	Line   int    `json:"line,omitempty"` // of Source in the file; 0: it is not there

	direct bool // the file has it as it is printed
}

// OriginKind is the way a value came into a configuration.
type OriginKind string

// The kinds of origins.
const (
	FromFile       OriginKind = "file"       // written there
	FromDefault    OriginKind = "default"    // of the format
	FromField      OriginKind = "inherited"  // from another field, which may have a default
	FromShorthand  OriginKind = "shorthand"  // what a workload or an upstream comes to
	FromDefinition OriginKind = "definition" // of a sidecar in Consul
	FromInvocation OriginKind = "invocation" // command line or environment
)

// String is the origin in a few words.
func (o Origin) String() string {
	switch o.From {
	case FromDefault:
		return "default"
	case FromDefinition:
		return "definition in Consul"
	case FromInvocation:
		return "command line or environment"
	}
	where := "default"
	if o.Line > 0 {
		where = "line " + strconv.Itoa(o.Line)
	}
	if o.direct {
		return where
	}
	return o.Source + ", " + where
}

// Origins returns where each value of what Expand makes of c comes from, in the order in
// which Print writes them.
func Origins(c *Config) []Origin {
	_, origins := traced(c)
	return origins
}

// traced returns the expanded c as a document, and the origin of each of its leaves.
func traced(c *Config) (root *yaml.Node, origins []Origin) {
	e := expand(c)
	standard := Config{}
	standard.setDefaults()
	t := tracer{expansion: e, defaults: leaves(&standard), settings: leaves(c)}
	root = documentOf(e.out)
	eachLeaf(root, "", func(path string, n *yaml.Node) {
		o := t.origin(path, n.Value)
		o.Path, o.Value = path, n.Value
		origins = append(origins, o)
	})
	return root, origins
}

func leaves(c *Config) map[string]string {
	all := map[string]string{}
	eachLeaf(documentOf(c), "", func(path string, n *yaml.Node) { all[path] = n.Value })
	return all
}

// eachLeaf visits every value of a document that holds no others.
func eachLeaf(n *yaml.Node, path string, visit func(path string, n *yaml.Node)) {
	switch {
	case n.Kind == yaml.MappingNode && len(n.Content) > 0:
		for i := 0; i < len(n.Content); i += 2 {
			eachLeaf(n.Content[i+1], join(path, shown(n.Content[i].Value)), visit)
		}
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			eachLeaf(item, fmt.Sprintf("%s[%d]", path, i), visit)
		}
	default:
		visit(path, n)
	}
}

// tracer finds origins in an expansion.
type tracer struct {
	*expansion
	defaults map[string]string // by path, of what stands outside lists
	settings map[string]string // by path, before the expansion
}

// origin finds where the value printed at path comes from.
func (t *tracer) origin(path, value string) Origin {
	stems, rest, ok := t.listeners, "", false
	if rest, ok = strings.CutPrefix(path, "listeners["); !ok {
		stems = t.services
		rest, ok = strings.CutPrefix(path, "services[")
	}
	if !ok {
		return t.top(path, value)
	}
	index, field, _ := strings.Cut(rest, "].")
	i, err := strconv.Atoi(index)
	if err != nil || i >= len(stems) {
		panic("config: origins: " + path) // the path is our own
	}
	return t.element(stems[i], field, value)
}

// element finds where a field of a listener or of a service comes from.
func (t *tracer) element(of stem, field, value string) Origin {
	source, set := of.source(field)
	if o, ok := t.given(source); ok {
		o.direct = of.made == ""
		return o
	}
	name, isTimeout := strings.CutPrefix(field, "timeouts.")
	all := "timeouts." + name
	known := of.made == "" || t.from.source.has(of.path)
	switch {
	case isTimeout && (known || !set || value == t.settings[all]):
		return t.inherited(all)
	case !known && set && (of.derives(field) || !strings.HasPrefix(field, "register.")):
		return Origin{From: FromDefinition}
	case field == "reason_header" && value == t.settings[field]:
		return t.inherited(field)
	case field == "reason_header": // a mesh listener's own
		return Origin{From: FromDefault}
	case strings.HasSuffix(field, ".identity") && len(t.from.Identities) == 1:
		return t.inherited(join("identities", value))
	case field == "routes[0].service" && of.made == "":
		return t.inherited(join(of.path, "service"))
	case strings.HasPrefix(field, "discovery") && strings.HasSuffix(field, ".consul.service") && t.from.source.has(join(of.described(), "discovery")):
		return t.inherited(of.nameField())
	case field == "health.timeout" && value != "1s":
		return t.inherited(strings.Replace(source, "timeout", "interval", 1))
	case set && of.derives(field):
		return Origin{From: FromShorthand, Source: of.path, Line: t.from.source.at(of.path).line}
	}
	return Origin{From: FromDefault}
}

// top finds where a field outside listeners and services comes from.
func (t *tracer) top(path, value string) Origin {
	if o, ok := t.given(path); ok {
		o.direct = true
		return o
	}
	standard, known := t.defaults[path]
	_, siblings := t.defaults[parentPath(path)+".address"]
	switch {
	case known && standard == value:
		return Origin{From: FromDefault}
	case strings.HasPrefix(path, "consul."):
		if (known || siblings) && !t.from.source.has(path) {
			return Origin{From: FromInvocation}
		}
	case strings.HasSuffix(path, ".consul.service") && t.from.source.has(parentPath(path)):
		return t.namesake(value)
	case known || strings.HasPrefix(path, "identity.") && !t.from.source.has("identity"):
		return Origin{From: FromDefinition}
	}
	return Origin{From: FromDefault}
}

// namesake is the workload that a certificate of Consul's is named after.
func (t *tracer) namesake(service string) Origin {
	if w := t.from.Workload; w != nil && w.Service == service {
		return t.inherited("workload.service")
	}
	i := slices.IndexFunc(t.from.Workloads, func(w Workload) bool { return w.Service == service })
	return t.inherited(join(workloadPath(i), "service"))
}

func (t *tracer) inherited(path string) Origin {
	line := 0
	if o, ok := t.given(path); ok {
		line = o.Line
	}
	return Origin{From: FromField, Source: path, Line: line}
}

// given finds path in the file, where a lone value may stand for a list or a mapping.
func (t *tracer) given(path string) (Origin, bool) {
	s := &t.from.source
	if path == "" {
		return Origin{}, false
	}
	for _, at := range [...]string{path, strings.Replace(path, "discovery.", "discovery[0].", 1)} {
		parent := parentPath(at)
		for _, place := range [...]string{at, parent} {
			lone := place == at || strings.HasSuffix(at, "]") || s.lone[parent] != "" && at == join(parent, s.lone[parent])
			if p, ok := s.positions[place]; ok && lone {
				return Origin{From: FromFile, Source: place, Line: p.line}, true
			}
		}
	}
	return Origin{}, false
}
