package injector

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// mapping is a YAML mapping of pairs of a name and a value, in their order; what is empty is
// left out, and a mapping without entries is nil. Values are texts, numbers, truths, lists of
// texts, and nodes.
func mapping(pairs ...any) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i < len(pairs); i += 2 {
		if value := nodeOf(pairs[i+1]); value != nil {
			n.Content = append(n.Content, nodeOf(pairs[i]), value)
		}
	}
	if len(n.Content) == 0 {
		return nil
	}
	return n
}

// present is a mapping that counts by being there.
func present() *yaml.Node { return &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"} }

func nodeOf(value any) *yaml.Node {
	switch v := value.(type) {
	case *yaml.Node:
		if v == nil {
			return nil
		}
		return v
	case []*yaml.Node:
		if len(v) == 0 {
			return nil
		}
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: v}
	case []string:
		var all []*yaml.Node
		for _, one := range v {
			all = append(all, nodeOf(one))
		}
		return nodeOf(all)
	case string:
		return textNode(v)
	case int:
		if v == 0 {
			return nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.Itoa(v)}
	case float64:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: strconv.FormatFloat(v, 'f', -1, 64)}
	case bool:
		if !v {
			return nil
		}
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"}
	}
	panic(fmt.Sprintf("injector: no way to write a %T", value))
}

// textNode quotes what Kubernetes will replace: what comes in its place must stay a text.
func textNode(text string) *yaml.Node {
	if text == "" {
		return nil
	}
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	if strings.Contains(text, "$(") {
		n.Style = yaml.DoubleQuotedStyle
	}
	return n
}

func writeYAML(root *yaml.Node) string {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		panic("injector: write: " + err.Error()) // the nodes are our own, or have been read
	}
	return out.String()
}

// merge puts over, a mapping, over base, another: mappings by their keys, everything else as a
// whole; null takes a field away. The nodes of over stay as they are and are shared.
func merge(base, over *yaml.Node) {
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		at := fieldAt(base, key.Value)
		switch {
		case value.ShortTag() == "!!null":
			if at >= 0 {
				base.Content = append(base.Content[:at-1], base.Content[at+1:]...)
			}
		case at < 0:
			base.Content = append(base.Content, key, copied(value))
		case value.Kind == yaml.MappingNode && base.Content[at].Kind == yaml.MappingNode:
			merge(base.Content[at], value)
		default:
			base.Content[at] = copied(value)
		}
	}
}

// copied is n with nodes of its own.
func copied(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = nil
	for _, one := range n.Content {
		out.Content = append(out.Content, copied(one))
	}
	return &out
}

// fieldAt is the index of the value of a mapping's field, or -1.
func fieldAt(n *yaml.Node, name string) int {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return i + 1
		}
	}
	return -1
}

// placeOf is where in root the field at path stands, like upstreams[1].bind, or the nearest thing
// around it; nil: not even what is outermost. A field is found by its value where that is a scalar
// and key is false, otherwise by its name.
func placeOf(root *yaml.Node, path string, key bool) *yaml.Node {
	var nearest *yaml.Node
	n := root
	for path != "" && n != nil {
		var step string
		step, path = firstStep(path)
		if index, ok := strings.CutPrefix(step, "["); ok {
			i, err := strconv.Atoi(strings.TrimSuffix(index, "]"))
			if err != nil || n.Kind != yaml.SequenceNode || i >= len(n.Content) {
				return nearest
			}
			n = n.Content[i]
			nearest = n
			continue
		}
		at := -1
		if n.Kind == yaml.MappingNode {
			at = fieldAt(n, step)
		}
		if at < 0 {
			return nearest
		}
		nearest, n = n.Content[at-1], n.Content[at]
		if n.Kind == yaml.ScalarNode && !key {
			nearest = n
		}
	}
	return nearest
}

// firstStep cuts the first step off a path: a.b gives a, [2].b gives [2].
func firstStep(path string) (step, rest string) {
	if path[0] == '[' {
		step, rest, _ = strings.Cut(path, "]")
		return step + "]", strings.TrimPrefix(rest, ".")
	}
	end := strings.IndexAny(path, ".[")
	if end < 0 {
		return path, ""
	}
	return path[:end], strings.TrimPrefix(path[end:], ".")
}
