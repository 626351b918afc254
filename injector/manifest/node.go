package manifest

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/injector/manifest/yamltext"
)

// node is a tree of value: a text, number or truth value, list of texts, or a tree already.
func node(value any) *yaml.Node {
	switch value := value.(type) {
	case *yaml.Node:
		return value
	case []*yaml.Node:
		return &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq", Content: value}
	case []string:
		list := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
		for _, one := range value {
			list.Content = append(list.Content, node(one))
		}
		return list
	case string:
		return yamltext.Scalar(value)
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: map[bool]string{true: "!!bool", false: "!!int"}[value == true || value == false], Value: fmt.Sprint(value)}
}

// mapping is a tree of keys with values, without those that are "", nil or empty lists.
func mapping(pairs ...any) *yaml.Node {
	m := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i := 0; i+1 < len(pairs); i += 2 {
		switch value := pairs[i+1].(type) {
		case nil:
			continue
		case string:
			if value == "" {
				continue
			}
		case []string:
			if len(value) == 0 {
				continue
			}
		case []*yaml.Node:
			if len(value) == 0 {
				continue
			}
		case *yaml.Node:
			if value == nil {
				continue
			}
		}
		m.Content = append(m.Content, node(pairs[i]), node(pairs[i+1]))
	}
	return m
}

// flow has n written between brackets.
func flow(n *yaml.Node) *yaml.Node {
	n.Style |= yaml.FlowStyle
	return n
}

// bare is n without comments.
func bare(n *yaml.Node) *yaml.Node {
	if n == nil {
		return nil
	}
	out := *n
	out.HeadComment, out.LineComment, out.FootComment, out.Content = "", "", "", nil
	for _, child := range n.Content {
		out.Content = append(out.Content, bare(child))
	}
	return &out
}

// scalars are the values of a mapping's texts and numbers, by key.
func scalars(n *yaml.Node) map[string]*yaml.Node {
	all := map[string]*yaml.Node{}
	for i := 0; n != nil && n.Kind == yaml.MappingNode && i+1 < len(n.Content); i += 2 {
		if n.Content[i+1].Kind == yaml.ScalarNode {
			all[n.Content[i].Value] = n.Content[i+1]
		}
	}
	return all
}

// textOf is the value of a scalar, and "" of anything else.
func textOf(n *yaml.Node) string {
	if n == nil || n.Kind != yaml.ScalarNode {
		return ""
	}
	return n.Value
}

// overlay puts over on top of base: mappings by their keys, everything else as a whole; null takes a
// key away.
func overlay(base, over *yaml.Node) {
	for i := 0; i+1 < len(over.Content); i += 2 {
		key, value := over.Content[i], over.Content[i+1]
		at := -1
		for j := 0; j+1 < len(base.Content); j += 2 {
			if base.Content[j].Value == key.Value {
				at = j
			}
		}
		switch {
		case value.ShortTag() == "!!null" && at >= 0:
			base.Content = append(base.Content[:at], base.Content[at+2:]...)
		case value.ShortTag() == "!!null":
		case at < 0:
			base.Content = append(base.Content, key, value)
		case base.Content[at+1].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			overlay(base.Content[at+1], value)
		default:
			base.Content[at+1] = value
		}
	}
}

// written is n as YAML.
func written(n *yaml.Node) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	e.CompactSeqIndent()
	if err := e.Encode(n); err != nil {
		return "", err
	}
	return b.String(), e.Close()
}

// list splits what stands between commas.
func list(text string) (all []string) {
	for one := range strings.SplitSeq(text, ",") {
		if one = strings.TrimSpace(one); one != "" {
			all = append(all, one)
		}
	}
	return all
}

// repeated returns keys of n and below that stand in their mapping a second time.
func repeated(n *yaml.Node) (all []*yaml.Node) {
	seen := map[string]bool{}
	for i, child := range n.Content {
		if n.Kind == yaml.MappingNode && i%2 == 0 && child.Kind == yaml.ScalarNode {
			if seen[child.Value] {
				all = append(all, child)
			}
			seen[child.Value] = true
		}
		all = append(all, repeated(child)...)
	}
	return all
}
