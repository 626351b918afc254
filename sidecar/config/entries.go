package config

import (
	"fmt"
	"iter"

	"go.yaml.in/yaml/v3"
)

// entries yields the keys and values of a mapping, those merged in by << after
// its own, and reports keys that are no plain text or occur twice.
func (d *decoder) entries(n *yaml.Node, path string) iter.Seq2[*yaml.Node, *yaml.Node] {
	return func(yield func(*yaml.Node, *yaml.Node) bool) {
		d.ownEntries(n, path, map[string]*yaml.Node{}, map[*yaml.Node]bool{}, yield)
	}
}

// ownEntries yields the entries of n whose keys are not in seen, and adds them;
// open holds the mappings that are being merged, for the case that one merges
// itself.
func (d *decoder) ownEntries(n *yaml.Node, path string, seen map[string]*yaml.Node, open map[*yaml.Node]bool, yield func(*yaml.Node, *yaml.Node) bool) bool {
	own := map[string]*yaml.Node{}
	var merged []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if !d.spend(key, path) {
			return false
		}
		first := own[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || isNull(key):
			d.report(key, path, "a key must be plain text", "")
		case key.ShortTag() == "!!merge":
			merged = append(merged, value)
		case first != nil:
			d.report(key, join(path, shown(key.Value)), fmt.Sprintf("given twice; the first is on line %d", first.Line), "")
		default:
			own[key.Value] = key
			if seen[key.Value] == nil && !yield(key, value) {
				return false
			}
		}
	}
	for name, key := range own {
		seen[name] = key
	}
	open[n] = true
	defer delete(open, n)
	for _, value := range merged {
		if !d.mergeEntries(value, path, seen, open, yield) {
			return false
		}
	}
	return true
}

// mergeEntries yields the entries of what << names: a mapping or a list of them.
func (d *decoder) mergeEntries(value *yaml.Node, path string, seen map[string]*yaml.Node, open map[*yaml.Node]bool, yield func(*yaml.Node, *yaml.Node) bool) bool {
	list := []*yaml.Node{value}
	if target := followed(value); target.Kind == yaml.SequenceNode {
		list = target.Content
	}
	for _, one := range list {
		if !d.spend(one, path) {
			return false
		}
		target := followed(one)
		switch {
		case target.Kind != yaml.MappingNode:
			d.report(one, path, "<< merges mappings only", "")
		case open[target]:
			d.report(one, path, "<< merges the mapping into itself", "")
		case !d.ownEntries(target, path, seen, open, yield):
			return false
		}
	}
	return true
}

// followed is what an alias stands for, and any other node itself.
func followed(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}
