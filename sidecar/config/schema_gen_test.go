package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// object is a JSON object; encoding/json sorts its keys.
type object map[string]any

// generator makes the schema out of the structs, the rules (schema_rules_test.go) and
// the manual's reference, from which each field has its description.
type generator struct {
	t           *testing.T
	definitions object
	meanings    map[string]string // by Type.field
	used        map[string]bool   // keys of the rules
}

func generateSchema(t *testing.T) []byte {
	t.Helper()
	g := &generator{t: t, definitions: object{}, meanings: fieldMeanings(t), used: map[string]bool{}}
	maps.Copy(g.definitions, commonDefinitions)
	root := g.structure(reflect.TypeFor[Config]())
	root["type"] = []any{"object", "null"} // with `run --sidecar-for` a file need say nothing
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	root["title"] = "Larboard's configuration file"
	root["definitions"] = g.definitions
	for _, key := range slices.Concat(slices.Collect(maps.Keys(fieldRules)), slices.Collect(maps.Keys(structRules))) {
		if !g.used[key] {
			t.Errorf("the rule for %s has no field", key)
		}
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(root); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var markdownLink = regexp.MustCompile(`\[([^\]]+)\]\([^)]*\)`)

// fieldMeanings returns what the manual says of each field, by its type's name and its own.
func fieldMeanings(t *testing.T) map[string]string {
	t.Helper()
	byPath := map[string]string{}
	for _, r := range manualRows(t) {
		byPath[r.path] = markdownLink.ReplaceAllString(r.meaning, "$1")
	}
	meanings := map[string]string{}
	for _, r := range fieldRows(reflect.TypeFor[Config]()) {
		meanings[r.field] = byPath[r.path]
	}
	return meanings
}

// of returns the schema of a value of type t, which may be a lone null where null is true.
func (g *generator) of(t reflect.Type, null bool) object {
	if rule, ok := typeRules[t]; ok {
		if t == reflect.TypeFor[Discovery]() || t == reflect.TypeFor[AccessLogs]() || t == reflect.TypeFor[Descriptor]() {
			g.of(t.Elem(), false) // the rule refers to it
		}
		return maps.Clone(rule)
	}
	g.selfDecoding(t)
	switch t.Kind() {
	case reflect.Pointer:
		return g.of(t.Elem(), false)
	case reflect.Struct:
		ref := object{"$ref": "#/definitions/" + t.Name()}
		if g.definitions[t.Name()] == nil {
			g.definitions[t.Name()] = g.structure(t)
		}
		if null {
			return object{"anyOf": []any{ref, object{"type": "null"}}}
		}
		return ref
	case reflect.Slice:
		return object{"type": []any{"array", "null"}, "items": g.of(t.Elem(), false)}
	case reflect.Map:
		return object{"type": []any{"object", "null"}, "additionalProperties": g.of(t.Elem(), false)}
	case reflect.String:
		return object{"$ref": "#/definitions/text"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int:
		return object{"type": "integer"}
	case reflect.Float64:
		return object{"type": "number"}
	}
	g.t.Fatalf("no schema for %v", t)
	return nil
}

// selfDecoding refuses to guess what a type that reads its own text accepts.
func (g *generator) selfDecoding(t reflect.Type) {
	if _, ok := reflect.New(t).Interface().(selfDecoder); ok && structRules[t.Name()]["type"] == nil {
		g.t.Errorf("%v reads its own text: typeRules or structRules must say what it accepts", t)
	}
}

func (g *generator) structure(t reflect.Type) object {
	out := object{"type": "object", "additionalProperties": false}
	maps.Copy(out, structRules[t.Name()])
	g.used[t.Name()] = true
	properties, value := object{}, reflect.New(t)
	if def, ok := value.Interface().(defaulted); ok {
		def.setDefaults()
	}
	for i, name := range fieldNames(t) {
		if name != "" {
			properties[name] = g.field(t, i, value.Elem().Field(i))
		}
	}
	out["properties"] = properties
	if short, ok := value.Interface().(shorthand); ok && t != reflect.TypeFor[DNSDiscovery]() {
		g.lone(out, short, properties)
	}
	return out
}

func (g *generator) field(t reflect.Type, i int, standard reflect.Value) object {
	f := t.Field(i)
	key := t.Name() + "." + f.Tag.Get("yaml")
	out := maps.Clone(fieldRules[key])
	g.used[key] = true
	if out == nil {
		out = g.of(f.Type, true)
	} else {
		g.of(f.Type, true) // its definitions
	}
	if out["description"] = g.meanings[key]; out["description"] == "" {
		g.t.Errorf("the manual says nothing of %s", key)
	}
	if text := defaultText(standard); text != "" {
		var value any
		if err := yaml.Unmarshal([]byte(strings.Trim(text, "`")), &value); err != nil {
			g.t.Fatal(err)
		}
		out["default"] = value
	}
	return out
}

// lone lets a struct be a lone text, too, under the rules of the field that the text
// stands for. Keywords for texts say nothing about mappings, and the other way round. A
// lone text for DNS is decoded and then refused, since it has no port.
func (g *generator) lone(out object, short shorthand, properties object) {
	const probe = "127.0.0.1:1"
	short.fromText(probe)
	v := reflect.ValueOf(short).Elem()
	for i, name := range fieldNames(v.Type()) {
		if v.Field(i).Kind() != reflect.String || v.Field(i).String() != probe {
			continue
		}
		rule := properties[name].(object)
		if ref, ok := rule["$ref"].(string); ok {
			rule = g.definitions[strings.TrimPrefix(ref, "#/definitions/")].(object)
		}
		types := []any{"object"}
		switch one := rule["type"].(type) {
		case string:
			types = append(types, one)
		case []any:
			types = append(types, one...)
		}
		for _, keyword := range []string{"pattern", "not", "minimum", "minLength", "maxLength"} {
			if rule[keyword] != nil {
				out[keyword] = rule[keyword]
			}
		}
		out["type"] = types
		return
	}
	g.t.Fatalf("%T takes a lone text for none of its fields", short)
}

// schemaFields are the fields in the generated schema, as Type.field.
func schemaFields(t *testing.T) (all []string) {
	t.Helper()
	var root struct {
		Properties  map[string]any
		Definitions map[string]struct{ Properties map[string]any }
	}
	if err := json.Unmarshal(Schema(), &root); err != nil {
		t.Fatal(err)
	}
	for name := range root.Properties {
		all = append(all, "Config."+name)
	}
	for name, d := range root.Definitions {
		for field := range d.Properties {
			all = append(all, fmt.Sprintf("%s.%s", name, field))
		}
	}
	slices.Sort(all)
	return all
}
