// Package yamltext changes YAML and JSON as text: what is to be another value is written
// anew, and every other byte stays as it is, comments, order, quotes and line breaks
// included. It must not know what the documents mean.
//
// A change is told as two trees, before and after (Document.Patch). Where they differ,
// the text is cut at the positions that the parser gives. What comes out is parsed again
// and compared with what was meant (Text.Bytes), so that a document that is
// written in an unforeseen way is rewritten as a whole, and never damaged.
package yamltext

import (
	"bytes"
	"slices"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
)

// Text is a stream of documents with the changes that are to be made. It is for one
// goroutine.
type Text struct {
	Documents []*Document

	data    []byte // ends in a line break
	added   bool   // which is not the file's own
	lines   []int  // where each begins
	newline string
	parse   Parser
}

// Parser returns the root of each document of a text, as yaml.v3 decodes it into a Node.
type Parser func(data []byte) ([]*yaml.Node, error)

// Document is one of a text.
type Document struct {
	// Root is the content with its positions; nil where there are only comments. It is not to be
	// changed.
	Root *yaml.Node

	text  *Text
	want  *yaml.Node // nil: as it is
	edits []edit
}

// edit replaces data[start:end].
type edit struct {
	start, end int
	text       string
}

// New parses data, which stays the caller's. Errors are those of parse.
func New(data []byte, parse Parser) (*Text, error) {
	roots, err := parse(data)
	if err != nil {
		return nil, err
	}
	t := &Text{data: slices.Clone(data), newline: "\n", parse: parse}
	if i := bytes.IndexByte(data, '\n'); i > 0 && data[i-1] == '\r' {
		t.newline = "\r\n"
	}
	if len(data) == 0 || data[len(data)-1] != '\n' {
		t.added = true
		t.data = append(t.data, t.newline...)
	}
	t.findLines()
	for _, root := range roots {
		d := &Document{text: t, Root: root}
		if root != nil && root.Kind == yaml.DocumentNode {
			d.Root = root.Content[0]
		}
		if empty(d.Root) {
			d.Root = nil
		}
		t.Documents = append(t.Documents, d)
	}
	return t, nil
}

// empty reports whether there is nothing but comments.
func empty(n *yaml.Node) bool {
	return n == nil || n.Kind == yaml.ScalarNode && n.Value == "" && n.Style == 0 && n.ShortTag() == "!!null"
}

// findLines notes where lines begin, with the parser's idea of a line break (YAML 1.1).
func (t *Text) findLines() {
	first := 0
	if bytes.HasPrefix(t.data, []byte("\ufeff")) {
		first = 3
	}
	t.lines = []int{first}
	for i := first; i < len(t.data); {
		r, n := utf8.DecodeRune(t.data[i:])
		i += n
		switch {
		case r == '\r' && i < len(t.data) && t.data[i] == '\n':
			// with the line feed
		case r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029':
			t.lines = append(t.lines, i)
		}
	}
}

// offset is where n begins, its anchor and tag included.
func (t *Text) offset(n *yaml.Node) int {
	if n.Line < 1 || n.Line > len(t.lines) {
		return len(t.data)
	}
	at := t.lines[n.Line-1]
	for range n.Column - 1 {
		if at >= len(t.data) {
			break
		}
		_, size := utf8.DecodeRune(t.data[at:])
		at += size
	}
	return min(at, len(t.data))
}

// lineStart is where the line of the byte at begins.
func (t *Text) lineStart(at int) int {
	return bytes.LastIndexByte(t.data[:at], '\n') + 1
}

// lineEnd is where the line after that of the byte at begins.
func (t *Text) lineEnd(at int) int {
	if i := bytes.IndexByte(t.data[at:], '\n'); i >= 0 {
		return at + i + 1
	}
	return len(t.data)
}

// firstOnLine reports whether only blanks stand before the byte at.
func (t *Text) firstOnLine(at int) bool {
	return len(bytes.Trim(t.data[t.lineStart(at):at], " \t")) == 0
}

// multiline reports whether a line ends between two bytes.
func (t *Text) multiline(start, end int) bool {
	return bytes.IndexByte(t.data[start:end], '\n') >= 0
}

// applied is the text with edits made.
func (t *Text) applied() []byte {
	var all []edit
	for _, d := range t.Documents {
		all = append(all, d.edits...)
	}
	// What is inserted comes before what is cut at the same place; insertions at one
	// place stay in their order, inner ones first.
	slices.SortStableFunc(all, func(a, b edit) int {
		if a.start != b.start {
			return a.start - b.start
		}
		return min(a.end-a.start, 1) - min(b.end-b.start, 1)
	})
	var out []byte
	at := 0
	for _, e := range all {
		if e.start < at {
			return nil // they overlap: not to be had as text
		}
		out = append(append(out, t.data[at:e.start]...), e.text...)
		at = e.end
	}
	return append(out, t.data[at:]...)
}
