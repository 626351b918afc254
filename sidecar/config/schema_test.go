package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

func TestSchemaIsUpToDate(t *testing.T) {
	golden(t, "larboard.schema.json", generateSchema(t))
}

// Every field of the structs is in the schema, and nothing else is.
func TestSchemaHasEveryField(t *testing.T) {
	var want []string
	for _, r := range fieldRows(reflect.TypeFor[Config]()) {
		want = append(want, r.field)
	}
	slices.Sort(want)
	if got := schemaFields(t); !slices.Equal(got, want) {
		t.Errorf("the schema has\n%q\nthe code has\n%q", got, want)
	}
}

func compiledSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("larboard.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("larboard.json")
	if err != nil {
		t.Fatal(err)
	}
	return compiled
}

// judged is what the schema says of a file, as an editor reads it.
func judged(s *jsonschema.Schema, data []byte) error {
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		return err
	}
	text, err := json.Marshal(value)
	if err != nil {
		return err
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(document)
}

func TestSchemaAcceptsGoodFiles(t *testing.T) {
	s := compiledSchema(t)
	files := append(cases(t, "*.good.yaml"), cases(t, "*.good.txt")...)
	for _, file := range append(files, "../../tests/e2e/testdata/design.yaml") {
		if err := judged(s, mustRead(t, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, page := range []string{"configuration.md", "per-host.md", "breaking.md"} {
		for _, block := range fenced.FindAllStringSubmatch(string(mustRead(t, pages+page)), -1) {
			if block[1] != "yaml" {
				continue
			}
			if err := judged(s, []byte(block[2])); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, block[2])
			}
		}
	}
}

// beyondSchema are the bad files whose every fault a schema cannot express, and why.
var beyondSchema = map[string]string{
	"breaking_twice.bad.yaml":         "compares names across the file",
	"access_log_targets.bad.yaml":     "compares names across the file",
	"documents.bad.yaml":              "an editor judges each document of a file by itself",
	"duplicate_names.bad.yaml":        "compares names across the file",
	"identity_names.bad.yaml":         "compares names across the file",
	"identity_names_unnamed.bad.yaml": "compares names across the file",
	"ratelimits_nobody.bad.yaml":      "a limit anywhere needs what stands at the top",
	"nothing.bad.yaml":                "with --sidecar-for, Consul says what such a file leaves out",
	"tags.bad.yaml":                   "tags are of YAML; a schema sees the value",
}

func TestSchemaRefusesBadFiles(t *testing.T) {
	s, names := compiledSchema(t), map[string]bool{}
	for _, file := range cases(t, "*.bad.yaml") {
		name := filepath.Base(file)
		names[name] = true
		err, reason := judged(s, mustRead(t, file)), beyondSchema[name]
		switch {
		case err == nil && reason == "":
			t.Errorf("%s is accepted:\n%s", name, mustRead(t, strings.TrimSuffix(file, ".yaml")+".txt"))
		case err != nil && reason != "":
			t.Errorf("%s is refused after all: %v", name, err)
		}
	}
	for name := range beyondSchema {
		if !names[name] {
			t.Errorf("there is no %s", name)
		}
	}
}

// structural finds the problems that a schema must find, too.
var structural = regexp.MustCompile(`^(unknown field|must be (a |true|.* number)|has no value|is missing$|is missing; give|excludes |needs (a source|certificates|spiffe|tcp, http or grpc)|the list is empty|"[^"]*" is (none of|not a (size|duration|name):?))|is not between`)

// aboutOthers finds those of them whose cause is elsewhere in the file.
var aboutOthers = regexp.MustCompile(`limits\.request_line: |^identity\.consul\.service: is missing|^listeners: nothing|consul\.wait: .* is not between|(min|max)_ttl: `)

// Each good file is spoilt at each of its values in several ways. What Load accepts the
// schema accepts, and of what Load refuses the schema refuses all that is structural.
func TestSchemaAgreesWithLoad(t *testing.T) {
	t.Parallel()
	s := compiledSchema(t)
	accepted, refused := 0, 0
	for _, file := range cases(t, "*.good.yaml") {
		for where, text := range spoilt(t, mustRead(t, file)) {
			_, problems := Load("f.yaml", text)
			err := judged(s, text)
			if len(problems) == 0 {
				accepted++
				if err != nil {
					t.Errorf("%s, %s: Load accepts it, the schema says %v", file, where, err)
				}
				continue
			}
			for _, p := range problems {
				if !structural.MatchString(p.Message) || aboutOthers.MatchString(p.Path+": "+p.Message) {
					continue
				}
				if refused++; err == nil {
					t.Errorf("%s, %s: the schema accepts it, Load says %v", file, where, p)
				}
				break
			}
		}
	}
	if accepted < 100 || refused < 1000 {
		t.Errorf("only %d accepted and %d refused", accepted, refused)
	}
	t.Logf("%d accepted, %d refused for their structure", accepted, refused)
}

// spoilt returns a file with one thing changed, in every way, by what was changed.
func spoilt(t *testing.T, data []byte) map[string][]byte {
	t.Helper()
	var plain any
	if err := yaml.Unmarshal(data, &plain); err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	keep := func(where string) {
		text, err := yaml.Marshal(plain)
		if err != nil {
			t.Fatal(err)
		}
		out[where] = text
	}
	values := []any{nil, true, -1, "nonsense", "", []any{}, map[string]any{"nonsense": 1}}
	each(plain, "", func(path string, old any, set func(any)) {
		for _, value := range values {
			set(value)
			keep(fmt.Sprintf("%s = %#v", path, value))
		}
		set(old)
		if m, ok := old.(map[string]any); ok {
			for key, value := range m {
				delete(m, key)
				keep(fmt.Sprintf("%s without %s", path, key))
				m[key] = value
			}
			m["nonsense"] = 1
			keep(path + " with another field")
			delete(m, "nonsense")
		}
	})
	return out
}

// each visits every value in v but v itself.
func each(v any, path string, visit func(path string, old any, set func(any))) {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			visit(join(path, key), value, func(n any) { v[key] = n })
			each(value, join(path, key), visit)
		}
	case []any:
		for i, value := range v {
			at := fmt.Sprintf("%s[%d]", path, i)
			visit(at, value, func(n any) { v[i] = n })
			each(value, at, visit)
		}
	}
}
