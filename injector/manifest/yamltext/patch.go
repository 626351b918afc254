package yamltext

import (
	"bytes"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Patch makes what differs between before and after different at path, which are the
// keys and numbers that lead there. Both are of values, as from FromJSON or Resolved;
// what of the text neither names stays. A second call for the same document must be for
// another place. Nothing is done before Bytes.
func (d *Document) Patch(path []any, before, after *yaml.Node) error {
	if d.want == nil {
		want, err := Resolved(d.Root)
		if err != nil {
			return err
		}
		d.want = want
	}
	d.want = mergeAt(d.want, path, before, after)
	n := d.Root
	for _, step := range path {
		if n = child(n, step); n == nil {
			return nil // by an alias or a merged key: Bytes rewrites the document
		}
	}
	p := &patcher{text: d.text, style: d.text.styleOf(d.Root), edits: d.edits}
	if p.change(n, before, after, false) {
		d.edits = p.edits
	}
	return nil
}

func child(n *yaml.Node, step any) *yaml.Node {
	switch step := step.(type) {
	case string:
		return Get(n, step)
	case int:
		if n.Kind == yaml.SequenceNode && step < len(n.Content) {
			return n.Content[step]
		}
	}
	return nil
}

func mergeAt(n *yaml.Node, path []any, before, after *yaml.Node) *yaml.Node {
	if len(path) == 0 {
		return merge(n, before, after)
	}
	out := *n
	out.Content = append([]*yaml.Node(nil), n.Content...)
	i, ok := path[0].(int)
	if key, is := path[0].(string); is {
		if i, ok = index(n, key)+1, index(n, key) >= 0; !ok {
			return n
		}
	}
	if ok && i < len(out.Content) {
		out.Content[i] = mergeAt(out.Content[i], path[1:], before, after)
	}
	return &out
}

// Bytes returns the text with all changes.
func (t *Text) Bytes() ([]byte, error) {
	if out := t.applied(); t.asMeant(out) {
		return t.finished(out), nil
	}
	// One was written in a way that the edits have not foreseen: which one?
	for _, d := range t.Documents {
		alone := &Text{Documents: []*Document{d}, data: t.data, parse: t.parse}
		if d.want != nil && !t.only(d, alone.applied()) {
			if err := d.rewrite(); err != nil {
				return nil, err
			}
		}
	}
	out := t.applied()
	if !t.asMeant(out) {
		return nil, fmt.Errorf("it is written in a way that cannot be changed without losing something")
	}
	return t.finished(out), nil
}

// finished is out without the line break that we have added, unless it is part of a value now.
func (t *Text) finished(out []byte) []byte {
	if t.added {
		if shorter := bytes.TrimSuffix(out, []byte(t.newline)); t.asMeant(shorter) {
			return shorter
		}
	}
	return out
}

// asMeant reports whether out says what the changes mean, and what was there.
func (t *Text) asMeant(out []byte) bool {
	roots, err := t.parse(out)
	if err != nil || len(roots) != len(t.Documents) {
		return false
	}
	for i, d := range t.Documents {
		if !d.holds(roots[i]) {
			return false
		}
	}
	return true
}

// only reports whether the edits of d alone lead to what is meant with it.
func (t *Text) only(d *Document, out []byte) bool {
	roots, err := t.parse(out)
	if err != nil || len(roots) != len(t.Documents) {
		return false
	}
	for i, other := range t.Documents {
		if other == d {
			return d.holds(roots[i])
		}
	}
	return false
}

func (d *Document) holds(root *yaml.Node) bool {
	if root != nil && root.Kind == yaml.DocumentNode {
		root = root.Content[0]
	}
	want := d.want
	if want == nil {
		if d.Root == nil {
			return empty(root)
		}
		var err error
		if want, err = Resolved(d.Root); err != nil {
			return len(d.edits) == 0
		}
	}
	got, err := Resolved(root)
	return err == nil && Equal(got, want)
}

// rewrite replaces the whole document by one of the same meaning.
func (d *Document) rewrite() error {
	t := d.text
	start := t.lineStart(t.offset(d.Root))
	if !t.firstOnLine(t.offset(d.Root)) {
		start = t.offset(d.Root)
	}
	s := t.styleOf(d.Root)
	var text string
	var err error
	if s.json {
		text, err = s.flow(d.want, "", true)
		text += "\n"
	} else {
		text, err = s.block(d.want, 0)
	}
	if err != nil {
		return err
	}
	d.edits = []edit{{start, t.lineEnd(t.end(d.Root)), strings.ReplaceAll(text, "\n", t.newline)}}
	return nil
}

// patcher collects the edits of a document.
type patcher struct {
	text  *Text
	style style
	edits []edit
}

func (p *patcher) add(start, end int, text string) {
	p.edits = append(p.edits, edit{start, end, strings.ReplaceAll(text, "\n", p.text.newline)})
}

// change makes edits in n, and reports false where n has to be written anew as a
// whole, which is for whoever holds it.
func (p *patcher) change(n, before, after *yaml.Node, inFlow bool) bool {
	if Equal(before, after) {
		return true
	}
	if before == nil || after == nil || n.Kind != after.Kind || before.Kind != after.Kind || p.text.at(p.text.offset(n)) == '&' {
		return false
	}
	mark := len(p.edits)
	ok := false
	flow := n.Style&yaml.FlowStyle != 0
	switch {
	case n.Kind == yaml.ScalarNode:
		ok = p.scalar(n, after, inFlow)
	case n.Kind == yaml.MappingNode && flow:
		ok = p.flowMapping(n, before, after)
	case n.Kind == yaml.MappingNode:
		ok = p.blockMapping(n, before, after)
	case n.Kind == yaml.SequenceNode && len(n.Content) == len(before.Content) && flow:
		ok = p.flowSequence(n, before, after)
	case n.Kind == yaml.SequenceNode && len(n.Content) == len(before.Content):
		ok = p.blockSequence(n, before, after)
	}
	if !ok {
		p.edits = p.edits[:mark]
	}
	return ok
}

func (p *patcher) scalar(n, after *yaml.Node, inFlow bool) bool {
	start, end := p.text.offset(n), p.text.end(n)
	if start == end || p.text.multiline(start, end) || strings.ContainsAny(after.Value, "\r\n") || n.Style&yaml.TaggedStyle != 0 {
		return false
	}
	text, err := p.style.scalar(n, after, inFlow)
	p.add(start, end, text)
	return err == nil
}

// merged is what n, whose value was before and is to be after, is to say as a whole.
func (p *patcher) merged(n, before, after *yaml.Node) *yaml.Node {
	current, err := Resolved(n)
	if err != nil {
		return after // Bytes notices
	}
	return merge(current, before, after)
}
