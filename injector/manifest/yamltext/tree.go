package yamltext

import (
	"errors"

	"go.yaml.in/yaml/v3"
)

// maxNodes bounds what aliases may make of a document.
const maxNodes = 200_000

var errTooLarge = errors.New("its aliases make too large a document")

// Get returns the value of a key of a mapping; nil: there is none, or n is no mapping.
func Get(n *yaml.Node, key string) *yaml.Node {
	if i := index(n, key); i >= 0 {
		return n.Content[i+1]
	}
	return nil
}

// index is where the key stands in Content, and -1 where it does not.
func index(n *yaml.Node, key string) int {
	if n == nil || n.Kind != yaml.MappingNode {
		return -1
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key && n.Content[i].Kind == yaml.ScalarNode {
			return i
		}
	}
	return -1
}

// Resolved is a copy of n without aliases and merged keys, in which only values count.
// The error is of those that grow without measure.
func Resolved(n *yaml.Node) (*yaml.Node, error) {
	budget := maxNodes
	out := resolve(n, &budget)
	if budget < 0 {
		return nil, errTooLarge
	}
	return out, nil
}

func resolve(n *yaml.Node, budget *int) *yaml.Node {
	if *budget--; *budget < 0 || n == nil {
		return n
	}
	if n.Kind == yaml.AliasNode {
		out := resolve(n.Alias, budget)
		return out
	}
	out := *n
	out.Anchor, out.Alias, out.Content = "", nil, make([]*yaml.Node, 0, len(n.Content))
	if n.Kind != yaml.MappingNode {
		for _, child := range n.Content {
			out.Content = append(out.Content, resolve(child, budget))
		}
		return &out
	}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		value := resolve(n.Content[i+1], budget)
		if n.Content[i].ShortTag() == "!!merge" {
			merged = append(merged, sources(value)...)
			continue
		}
		out.Content = append(out.Content, resolve(n.Content[i], budget), value)
	}
	for _, from := range merged {
		for i := 0; i+1 < len(from.Content); i += 2 {
			if index(&out, from.Content[i].Value) < 0 {
				out.Content = append(out.Content, from.Content[i], from.Content[i+1])
			}
		}
	}
	return &out
}

// sources are the mappings that a merge key names.
func sources(value *yaml.Node) []*yaml.Node {
	switch value.Kind {
	case yaml.MappingNode:
		return []*yaml.Node{value}
	case yaml.SequenceNode:
		var all []*yaml.Node
		for _, one := range value.Content {
			if one.Kind == yaml.MappingNode {
				all = append(all, one)
			}
		}
		return all
	}
	return nil
}

// Equal reports whether two trees, both resolved, have the same values; the order of
// keys does not count.
func Equal(a, b *yaml.Node) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || len(a.Content) != len(b.Content) {
		return false
	}
	switch a.Kind {
	case yaml.ScalarNode:
		return a.ShortTag() == b.ShortTag() && (a.Value == b.Value || a.ShortTag() == "!!null")
	case yaml.MappingNode:
		return equalMappings(a, b)
	}
	for i := range a.Content {
		if !Equal(a.Content[i], b.Content[i]) {
			return false
		}
	}
	return true
}

func equalMappings(a, b *yaml.Node) bool {
	for i := 0; i+1 < len(a.Content); i += 2 {
		key := a.Content[i]
		if key.Kind != yaml.ScalarNode { // a complex key: only in its place
			if !Equal(key, b.Content[i]) || !Equal(a.Content[i+1], b.Content[i+1]) {
				return false
			}
			continue
		}
		j := i // mostly
		if b.Content[i].Kind != yaml.ScalarNode || b.Content[i].Value != key.Value {
			j = index(b, key.Value)
		}
		if j < 0 || b.Content[j].ShortTag() != key.ShortTag() || !Equal(a.Content[i+1], b.Content[j+1]) {
			return false
		}
	}
	return true
}

// merge is current with what differs between before and after. None is changed.
func merge(current, before, after *yaml.Node) *yaml.Node {
	switch {
	case current == nil || before == nil:
		return after
	case Equal(before, after):
		return current
	case all(yaml.MappingNode, current, before, after):
		return mergeMappings(current, before, after)
	case all(yaml.SequenceNode, current, before, after) && len(current.Content) == len(before.Content):
		out := *current
		out.Content = nil
		for _, s := range align(before.Content, after.Content) {
			switch {
			case s.before < 0:
				out.Content = append(out.Content, after.Content[s.after])
			case s.after >= 0:
				out.Content = append(out.Content, merge(current.Content[s.before], before.Content[s.before], after.Content[s.after]))
			}
		}
		return &out
	}
	return after
}

func mergeMappings(current, before, after *yaml.Node) *yaml.Node {
	out := *current
	out.Content = nil
	for i := 0; i+1 < len(current.Content); i += 2 {
		key, value := current.Content[i], current.Content[i+1]
		was, is := Get(before, key.Value), Get(after, key.Value)
		switch {
		case was == nil && is == nil || key.Kind != yaml.ScalarNode:
		case is == nil:
			continue
		default:
			value = merge(value, was, is)
		}
		out.Content = append(out.Content, key, value)
	}
	for i := 0; i+1 < len(after.Content); i += 2 {
		key := after.Content[i]
		if index(current, key.Value) < 0 && !Equal(Get(before, key.Value), after.Content[i+1]) {
			out.Content = append(out.Content, key, after.Content[i+1])
		}
	}
	return &out
}

func all(kind yaml.Kind, nodes ...*yaml.Node) bool {
	for _, n := range nodes {
		if n.Kind != kind {
			return false
		}
	}
	return true
}

// step is an item that stays (perhaps changed), goes (after < 0) or comes (before < 0).
type step struct{ before, after int }

// align says which items of two lists are the same ones: those that are equal, or
// mappings of one name. It is the longest common subsequence.
func align(before, after []*yaml.Node) []step {
	length := make([][]int, len(before)+1)
	for i := range length {
		length[i] = make([]int, len(after)+1)
	}
	for i := len(before) - 1; i >= 0; i-- {
		for j := len(after) - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if same(before[i], after[j]) {
				length[i][j] = max(length[i][j], length[i+1][j+1]+1)
			}
		}
	}
	var steps []step
	i, j := 0, 0
	for i < len(before) || j < len(after) {
		switch {
		case i < len(before) && j < len(after) && same(before[i], after[j]) && length[i][j] == length[i+1][j+1]+1:
			steps = append(steps, step{i, j})
			i, j = i+1, j+1
		case j < len(after) && (i == len(before) || length[i][j] == length[i][j+1]):
			steps = append(steps, step{-1, j})
			j++
		default:
			steps = append(steps, step{i, -1})
			i++
		}
	}
	return steps
}

func same(a, b *yaml.Node) bool {
	if name := Get(a, "name"); name != nil {
		return Equal(name, Get(b, "name"))
	}
	return Equal(a, b)
}
