package yamltext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// FromJSON is a tree of JSON text, in its order, to be written as block YAML.
func FromJSON(data []byte) (*yaml.Node, error) {
	var document yaml.Node
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("yamltext: %w", err)
	}
	if document.Kind == 0 {
		return nil, fmt.Errorf("yamltext: no JSON")
	}
	plain(document.Content[0])
	return document.Content[0], nil
}

// plain takes away quotes and brackets; what has to have them gets them when written.
func plain(n *yaml.Node) {
	n.Tag, n.Style = n.ShortTag(), 0
	quote(n)
	if len(n.Content) == 0 && n.Kind != yaml.ScalarNode {
		n.Style = yaml.FlowStyle
	}
	for _, child := range n.Content {
		plain(child)
	}
}

func quote(n *yaml.Node) {
	if _, truth := oldTruth[strings.ToLower(n.Value)]; n.Tag == "!!str" && (truth || base60.MatchString(n.Value)) {
		n.Style = yaml.DoubleQuotedStyle
	}
}

// base60 is what YAML 1.1 takes for a number, like 22:22.
var base60 = regexp.MustCompile(`^[-+]?[0-9][0-9_]*(:[0-5]?[0-9])+(\.[0-9_]*)?$`)

// JSON is n, resolved, as JSON in its own order. Plain yes, no, on and off are truth values, as
// Kubernetes' tools read them (YAML 1.1); a key is a text.
func JSON(n *yaml.Node) ([]byte, error) {
	var b bytes.Buffer
	if err := writeJSON(&b, n); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

func writeJSON(b *bytes.Buffer, n *yaml.Node) error {
	switch n.Kind {
	case yaml.MappingNode:
		b.WriteByte('{')
		for i := 0; i+1 < len(n.Content); i += 2 {
			if i > 0 {
				b.WriteByte(',')
			}
			writeValue(b, n.Content[i].Value)
			b.WriteByte(':')
			if err := writeJSON(b, n.Content[i+1]); err != nil {
				return err
			}
		}
		b.WriteByte('}')
		return nil
	case yaml.SequenceNode:
		b.WriteByte('[')
		for i, child := range n.Content {
			if i > 0 {
				b.WriteByte(',')
			}
			if err := writeJSON(b, child); err != nil {
				return err
			}
		}
		b.WriteByte(']')
		return nil
	case yaml.ScalarNode:
		return writeScalar(b, n)
	}
	return fmt.Errorf("line %d: an alias that leads nowhere", n.Line)
}

func writeScalar(b *bytes.Buffer, n *yaml.Node) error {
	var value any
	switch n.ShortTag() {
	case "!!null":
	case "!!bool", "!!int", "!!float":
		if err := n.Decode(&value); err != nil {
			return fmt.Errorf("line %d: %w", n.Line, err)
		}
	default:
		value = n.Value
		if n.Style == 0 {
			if truth, ok := oldTruth[strings.ToLower(n.Value)]; ok && mixed(n.Value) {
				value = truth
			}
		}
	}
	if err := encode(b, value); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

// encode writes JSON without the escapes that are for web pages.
func encode(b *bytes.Buffer, value any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(value)
	if err == nil {
		b.Truncate(b.Len() - 1) // the line break
	}
	return err
}

// oldTruth is what YAML 1.1 takes for truth values beyond true and false.
var oldTruth = map[string]bool{"yes": true, "on": true, "y": true, "no": false, "off": false, "n": false}

// mixed reports whether a word is written yes, Yes or YES.
func mixed(word string) bool {
	return word == strings.ToLower(word) || word == strings.ToUpper(word) || word[1:] == strings.ToLower(word[1:])
}

func writeValue(b *bytes.Buffer, text string) {
	_ = encode(b, text) // of a text: no error
}

// style is how a document is written.
type style struct {
	unit    int  // columns that a mapping is indented by
	compact bool // a list's dashes stand under its key
	json    bool
	step    string // that JSON is indented by
}

// styleOf looks at the first nested mapping and the first list in a mapping.
func (t *Text) styleOf(root *yaml.Node) style {
	s := style{unit: 0, compact: true}
	listed := false
	var walk func(n *yaml.Node)
	walk = func(n *yaml.Node) {
		if n.Style&yaml.FlowStyle != 0 {
			return
		}
		for i := 1; n.Kind == yaml.MappingNode && i < len(n.Content); i += 2 {
			key, value := n.Content[i-1], n.Content[i]
			if value.Line > key.Line && value.Style&yaml.FlowStyle == 0 && len(value.Content) > 0 {
				shift := value.Column - key.Column
				if value.Kind == yaml.MappingNode && s.unit == 0 && shift > 0 {
					s.unit = shift
				}
				if value.Kind == yaml.SequenceNode && !listed {
					s.compact, listed = shift <= 0, true
				}
			}
		}
		for _, child := range n.Content {
			walk(child)
		}
	}
	walk(root)
	if s.unit < 2 || s.unit > 9 {
		s.unit = 2
	}
	s.json = root.Kind == yaml.MappingNode && root.Style&yaml.FlowStyle != 0
	s.step = "  "
	if s.json && len(root.Content) > 0 && root.Content[0].Line > root.Line && root.Content[0].Column > 1 {
		first := t.offset(root.Content[0])
		s.step = string(t.data[t.lineStart(first):first])
	}
	return s
}

// block writes n as lines, each indented by indent columns but the first.
func (s style) block(n *yaml.Node, indent int) (string, error) {
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(s.unit)
	if s.compact {
		e.CompactSeqIndent()
	}
	if err := e.Encode(n); err != nil {
		return "", fmt.Errorf("yamltext: %w", err)
	}
	if err := e.Close(); err != nil {
		return "", fmt.Errorf("yamltext: %w", err)
	}
	lines := strings.SplitAfter(b.String(), "\n")
	for i := 1; i < len(lines); i++ {
		if strings.TrimSpace(lines[i]) != "" {
			lines[i] = strings.Repeat(" ", indent) + lines[i]
		}
	}
	return strings.Join(lines, ""), nil
}

// flow writes n for a place between brackets.
func (s style) flow(n *yaml.Node, margin string, multiline bool) (string, error) {
	if s.json {
		return s.flowJSON(n, margin, multiline)
	}
	list := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle, Content: []*yaml.Node{n}}
	text, err := s.block(list, 0)
	text = strings.TrimSpace(text)
	return strings.TrimSuffix(strings.TrimPrefix(text, "["), "]"), err
}

// flowEntry is flow for a key with its value, without braces.
func (s style) flowEntry(key, value *yaml.Node, margin string, multiline bool) (string, error) {
	if s.json {
		var b bytes.Buffer
		writeValue(&b, key.Value)
		text, err := s.flowJSON(value, margin, multiline)
		return b.String() + ": " + text, err
	}
	text, err := s.flow(pair(key, value), margin, multiline)
	return strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}"), err
}

func (s style) flowJSON(n *yaml.Node, margin string, multiline bool) (string, error) {
	var compact, out bytes.Buffer
	if err := writeJSON(&compact, n); err != nil {
		return "", err
	}
	if !multiline {
		return compact.String(), nil
	}
	err := json.Indent(&out, compact.Bytes(), margin, s.step)
	return out.String(), err
}

// scalar writes the value of a scalar in place of another one on a line, in its quotes.
func (s style) scalar(was, is *yaml.Node, inFlow bool) (string, error) {
	text := is.ShortTag() == "!!str"
	switch {
	case s.json || text && was.Style&yaml.DoubleQuotedStyle != 0:
		return s.flowJSONScalar(is)
	case text && was.Style&yaml.SingleQuotedStyle != 0:
		return "'" + strings.ReplaceAll(is.Value, "'", "''") + "'", nil
	case inFlow:
		return s.flow(is, "", false)
	}
	written, err := s.block(is, 0)
	return strings.TrimSuffix(written, "\n"), err
}

func (s style) flowJSONScalar(n *yaml.Node) (string, error) {
	var b bytes.Buffer
	err := writeScalar(&b, n)
	return b.String(), err
}

// Scalar is a text, in quotes where a reader of YAML 1.1 would take it for something else.
func Scalar(text string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
	quote(n)
	return n
}
