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
		if d.budget--; d.budget < 0 {
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
	place := value
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	switch {
	case open[value]:
		d.report(place, path, "<< merges the mapping into itself", "")
	case value.Kind == yaml.MappingNode:
		return d.ownEntries(value, path, seen, open, yield)
	case value.Kind == yaml.SequenceNode:
		open[value] = true
		defer delete(open, value)
		for _, one := range value.Content {
			if !d.mergeEntries(one, path, seen, open, yield) {
				return false
			}
		}
	default:
		d.report(place, path, "<< merges mappings only", "")
	}
	return true
}
