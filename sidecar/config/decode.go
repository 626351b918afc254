package config

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"go.yaml.in/yaml/v3"
)

// decoder fills the structs of this package from a document, by their `yaml`
// tags. The library's own decoding is not used: it stops at the first unknown
// field, knows no column and cannot say what was meant.
type decoder struct {
	source
	problems Problems
	// failed holds the paths with a problem, so that validation does not add
	// "missing" to what is merely misspelt.
	failed map[string]bool
	// budget is the number of values that may still be decoded. Aliases make a
	// small file large.
	budget int
}

// maxValues bounds a configuration after its aliases are followed.
const maxValues = 250_000

// selfDecoder is a type that reads its own node.
type selfDecoder interface {
	decodeNode(d *decoder, n *yaml.Node, path string)
}

// shorthand is a struct that may be written as a lone string: its first field.
type shorthand interface{ fromText(text string) }

// defaulted is a struct with values to start from.
type defaulted interface{ setDefaults() }

func newDecoder(file string) *decoder {
	return &decoder{source: source{file: file, positions: map[string]position{}, lone: map[string]string{}}, failed: map[string]bool{}, budget: maxValues}
}

// report notes a problem with the field at path, seen at n.
func (d *decoder) report(n *yaml.Node, path, message, suggestion string) {
	d.failed[path] = true
	d.problems = append(d.problems, Problem{File: d.file, Line: n.Line, Column: n.Column, Path: path, Message: message, Suggestion: suggestion})
}

// spend takes one value off the budget. It reports the moment that it is used up,
// after which nothing more is decoded.
func (d *decoder) spend(n *yaml.Node, path string) bool {
	d.budget--
	if d.budget == -1 {
		d.report(n, path, fmt.Sprintf("with its aliases followed the file holds more than %d values", maxValues), "")
	}
	return d.budget >= 0
}

// value decodes n into v, which is settable.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if !d.spend(n, path) {
		return
	}
	n = followed(n)
	if !d.has(path) {
		d.positions[path] = position{n.Line, n.Column}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.report(n, path, fmt.Sprintf("the tag %q is not understood here", n.Tag), "")
		return
	}
	if self, ok := v.Addr().Interface().(selfDecoder); ok {
		self.decodeNode(d, n, path)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		d.pointer(n, v, path)
	case reflect.Struct:
		d.structure(n, v, path)
	case reflect.Slice:
		d.list(n, v, path)
	case reflect.Map:
		d.texts(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// pointer decodes what is told by its mere presence, which is why it must have a
// value.
func (d *decoder) pointer(n *yaml.Node, v reflect.Value, path string) {
	if isNull(n) && v.Type().Elem().Kind() == reflect.Struct {
		d.report(n, path, "has no value; write {} for the defaults, or leave it out", "")
		return
	}
	v.Set(reflect.New(v.Type().Elem()))
	d.value(n, v.Elem(), path)
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) {
	if def, ok := v.Addr().Interface().(defaulted); ok {
		def.setDefaults()
	}
	if short, ok := v.Addr().Interface().(shorthand); ok && n.Kind == yaml.ScalarNode && !isNull(n) {
		if n.Value == "" {
			d.report(n, path, "has no value", "")
			return
		}
		short.fromText(n.Value)
		d.lone[path] = fieldNames(v.Type())[0]
		for i := range v.NumField() {
			d.resolveField(v, i)
		}
		return
	}
	switch {
	case isNull(n):
	case n.Kind != yaml.MappingNode:
		d.report(n, path, "must be a mapping, not "+kindOf(n), meantMapping(v.Type(), n))
	default:
		d.fields(n, v, path)
	}
}

// fields decodes the entries of a mapping into the fields of v.
func (d *decoder) fields(n *yaml.Node, v reflect.Value, path string) {
	names := fieldNames(v.Type())
	for key, value := range d.entries(n, path) {
		at := join(path, shown(key.Value))
		index := slices.Index(names, key.Value)
		if index < 0 || names[index] == "" {
			d.unknownField(key, path, names)
			continue
		}
		if value.Kind != yaml.ScalarNode {
			d.positions[at] = position{key.Line, key.Column}
		}
		d.value(value, v.Field(index), at)
		d.resolveField(v, index)
	}
}

func (d *decoder) unknownField(key *yaml.Node, path string, names []string) {
	names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
	meant, message := suggestField(key.Value, names), "unknown field"
	if meant == "" {
		message += "; known here: " + strings.Join(names, ", ")
	}
	d.report(key, join(path, shown(key.Value)), message, meant)
	if meant != "" {
		d.failed[join(path, meant)] = true
	}
}

// shown is a key as it appears in paths: quoted where it would upset a terminal.
func shown(key string) string {
	if strings.ContainsFunc(key, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(key)
	}
	return key
}

// fieldNames returns the name of each field in the file; "" is no field of it.
func fieldNames(t reflect.Type) []string {
	names := make([]string, t.NumField())
	for i := range names {
		names[i] = t.Field(i).Tag.Get("yaml")
	}
	return names
}

// list decodes a sequence; a slice type with the tag-free form of a lone value is
// a selfDecoder instead.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case isNull(n):
		return
	case n.Kind != yaml.SequenceNode:
		d.wrongType(n, path, "a list")
		return
	}
	// Elements are appended one by one: aliases could make the length a lie.
	v.Set(reflect.MakeSlice(v.Type(), 0, len(n.Content)))
	for i, item := range n.Content {
		if d.budget < 0 {
			return
		}
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(item, one, fmt.Sprintf("%s[%d]", path, i))
		v.Set(reflect.Append(v, one))
	}
}

// texts decodes a mapping from names to strings.
func (d *decoder) texts(n *yaml.Node, v reflect.Value, path string) {
	switch {
	case isNull(n):
		return
	case n.Kind != yaml.MappingNode:
		d.wrongType(n, path, "a mapping")
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for key, value := range d.entries(n, path) {
		one := reflect.New(v.Type().Elem()).Elem()
		d.value(value, one, join(path, shown(key.Value)))
		v.SetMapIndex(reflect.ValueOf(key.Value), one)
	}
}

// resolveField resolves field i of the struct v where it names files.
func (d *decoder) resolveField(v reflect.Value, i int) {
	if v.Type().Field(i).Tag.Get("is") == "path" {
		d.resolve(v.Field(i))
	}
}

// resolve makes the file names in v relative to the directory of the
// configuration file, so that it means the same wherever the proxy is started.
func (d *decoder) resolve(v reflect.Value) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(d.resolved(v.String()))
	case reflect.Map:
		for _, key := range v.MapKeys() {
			v.SetMapIndex(key, reflect.ValueOf(d.resolved(v.MapIndex(key).String())))
		}
	}
}

func (d *decoder) resolved(name string) string {
	if name == "" || filepath.IsAbs(name) || strings.Contains(name, "://") {
		return name
	}
	return filepath.Join(filepath.Dir(d.file), name)
}

func (d *decoder) wrongType(n *yaml.Node, path, want string) {
	d.report(n, path, fmt.Sprintf("must be %s, not %s", want, kindOf(n)), "")
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" }

// kindOf names what n holds, for messages.
func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "empty"
	case "!!bool":
		return n.Value
	case "!!int", "!!float":
		return fmt.Sprintf("the number %s", n.Value)
	}
	return fmt.Sprintf("the text %q", n.Value)
}
