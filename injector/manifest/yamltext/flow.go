package yamltext

import (
	"go.yaml.in/yaml/v3"
)

// entry is one of a collection in brackets.
type entry struct {
	start, end int
	goes       bool
}

// comes is text to be added behind the entry with this number; -1: before all.
type comes struct {
	behind int
	text   string
}

// flowMapping edits a mapping in braces.
func (p *patcher) flowMapping(n, before, after *yaml.Node) bool {
	t := p.text
	margin, multiline := p.margin(n)
	entries := make([]entry, len(n.Content)/2)
	for i := range entries {
		key, value := n.Content[2*i], n.Content[2*i+1]
		was, is := Get(before, key.Value), Get(after, key.Value)
		entries[i] = entry{start: t.offset(key), end: max(t.end(key), t.end(value)), goes: was != nil && is == nil}
		if is == nil || p.unchanged(value, was, is) || p.change(value, was, is, true) {
			continue
		}
		text, err := p.style.flow(p.merged(value, was, is), margin, multiline && t.multiline(t.offset(value), t.end(value)))
		if err != nil || t.offset(value) == t.end(value) {
			return false
		}
		p.add(t.offset(value), t.end(value), text)
	}
	var added []comes
	for _, one := range p.missing(n, before, after) {
		text, err := p.style.flowEntry(one.Content[0], one.Content[1], margin, multiline)
		if err != nil {
			return false
		}
		added = append(added, comes{len(entries) - 1, text})
	}
	return p.flowEntries(n, entries, added, margin, multiline)
}

// flowSequence edits a list in brackets.
func (p *patcher) flowSequence(n, before, after *yaml.Node) bool {
	t := p.text
	margin, multiline := p.margin(n)
	entries := make([]entry, len(n.Content))
	for i, item := range n.Content {
		entries[i] = entry{start: t.offset(item), end: t.end(item)}
	}
	var added []comes
	last := -1
	for _, s := range align(before.Content, after.Content) {
		if s.before >= 0 && s.after >= 0 && p.change(n.Content[s.before], before.Content[s.before], after.Content[s.after], true) {
			last = s.before
			continue
		}
		if s.before >= 0 {
			last = s.before
			entries[last].goes = true
		}
		if s.after < 0 {
			continue
		}
		value := after.Content[s.after]
		if s.before >= 0 {
			value = p.merged(n.Content[s.before], before.Content[s.before], value)
		}
		text, err := p.style.flow(value, margin, multiline)
		if err != nil {
			return false
		}
		added = append(added, comes{last, text})
	}
	return p.flowEntries(n, entries, added, margin, multiline)
}

// margin is the indentation of the entries of n, and whether they stand on lines of their own.
func (p *patcher) margin(n *yaml.Node) (string, bool) {
	t := p.text
	if len(n.Content) == 0 || n.Content[0].Line == n.Line {
		return "", false
	}
	first := t.offset(n.Content[0])
	return string(t.data[t.lineStart(first):first]), t.firstOnLine(first)
}

// flowEntries takes away the entries that go and adds others, with the commas between.
func (p *patcher) flowEntries(n *yaml.Node, entries []entry, added []comes, margin string, multiline bool) bool {
	t := p.text
	open, _ := t.properties(t.offset(n))
	if c := t.at(open); c != '{' && c != '[' {
		return false // a pair without braces
	}
	separator := ", "
	if multiline {
		separator = ",\n" + margin
	}
	for i := 0; i < len(entries); i++ {
		if !entries[i].goes {
			continue
		}
		run := i
		for run+1 < len(entries) && entries[run+1].goes {
			run++
		}
		switch {
		case run+1 < len(entries):
			p.add(entries[i].start, entries[run+1].start, "")
		case i > 0:
			p.add(entries[i-1].end, entries[run].end, "")
		default:
			p.add(entries[0].start, entries[run].end, "")
		}
		i = run
	}
	for _, one := range added {
		before := one.behind
		for before >= 0 && entries[before].goes {
			before--
		}
		next := before + 1
		for next < len(entries) && entries[next].goes {
			next++
		}
		switch {
		case before >= 0:
			p.add(entries[before].end, entries[before].end, separator+one.text)
		case next < len(entries):
			p.add(entries[0].start, entries[0].start, one.text+separator)
		default:
			p.add(open+1, open+1, one.text)
			before = -1
		}
	}
	return len(added) < 2 || anyStays(entries) // several alone would lack their commas
}

func anyStays(entries []entry) bool {
	for _, e := range entries {
		if !e.goes {
			return true
		}
	}
	return false
}
