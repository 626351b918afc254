package config

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const (
	pages  = "../../examples/manual/"
	manual = pages + "configuration.md"
)

// fenced finds the blocks of code with their language.
var fenced = regexp.MustCompile("(?ms)^ *```([a-z ]+)\n(.*?)^ *```$")

// Every example of the manual is right, and every wrong one is answered as the
// manual says.
func TestManualExamples(t *testing.T) {
	blocks := fenced.FindAllStringSubmatch(string(mustRead(t, manual)), -1)
	run := 0
	for i, block := range blocks {
		kind, text := block[1], block[2]
		_, problems := Load("larboard.yaml", []byte(text))
		switch kind {
		case "yaml":
			if run++; len(problems) > 0 {
				t.Errorf("%v\nin\n%s", problems, text)
			}
		case "yaml broken":
			if run++; problems.Error()+"\n" != blocks[i+1][2] {
				t.Errorf("got\n%v\nwant\n%s", problems, blocks[i+1][2])
			}
		}
	}
	if run < 6 {
		t.Errorf("only %d examples were found", run)
	}
}

// The examples of these pages are right, those that show a section alone
// beside a workload.
func TestManualIdentityExamples(t *testing.T) {
	for page, least := range map[string]int{"identity.md": 5, "per-host.md": 4, "traces.md": 2, "breaking.md": 1} {
		blocks := fenced.FindAllStringSubmatch(string(mustRead(t, pages+page)), -1)
		run := 0
		for _, block := range blocks {
			if block[1] != "yaml" {
				continue
			}
			run++
			text := block[2]
			if !strings.Contains(text, "workload") && !strings.Contains(text, "listeners") {
				text += "workload: {service: web, address: 127.0.0.1:8000, listen: 127.0.0.1:20000}\n"
			}
			if _, problems := Load(page, []byte(text)); len(problems) > 0 {
				t.Errorf("%s: %v\nin\n%s", page, problems, text)
			}
		}
		if run < least {
			t.Errorf("%s: only %d examples were found", page, run)
		}
	}
}

// row is one line of a table in the manual: a field, its default and what it means; field
// is its type's name and its own.
type row struct{ path, value, meaning, field string }

var (
	heading  = regexp.MustCompile("^### `(.+)`$")
	tableRow = regexp.MustCompile("^\\| `([a-z0-9_]+)` \\| (.+?) \\| (.+) \\|$")
)

// manualRows returns the rows of the manual's reference, in order.
func manualRows(t *testing.T) []row {
	var rows []row
	section := ""
	for line := range strings.Lines(string(mustRead(t, manual))) {
		line = strings.TrimSpace(line)
		if m := heading.FindStringSubmatch(line); m != nil {
			section = strings.TrimPrefix(m[1], "larboard.yaml")
		}
		if m := tableRow.FindStringSubmatch(line); m != nil {
			rows = append(rows, row{path: join(section, m[1]), value: m[2], meaning: m[3]})
		}
	}
	return rows
}

// placed is a type and where a field of it stands.
type placed struct {
	reflect.Type
	path string
}

// fieldRows returns what the reference should hold: every field of t and below,
// each struct where it is first met, nearest to the top.
func fieldRows(t reflect.Type) (rows []row) {
	seen := map[reflect.Type]bool{reflect.TypeFor[StatusRange](): true}
	for queue := []placed{{t, ""}}; len(queue) > 0; {
		p := queue[0]
		queue = queue[1:]
		for p.Kind() == reflect.Slice || p.Kind() == reflect.Pointer {
			if p.Kind() == reflect.Slice {
				p.path += "[]"
			}
			p.Type = p.Elem()
		}
		if p.Kind() != reflect.Struct || seen[p.Type] {
			continue
		}
		seen[p.Type] = true
		value := reflect.New(p.Type)
		if def, ok := value.Interface().(defaulted); ok {
			def.setDefaults()
		}
		for i, name := range fieldNames(p.Type) {
			if name == "" {
				continue
			}
			at := join(p.path, name)
			rows = append(rows, row{path: at, value: defaultText(value.Elem().Field(i)), field: p.Name() + "." + name})
			queue = append(queue, placed{p.Field(i).Type, at})
		}
	}
	return rows
}

// defaultText is a default as the manual writes it, or "" for none.
func defaultText(v reflect.Value) string {
	if v.Kind() == reflect.Struct {
		return ""
	}
	if d, ok := v.Interface().(Duration); ok && d == inherit {
		return ""
	}
	n := nodeOf(v)
	if n == nil || n.Kind == yaml.MappingNode {
		return ""
	}
	if n.Kind == yaml.SequenceNode {
		var all []string
		for _, one := range n.Content {
			all = append(all, one.Value)
		}
		return "`" + strings.Join(all, ", ") + "`"
	}
	return "`" + n.Value + "`"
}

// The reference names every field once, with the default that is in force.
func TestManualReference(t *testing.T) {
	want := fieldRows(reflect.TypeFor[Config]())
	got := manualRows(t)
	paths := func(rows []row) (all []string) {
		for _, r := range rows {
			all = append(all, r.path)
		}
		slices.Sort(all)
		return all
	}
	if !slices.Equal(paths(got), paths(want)) {
		t.Fatalf("the manual has\n%q\nthe code has\n%q", paths(got), paths(want))
	}
	values := map[string]string{}
	for _, r := range got {
		values[r.path] = r.value
	}
	for _, r := range want {
		value := values[r.path]
		if r.value != "" && value != r.value || r.value == "" && strings.HasPrefix(value, "`") {
			t.Errorf("%s: the manual says %s, the code %q", r.path, value, r.value)
		}
	}
}
