package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Print returns c as YAML that Load reads back: every setting in force, defaults
// included, with secrets replaced by a placeholder. What is empty is left out.
func Print(c *Config) []byte {
	return writeYAML(documentOf(c))
}

// documentOf is c as a YAML document of its settings in force.
func documentOf(c *Config) *yaml.Node { return nodeOf(reflect.ValueOf(*c)) }

func writeYAML(root *yaml.Node) []byte {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(root); err != nil {
		panic("config: print: " + err.Error()) // the nodes are our own
	}
	return out.Bytes()
}

// PrintJSON is Print as JSON, with the same names in the same order.
func PrintJSON(c *Config) []byte {
	var compact, out bytes.Buffer
	writeJSON(&compact, documentOf(c))
	if err := json.Indent(&out, compact.Bytes(), "", "  "); err != nil {
		panic("config: print: " + err.Error())
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// nodeOf returns v as YAML, or nil where there is nothing to print.
func nodeOf(v reflect.Value) *yaml.Node {
	if text, ok := v.Interface().(fmt.Stringer); ok {
		return textNode(text.String())
	}
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return nil
		}
		return nodeOf(v.Elem())
	case reflect.Struct:
		return structNode(v)
	case reflect.Slice:
		return listNode(v)
	case reflect.Map:
		return mapNode(v)
	case reflect.String:
		return textNode(v.String())
	case reflect.Bool:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: strconv.FormatBool(v.Bool())}
	case reflect.Int:
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: strconv.FormatInt(v.Int(), 10)}
	case reflect.Float64:
		return fractionNode(strconv.FormatFloat(v.Float(), 'f', -1, 64))
	}
	panic("config: no way to print " + v.Type().String())
}

func textNode(text string) *yaml.Node {
	if text == "" {
		return nil
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: text}
}

// fractionNode avoids a visible tag: 0 and 1 look like whole numbers.
func fractionNode(text string) *yaml.Node {
	if strings.Contains(text, ".") {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!float", Value: text}
	}
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: text}
}

// structNode leaves out a mapping without entries where it says nothing, which is
// everywhere but behind a pointer; there its presence counts.
func structNode(v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for i, name := range fieldNames(v.Type()) {
		if name == "" {
			continue
		}
		field := v.Field(i)
		value := nodeOf(field)
		if value == nil || field.Kind() == reflect.Struct && len(value.Content) == 0 {
			continue
		}
		n.Content = append(n.Content, textNode(name), value)
	}
	return n
}

func listNode(v reflect.Value) *yaml.Node {
	if v.Len() == 0 {
		return nil
	}
	switch v.Interface().(type) {
	case Discovery, AccessLogs: // a lone one stands without its list
		if v.Len() == 1 {
			return nodeOf(v.Index(0))
		}
	}
	n := &yaml.Node{Kind: yaml.SequenceNode, Tag: "!!seq"}
	for i := range v.Len() {
		n.Content = append(n.Content, nodeOf(v.Index(i)))
	}
	return n
}

func mapNode(v reflect.Value) *yaml.Node {
	if v.Len() == 0 {
		return nil
	}
	keys := make([]string, 0, v.Len())
	for _, key := range v.MapKeys() {
		keys = append(keys, key.String())
	}
	slices.Sort(keys)
	n := &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map"}
	for _, key := range keys {
		n.Content = append(n.Content, textNode(key), nodeOf(v.MapIndex(reflect.ValueOf(key))))
	}
	return n
}

// writeJSON writes a node that nodeOf made. encoding/json alone would lose the
// order of the fields, which is that of the manual.
func writeJSON(out *bytes.Buffer, n *yaml.Node) {
	switch n.Kind {
	case yaml.MappingNode:
		out.WriteByte('{')
		for i := 0; i < len(n.Content); i += 2 {
			separate(out, i)
			writeJSON(out, n.Content[i])
			out.WriteByte(':')
			writeJSON(out, n.Content[i+1])
		}
		out.WriteByte('}')
	case yaml.SequenceNode:
		out.WriteByte('[')
		for i, item := range n.Content {
			separate(out, i)
			writeJSON(out, item)
		}
		out.WriteByte(']')
	default:
		writeScalar(out, n)
	}
}

func separate(out *bytes.Buffer, i int) {
	if i > 0 {
		out.WriteByte(',')
	}
}

func writeScalar(out *bytes.Buffer, n *yaml.Node) {
	if n.Tag != "!!str" {
		out.WriteString(n.Value)
		return
	}
	text, err := json.Marshal(n.Value)
	if err != nil {
		panic("config: print: " + err.Error()) // a string always encodes
	}
	out.Write(text)
}
