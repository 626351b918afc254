package yamltext

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// pair is a mapping of one key.
func pair(key, value *yaml.Node) *yaml.Node {
	return &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{key, value}}
}

// blockMapping edits a mapping whose keys stand on lines of their own.
func (p *patcher) blockMapping(n, before, after *yaml.Node) bool {
	t := p.text
	first := t.offset(n.Content[0])
	indent := first - t.lineStart(first)
	if t.at(t.offset(n)) == '?' {
		return false
	}
	kept := make([]bool, len(n.Content)/2)
	left := 0
	for i := range kept {
		key := n.Content[2*i].Value
		if kept[i] = Get(before, key) == nil || Get(after, key) != nil; kept[i] {
			left++
		}
	}
	added := p.missing(n, before, after)
	if left == 0 && len(added) == 0 {
		return false
	}
	for i := range kept {
		key, value := n.Content[2*i], n.Content[2*i+1]
		was, is := Get(before, key.Value), Get(after, key.Value)
		switch {
		case !kept[i] && p.rename(key, value, &added): // another key for the same
		case !kept[i] && len(added) > 0: // what comes takes the place of what goes
			entry := added[0]
			added = added[1:]
			if !p.replaceEntry(n, i, entry.Content[0], styled(entry.Content[1], value), indent) {
				return false
			}
		case !kept[i]:
			if !p.cutEntry(n, kept, i) {
				return false
			}
		case is == nil || p.unchanged(value, was, is) || p.change(value, was, is, false):
		case !p.replaceEntry(n, i, key, p.merged(value, was, is), indent):
			return false
		}
	}
	return p.addEntries(t.lineEnd(t.end(n)), indent, added)
}

// unchanged reports whether nothing is to be done for a value that is in the text.
func (p *patcher) unchanged(value, was, is *yaml.Node) bool {
	return was != nil && Equal(was, is)
}

// missing are the entries that after adds to what n has.
func (p *patcher) missing(n, before, after *yaml.Node) (all []*yaml.Node) {
	for i := 0; i+1 < len(after.Content); i += 2 {
		key, value := after.Content[i], after.Content[i+1]
		if index(n, key.Value) < 0 && !Equal(Get(before, key.Value), value) {
			all = append(all, pair(key, value))
		}
	}
	return all
}

// cutEntry takes away entry i, whose lines are its own; with the first one in a list's item,
// the next that stays takes its place.
func (p *patcher) cutEntry(n *yaml.Node, kept []bool, i int) bool {
	t := p.text
	start := t.offset(n.Content[2*i])
	if t.firstOnLine(start) {
		p.add(t.lineStart(start), t.lineEnd(t.end(n.Content[2*i+1])), "")
		return true
	}
	if i > 0 {
		return false
	}
	for j := range kept {
		if kept[j] {
			p.add(start, t.offset(n.Content[2*j]), "")
			return true
		}
		if j > 0 {
			return false
		}
	}
	return false
}

// rename gives a value that stays the key that one of added has for it, where there is one.
func (p *patcher) rename(key, value *yaml.Node, added *[]*yaml.Node) bool {
	current, err := Resolved(value)
	if err != nil {
		return false
	}
	for i, entry := range *added {
		if Equal(entry.Content[1], current) && p.scalar(key, entry.Content[0], false) {
			*added = slices.Delete(slices.Clone(*added), i, i+1)
			return true
		}
	}
	return false
}

// styled is n in brackets where like is.
func styled(n, like *yaml.Node) *yaml.Node {
	out := *n
	if len(n.Content) > 0 && n.Kind == like.Kind {
		out.Style |= like.Style & yaml.FlowStyle
	}
	return &out
}

// replaceEntry writes entry i anew.
func (p *patcher) replaceEntry(n *yaml.Node, i int, key, value *yaml.Node, indent int) bool {
	t := p.text
	start := t.offset(n.Content[2*i])
	if !t.firstOnLine(start) && i > 0 {
		return false
	}
	text, err := p.style.block(pair(key, value), indent)
	p.add(start, t.lineEnd(t.end(n.Content[2*i+1])), text)
	return err == nil
}

func (p *patcher) addEntries(at, indent int, added []*yaml.Node) bool {
	for _, entry := range added {
		text, err := p.style.block(entry, indent)
		if err != nil {
			return false
		}
		p.add(at, at, strings.Repeat(" ", indent)+text)
	}
	return true
}

// blockSequence edits a list whose dashes stand on lines of their own.
func (p *patcher) blockSequence(n, before, after *yaml.Node) bool {
	t := p.text
	if len(n.Content) == 0 || len(after.Content) == 0 {
		return false
	}
	dashes := make([]int, len(n.Content))
	for i, item := range n.Content {
		if dashes[i] = t.dash(item); dashes[i] < 0 || !t.firstOnLine(dashes[i]) {
			return false
		}
	}
	indent := dashes[0] - t.lineStart(dashes[0])
	at := t.lineStart(dashes[0])
	for _, s := range align(before.Content, after.Content) {
		if s.before < 0 {
			text, err := p.style.item(after.Content[s.after], indent)
			if err != nil {
				return false
			}
			p.add(at, at, strings.Repeat(" ", indent)+text)
			continue
		}
		item := n.Content[s.before]
		start := t.lineStart(dashes[s.before])
		at = t.lineEnd(t.end(item))
		switch {
		case s.after < 0:
			p.add(start, at, "")
		case !p.change(item, before.Content[s.before], after.Content[s.after], false):
			text, err := p.style.item(p.merged(item, before.Content[s.before], after.Content[s.after]), indent)
			if err != nil {
				return false
			}
			p.add(start, at, strings.Repeat(" ", indent)+text)
		}
	}
	return true
}

// dash is where the dash before an item of a list stands; -1: it is not found.
func (t *Text) dash(item *yaml.Node) int {
	at := t.offset(item) - 1
	for at >= 0 && blank(t.data[at]) {
		at--
	}
	if at < 0 || t.data[at] != '-' {
		return -1
	}
	return at
}

// item writes n as an item of a list, each line indented but the first.
func (s style) item(n *yaml.Node, indent int) (string, error) {
	return s.block(&yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{n}}, indent)
}
