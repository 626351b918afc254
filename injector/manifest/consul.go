package manifest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// metaPrefix begins the keys of a service's metadata that are for us.
const metaPrefix = "larboard-"

// metaKeys are all of them.
var metaKeys = []string{"inject", "upstreams", "protocol"}

// definition is what counts of a service definition of Consul, however it is written.
type definition struct {
	file         *file
	line, column int
	path         string

	name, id, kind string
	meta           map[string]string
	// connect says what is there already.
	connect connectState
}

// connectState is what a definition says of Connect.
type connectState int

const (
	noConnect    connectState = iota
	ourSidecar                // injected
	theirs                    // somebody's own
	speaksItself              // the application has a library for it
)

func (d *definition) problem(format string, args ...any) {
	d.file.problems = append(d.file.problems, config.Problem{
		File: d.file.input.Name, Line: d.line, Column: d.column, Path: d.path, Message: fmt.Sprintf(format, args...),
	})
}

// wanted returns the upstreams and the protocol that the sidecar is to have, and whether there is to
// be one. It adds to the summary what becomes of the service; but for a sidecar of ours,
// which the caller compares.
func (d *definition) wanted() (upstreams []upstream, protocol string, ok bool) {
	skip := func(reason string) { d.note(Skipped, reason) }
	for _, key := range slices.Sorted(maps.Keys(d.meta)) {
		name, ours := strings.CutPrefix(key, metaPrefix)
		if ours && !slices.Contains(metaKeys, name) {
			d.problem("unknown metadata %s%s; there are %s%s", metaPrefix, name, metaPrefix, strings.Join(metaKeys, ", "+metaPrefix))
		}
	}
	switch {
	case d.name == "" && d.id == "":
		d.problem("name is missing")
		return nil, "", false
	case d.file.options.Uninject:
		if d.connect != ourSidecar {
			d.note(Unchanged, "")
		}
		return nil, "", false
	case d.kind != "":
		skip(fmt.Sprintf("it is a %s itself", d.kind))
	case d.meta[metaPrefix+"inject"] == "false":
		skip("its metadata larboard-inject is false")
	case d.connect == theirs:
		skip("it has a sidecar already; larboard run --sidecar-for serves that")
	case d.connect == speaksItself:
		skip("it speaks Connect itself")
	default:
		all := strings.Join(append(slices.Clone(d.file.options.Upstreams), d.meta[metaPrefix+"upstreams"]), ",")
		upstreams, err := parseUpstreams(all)
		if err != nil {
			d.problem("%v", err)
		}
		protocol := d.meta[metaPrefix+"protocol"]
		if protocol != "" && !slices.Contains(definedProtocols, protocol) {
			d.problem("metadata %sprotocol: %q is none of %s", metaPrefix, protocol, strings.Join(definedProtocols, ", "))
		}
		return upstreams, protocol, err == nil
	}
	return nil, "", false
}

// definedProtocols are those that Consul knows.
var definedProtocols = []string{"http", "http2", "grpc", "tcp"}

func (d *definition) note(action Action, reason string) {
	w := Workload{Line: d.line, Kind: "service", Name: cmp.Or(d.id, d.name), Action: action, Reason: reason}
	if action == Injected || action == Unchanged && !d.file.options.Uninject {
		w.Run = "larboard run --sidecar-for " + w.Name
	}
	d.file.workloads = append(d.file.workloads, w)
}

// changeDefinitions does JSON.
func (f *file) changeDefinitions() {
	d := f.lone()
	if d == nil {
		return
	}
	root, err := yamltext.Resolved(d.Root)
	if err != nil {
		f.report(d.Root, "", "%v", err)
		return
	}
	if !f.unambiguous(root, "") {
		return
	}
	found := 0
	if one := yamltext.Get(root, "service"); one != nil {
		found++
		f.changeDefinition(d, []any{"service"}, "service", one)
	}
	if all := yamltext.Get(root, "services"); all != nil && all.Kind == yaml.SequenceNode {
		for i, one := range all.Content {
			found++
			f.changeDefinition(d, []any{"services", i}, fmt.Sprintf("services[%d]", i), one)
		}
	}
	if found == 0 {
		f.report(d.Root, "", "holds neither service nor services")
	}
}

func (f *file) changeDefinition(document *yamltext.Document, at []any, path string, n *yaml.Node) {
	if n.Kind != yaml.MappingNode {
		f.report(n, path, "must be a mapping")
		return
	}
	s := &definition{file: f, line: n.Line, column: n.Column, path: path, meta: map[string]string{}}
	s.name, s.id, s.kind = textOf(fold(n, "name")), textOf(fold(n, "id")), textOf(fold(n, "kind"))
	for key, value := range scalars(fold(n, "meta")) {
		s.meta[key] = value.Value
	}
	was := fold(n, "connect")
	if was != nil {
		sidecar := fold(was, "sidecarservice")
		s.connect = connectOf(textOf(fold(was, "native")) == "true", sidecar != nil, textOf(yamltext.Get(fold(fold(sidecar, "proxy"), "config"), config.InjectedBy)) != "")
	}
	upstreams, protocol, ok := s.wanted()
	before, after := mapping(), mapping()
	if s.connect == ourSidecar {
		put(before, keyOf(n, was), was)
	}
	switch {
	case ok:
		is := connectNode(upstreams, protocol)
		put(after, cmp.Or(keyOf(n, was), "connect"), is)
		if yamltext.Equal(was, is) {
			s.note(Unchanged, "")
		} else {
			s.note(Injected, "")
		}
	case s.connect == ourSidecar && f.options.Uninject:
		s.note(Restored, "")
	case s.connect == ourSidecar: // opted out since
	default:
		return
	}
	if err := document.Patch(at, before, after); err != nil {
		f.report(n, path, "%v", err)
	}
}

func connectOf(native, sidecar, ours bool) connectState {
	switch {
	case native:
		return speaksItself
	case sidecar && ours:
		return ourSidecar
	case sidecar:
		return theirs
	}
	return noConnect
}

// fold is the value of a key as Consul reads keys: SidecarService, sidecar_service and sidecarservice
// are one.
func fold(n *yaml.Node, key string) *yaml.Node {
	if n == nil || n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if folded(n.Content[i].Value) == key {
			return n.Content[i+1]
		}
	}
	return nil
}

func folded(key string) string { return strings.ToLower(strings.ReplaceAll(key, "_", "")) }

// keyOf is how n writes the key of value.
func keyOf(n, value *yaml.Node) string {
	for i := 0; value != nil && i+1 < len(n.Content); i += 2 {
		if n.Content[i+1] == value {
			return n.Content[i].Value
		}
	}
	return ""
}

// connectNode is connect with a sidecar.
func connectNode(upstreams []upstream, protocol string) *yaml.Node {
	var all []*yaml.Node
	for _, u := range upstreams {
		n := mapping("destination_name", u.service, "local_bind_port", u.port)
		if p := definedProtocol(u.protocol); p != "" {
			put(n, "config", mapping("protocol", p))
		}
		all = append(all, n)
	}
	return mapping("sidecar_service", mapping("proxy", mapping(
		"upstreams", all, "config", mapping(config.InjectedBy, "larboard", "protocol", definedProtocol(protocol)),
	)))
}

// definedProtocol is a protocol in Consul's words; auto is nothing that it knows.
func definedProtocol(name string) string {
	if name == "auto" {
		return ""
	}
	return name
}
