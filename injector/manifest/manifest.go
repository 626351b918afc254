// Package manifest puts workloads into the mesh in files that people keep: Kubernetes
// manifests, docker-compose files, Consul's service definitions. Comments, order and
// everything that is not ours stay as they are. It is pure: texts in, texts out.
package manifest

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector"
	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// Kind is what a file is.
type Kind string

// The kinds of files; the zero value is one that holds nothing.
const (
	Kubernetes Kind = "kubernetes"
	Compose    Kind = "compose"
	Consul     Kind = "consul"
)

// Kinds lists all.
func Kinds() []Kind { return []Kind{Kubernetes, Compose, Consul} }

// Input is a file. Its name is only said in problems, and its ending may tell the kind.
type Input struct {
	Name string
	Data []byte
}

// Options are how files are changed.
type Options struct {
	// Kind of all files; empty: each is recognised.
	Kind Kind
	// Uninject takes away what was injected.
	Uninject bool
	// Namespace is the one of manifests that name none.
	Namespace string
	// Settings are those of the installation, for manifests.
	Settings *injector.Settings
	// Image of the proxy in docker-compose files.
	Image string
	// Upstreams are added to each service of Consul's definitions, as NAME:PORT[/PROTOCOL].
	Upstreams []string
}

// Output is what became of a file.
type Output struct {
	Name string `json:"name"`
	Kind Kind   `json:"kind,omitempty"`
	// Data is the whole text; the one that was given where nothing has changed.
	Data      []byte     `json:"-"`
	Changed   bool       `json:"changed"`
	Workloads []Workload `json:"workloads"`
}

// Action is what became of a workload.
type Action string

// The actions.
const (
	Injected  Action = "injected"
	Restored  Action = "restored"  // to what it was before
	Unchanged Action = "unchanged" // it was already so
	Skipped   Action = "skipped"
)

// Workload is one that a file holds.
type Workload struct {
	Line      int      `json:"line"`
	Kind      string   `json:"kind"` // like Deployment, or service
	Namespace string   `json:"namespace,omitempty"`
	Name      string   `json:"name"`
	Action    Action   `json:"action"`
	Reason    string   `json:"reason,omitempty"` // of what was skipped
	Warnings  []string `json:"warnings,omitempty"`
	// Run is the command that runs its proxy, where that is not in the file.
	Run string `json:"run,omitempty"`
}

// Inject changes all inputs, which belong together: a namespace in one counts for the others.
// Where there are problems there is no output.
func Inject(inputs []Input, o Options) ([]Output, config.Problems) {
	var problems config.Problems
	files := make([]*file, len(inputs))
	for i, in := range inputs {
		files[i] = &file{input: in, options: &o}
		files[i].open()
	}
	namespaces := map[string]injector.Namespace{}
	for _, f := range files {
		f.addNamespaces(namespaces)
	}
	outputs := make([]Output, len(files))
	for i, f := range files {
		outputs[i] = f.change(namespaces)
		f.problems.Sort()
		problems = append(problems, f.problems...)
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return outputs, nil
}

// file is one input on its way.
type file struct {
	input   Input
	options *Options

	kind      Kind
	text      *yamltext.Text // nil: HCL, or it could not be read
	workloads []Workload
	problems  config.Problems
}

// report notes a problem at n; nil: with the file.
func (f *file) report(n *yaml.Node, path, format string, args ...any) {
	p := config.Problem{File: f.input.Name, Path: path, Message: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line, p.Column = n.Line, n.Column
	}
	f.problems = append(f.problems, p)
}

// unambiguous reports keys that stand in n twice, of which readers take one or the other.
func (f *file) unambiguous(n *yaml.Node, path string) bool {
	twice := repeated(n)
	for _, key := range twice {
		f.report(key, path, "%s is given twice", key.Value)
	}
	return len(twice) == 0
}

// open parses the file and finds out what it is.
func (f *file) open() {
	if f.options.Kind == Consul && !looksLikeJSON(f.input.Data) || strings.HasSuffix(f.input.Name, ".hcl") {
		f.kind = Consul
		return
	}
	var problem *config.Problem
	text, err := yamltext.New(f.input.Data, func(data []byte) ([]*yaml.Node, error) {
		roots, p := config.Documents(f.input.Name, data)
		if p != nil {
			problem = p
			return nil, fmt.Errorf("%s", p)
		}
		return roots, nil
	})
	if f.options.Kind == "" && (err != nil || onlyText(text)) && isDefinition(f.input.Data) {
		f.kind = Consul
		return
	}
	if err != nil {
		f.problems = append(f.problems, *problem)
		return
	}
	f.text = text
	f.kind = f.options.Kind
	if f.kind == "" {
		f.recognise()
	}
}

func looksLikeJSON(data []byte) bool {
	data = bytes.TrimLeft(bytes.TrimPrefix(data, []byte("\ufeff")), " \t\r\n")
	return bytes.HasPrefix(data, []byte("{"))
}

// onlyText reports whether some document is no mapping and no list: HCL may pass for that.
func onlyText(t *yamltext.Text) bool {
	for _, d := range t.Documents {
		if d.Root != nil && d.Root.Kind == yaml.ScalarNode {
			return true
		}
	}
	return false
}

// recognise tells the kind by what the documents hold.
func (f *file) recognise() {
	var first *yaml.Node
	for _, d := range f.text.Documents {
		if d.Root == nil {
			continue
		}
		if first == nil {
			first = d.Root
		}
		if yamltext.Get(d.Root, "apiVersion") != nil && yamltext.Get(d.Root, "kind") != nil {
			f.kind = Kubernetes
			return
		}
	}
	services := yamltext.Get(first, "services")
	switch {
	case first == nil: // nothing but comments
	case services != nil && services.Kind == yaml.MappingNode:
		f.kind = Compose
	case services != nil && services.Kind == yaml.SequenceNode, isService(yamltext.Get(first, "service")):
		f.kind = Consul
	default:
		f.report(first, "", "is neither a Kubernetes manifest (apiVersion and kind), nor a docker-compose file (services), nor a service definition of Consul; say which with --kind")
	}
}

func isService(n *yaml.Node) bool { return n != nil && n.Kind == yaml.MappingNode }

// change makes the changes of the file's kind.
func (f *file) change(namespaces map[string]injector.Namespace) Output {
	out := Output{Name: f.input.Name, Kind: f.kind, Data: f.input.Data, Workloads: []Workload{}}
	if len(f.problems) > 0 {
		return out
	}
	switch {
	case f.text == nil:
		out.Data = f.changeHCL()
	case f.kind == Kubernetes:
		f.changeManifests(namespaces)
	case f.kind == Compose:
		f.changeCompose()
	case f.kind == Consul:
		f.changeDefinitions()
	}
	if f.text != nil && len(f.problems) == 0 {
		data, err := f.text.Bytes()
		if err != nil {
			f.report(nil, "", "%v", err)
		}
		out.Data = data
	}
	if f.workloads != nil {
		out.Workloads = f.workloads
	}
	out.Changed = !bytes.Equal(out.Data, f.input.Data)
	return out
}

// lone returns the document of a file that is to hold one; nil: nothing, or several.
func (f *file) lone() *yamltext.Document {
	var found *yamltext.Document
	for _, d := range f.text.Documents {
		switch {
		case d.Root == nil:
		case found != nil:
			f.report(d.Root, "", "a second document begins here; such a file holds one")
			return nil
		case d.Root.Kind != yaml.MappingNode:
			f.report(d.Root, "", "must be a mapping")
			return nil
		default:
			found = d
		}
	}
	return found
}
