package yamltext

import (
	"bytes"
	"strings"

	"go.yaml.in/yaml/v3"
)

// end is where n ends: behind its last byte that is no comment, blank or line break. The
// parser tells only where nodes begin.
func (t *Text) end(n *yaml.Node) int {
	at, past := t.properties(t.offset(n))
	switch n.Kind {
	case yaml.AliasNode:
		return min(at+1+len(n.Value), len(t.data))
	case yaml.ScalarNode:
		return t.scalarEnd(n, at, past)
	}
	if bracket := t.at(at); bracket == '{' || bracket == '[' {
		return t.flowEnd(n, at)
	}
	last := past
	for i := max(0, len(n.Content)-2); i < len(n.Content); i++ {
		last = max(last, t.end(n.Content[i]))
	}
	return last
}

// at is the byte at an offset, 0 behind the end.
func (t *Text) at(i int) byte {
	if i < len(t.data) {
		return t.data[i]
	}
	return 0
}

// properties skips anchor and tag; content is where the node's own text begins, past is
// behind the last property.
func (t *Text) properties(at int) (content, past int) {
	past = at
	for t.at(at) == '&' || t.at(at) == '!' {
		for at < len(t.data) && !blank(t.data[at]) && !(t.data[at] == ',' || t.data[at] == ']' || t.data[at] == '}') {
			at++
		}
		past = at
		at = t.skip(at, "")
	}
	return at, past
}

func blank(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// skip goes over blanks, line breaks, comments and the bytes in more.
func (t *Text) skip(at int, more string) int {
	for at < len(t.data) {
		c := t.data[at]
		switch {
		case blank(c) || strings.IndexByte(more, c) >= 0:
			at++
		case c == '#':
			at = t.lineEnd(at)
		default:
			return at
		}
	}
	return at
}

func (t *Text) flowEnd(n *yaml.Node, at int) int {
	at++
	for _, child := range n.Content {
		at = max(at, t.end(child))
	}
	return min(t.skip(at, ",:?")+1, len(t.data)) // the bracket
}

func (t *Text) scalarEnd(n *yaml.Node, at, past int) int {
	switch {
	case n.Style&yaml.DoubleQuotedStyle != 0:
		for at++; at < len(t.data) && t.data[at] != '"'; at++ {
			if t.data[at] == '\\' {
				at++
			}
		}
		return min(at+1, len(t.data))
	case n.Style&yaml.SingleQuotedStyle != 0:
		for at++; at < len(t.data); at++ {
			if t.data[at] != '\'' {
				continue
			}
			if t.at(at+1) != '\'' {
				return at + 1
			}
			at++
		}
		return len(t.data)
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		return t.blockEnd(n, at)
	case n.Value == "":
		return past
	}
	// Plain: the same bytes, but for folded line breaks.
	end := at
	for i := 0; i < len(n.Value); i++ {
		if blank(n.Value[i]) {
			continue
		}
		for at < len(t.data) && t.data[at] != n.Value[i] && blank(t.data[at]) {
			at++
		}
		if t.at(at) != n.Value[i] {
			return end
		}
		at++
		end = at
	}
	return end
}

// blockEnd is the end of a literal or folded scalar whose header is at.
func (t *Text) blockEnd(n *yaml.Node, at int) int {
	next := t.lineEnd(at)
	header := t.data[at:next]
	if i := bytes.IndexByte(header, '#'); i >= 0 {
		header = header[:i]
	}
	end := at + len(bytes.TrimRight(t.data[at:next], "\r\n"))
	if strings.Trim(n.Value, "\n") == "" {
		return end
	}
	keep, indent := bytes.IndexByte(header, '+') >= 0, -1
	for next < len(t.data) {
		start := next
		next = t.lineEnd(start)
		line := bytes.TrimRight(t.data[start:next], "\r\n")
		margin := len(line) - len(bytes.TrimLeft(line, " "))
		if margin == len(line) {
			if keep {
				end = start + len(line)
			}
			continue
		}
		if indent < 0 {
			indent = margin
		}
		if margin < indent {
			break
		}
		end = start + len(line)
	}
	return end
}
