package file

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/discovery"
)

const (
	maxEndpoints = 10_000
	maxLabels    = 100 // tags, or entries of meta, of one endpoint
	maxWeight    = 65535
	// maxProblems is how many problems of one file are told.
	maxProblems = 3
)

// fields of an endpoint.
var fields = []string{"address", "weight", "id", "tags", "meta", "spiffe_id", "zone"}

// reader turns a document into endpoints and collects what is wrong with it.
type reader struct {
	path     string
	problems []string
	count    int
}

// parse reads the content of a file: a list of endpoints, or a mapping with that
// list as `endpoints`; in YAML, of which JSON is a part. The error names the first
// problems as PATH:LINE:COLUMN.
func parse(path, content string) ([]discovery.Endpoint, error) {
	r := &reader{path: path}
	if root := r.document(content); root != nil {
		if endpoints := r.root(root); r.count == 0 {
			return endpoints, nil
		}
	}
	if more := r.count - len(r.problems); more > 0 {
		r.problems = append(r.problems, fmt.Sprintf("and %d more", more))
	}
	return nil, errors.New(strings.Join(r.problems, "; "))
}

// report notes a problem at a node.
func (r *reader) report(n *yaml.Node, format string, args ...any) {
	r.count++
	if len(r.problems) < maxProblems {
		r.problems = append(r.problems, fmt.Sprintf("%s:%d:%d: ", r.path, n.Line, n.Column)+fmt.Sprintf(format, args...))
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// document returns the one document of the content, nil with a problem.
func (r *reader) document(content string) *yaml.Node {
	if strings.TrimSpace(content) == "" {
		r.report(&yaml.Node{Line: 1, Column: 1}, "the file is empty; write endpoints: [] for no endpoint")
		return nil
	}
	if first := strings.TrimSpace(content)[0]; first == '{' || first == '[' {
		// JSON may be indented with tabs, YAML may not. Inside of a text JSON has none.
		content = strings.ReplaceAll(content, "\t", " ")
	}
	decoder := yaml.NewDecoder(strings.NewReader(content))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == nil {
		err = decoder.Decode(&second)
	}
	switch {
	case err == nil:
		r.report(&second, "a second document begins here")
	case err == io.EOF && document.Kind == yaml.DocumentNode:
		return followed(document.Content[0])
	case err == io.EOF: // comments only
		r.report(&yaml.Node{Line: 1, Column: 1}, "the file is empty; write endpoints: [] for no endpoint")
	default:
		at := yaml.Node{Line: 1, Column: 1}
		if m := yamlLine.FindStringSubmatch(err.Error()); m != nil && m[1] != "" {
			at.Line, _ = strconv.Atoi(m[1])
		}
		r.report(&at, "neither YAML nor JSON: %s", yamlLine.ReplaceAllString(err.Error(), ""))
	}
	return nil
}

func (r *reader) root(n *yaml.Node) []discovery.Endpoint {
	if n.Kind == yaml.MappingNode {
		var list *yaml.Node
		for key, value := range r.entries(n) {
			if key.Value != "endpoints" {
				r.report(key, "unknown field %q; known here: endpoints", key.Value)
				continue
			}
			list = value
		}
		if list == nil {
			r.report(n, "endpoints is missing")
			return nil
		}
		n = list
	}
	if n.Kind != yaml.SequenceNode {
		r.report(n, "must be a list of endpoints; write [] for none")
		return nil
	}
	if len(n.Content) > maxEndpoints {
		r.report(n, "%d endpoints; at most %d are possible", len(n.Content), maxEndpoints)
		return nil
	}
	return r.endpoints(n.Content)
}

func (r *reader) endpoints(items []*yaml.Node) []discovery.Endpoint {
	all := make([]discovery.Endpoint, 0, len(items))
	lines := make(map[string]int, len(items))
	for _, item := range items {
		e := r.endpoint(followed(item))
		if first, twice := lines[e.ID]; twice && e.ID != "" {
			r.report(item, "%q is already the endpoint of line %d", e.ID, first)
		}
		lines[e.ID] = item.Line
		all = append(all, e)
	}
	return all
}

// endpoint reads one item: an address, or a mapping.
func (r *reader) endpoint(n *yaml.Node) discovery.Endpoint {
	e := discovery.Endpoint{Weight: 1, Source: name(r.path)}
	switch n.Kind {
	case yaml.ScalarNode:
		e.Address = r.address(n)
	case yaml.MappingNode:
		r.mapping(n, &e)
	default:
		r.report(n, "an endpoint is an address, or a mapping with address")
	}
	if e.ID == "" {
		e.ID = e.Address
	}
	return e
}

func (r *reader) mapping(n *yaml.Node, e *discovery.Endpoint) {
	addressed := false
	for key, value := range r.entries(n) {
		switch key.Value {
		case "address":
			addressed, e.Address = true, r.address(value)
		case "weight":
			e.Weight = r.weight(value)
		case "id":
			e.ID = r.text(value)
		case "zone":
			e.Zone = r.text(value)
		case "spiffe_id":
			e.Identity = r.identity(value)
		case "tags":
			e.Tags = r.tags(value)
		case "meta":
			e.Meta = r.meta(value)
		default:
			r.report(key, "unknown field %q; known here: %s", key.Value, strings.Join(fields, ", "))
		}
	}
	if !addressed {
		r.report(n, "address is missing")
	}
}

func (r *reader) address(n *yaml.Node) string {
	text := r.text(n)
	if text == "" {
		return ""
	}
	if err := discovery.CheckAddress(text); err != nil {
		r.report(n, "%v", err)
	}
	return text
}

func (r *reader) weight(n *yaml.Node) int {
	w, err := strconv.Atoi(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" || err != nil || w < 0 || w > maxWeight {
		r.report(n, "weight must be a whole number from 0 to %d", maxWeight)
	}
	return w
}

func (r *reader) identity(n *yaml.Node) (id spiffeid.ID) {
	text := r.text(n)
	if text == "" {
		return id
	}
	id, err := spiffeid.FromString(text)
	if err != nil {
		r.report(n, "%q is not a SPIFFE ID: %v", text, err)
	}
	return id
}

func (r *reader) tags(n *yaml.Node) (tags []string) {
	if n.Kind != yaml.SequenceNode || len(n.Content) > maxLabels {
		r.report(n, "tags must be a list of at most %d texts", maxLabels)
		return nil
	}
	for _, one := range n.Content {
		tags = append(tags, r.text(followed(one)))
	}
	return tags
}

func (r *reader) meta(n *yaml.Node) map[string]string {
	if n.Kind != yaml.MappingNode {
		r.report(n, "meta must be a mapping of names to texts")
		return nil
	}
	meta := map[string]string{}
	for key, value := range r.entries(n) {
		meta[key.Value] = r.text(value)
	}
	return meta
}

// text takes every scalar as it is written, so that a tag 1.10 stays 1.10.
func (r *reader) text(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || n.ShortTag() == "!!null" || n.Value == "" {
		r.report(n, "must be a text")
		return ""
	}
	return n.Value
}

// entries yields the keys and values of a mapping; too many, or a key that comes
// twice, is a problem.
func (r *reader) entries(n *yaml.Node) func(yield func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		if len(n.Content) > 2*maxLabels {
			r.report(n, "a mapping of %d entries; at most %d are possible", len(n.Content)/2, maxLabels)
			return
		}
		var seen []string
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if slices.Contains(seen, key.Value) {
				r.report(key, "%q is given twice", key.Value)
				continue
			}
			seen = append(seen, key.Value)
			if !yield(key, followed(n.Content[i+1])) {
				return
			}
		}
	}
}

// followed is what an alias stands for, and any other node itself.
func followed(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
