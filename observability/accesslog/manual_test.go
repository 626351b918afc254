package accesslog

import (
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability/accesslog/template"
)

var update = flag.Bool("update", false, "write the tables of the language into the manual")

const page = "../../examples/manual/access-log.md"

// The tables of the language in the manual are those of the code.
func TestManualTables(t *testing.T) {
	for mark, table := range map[string]string{"presets": presetTable(), "values": valueTable(), "modifiers": modifierTable()} {
		data, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		begin, end := "<!-- "+mark+": written by `go test ./observability/accesslog -run Manual -update` -->\n", "<!-- "+mark+" end -->"
		head, rest, found := strings.Cut(string(data), begin)
		old, tail, foundEnd := strings.Cut(rest, end)
		switch {
		case !found || !foundEnd:
			t.Fatalf("the manual has no place for the table of %s", mark)
		case old == table:
		case !*update:
			t.Errorf("the manual differs from the code; run the test with -update\ngot\n%s\nwant\n%s", old, table)
		default:
			if err := os.WriteFile(page, []byte(head+begin+table+end+tail), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func cell(text string) string { return strings.ReplaceAll(text, "|", "\\|") }

func presetTable() string {
	var b strings.Builder
	b.WriteString("| format | what it is | its template |\n| --- | --- | --- |\n")
	for _, p := range template.Presets() {
		fmt.Fprintf(&b, "| `%s` | %s | `%s` |\n", p.Name, cell(p.Meaning), cell(p.Template))
	}
	return b.String()
}

func valueTable() string {
	var b strings.Builder
	b.WriteString("| value | meaning |\n| --- | --- |\n")
	for _, f := range template.Fields() {
		name := f.Name
		switch {
		case f.Required:
			name += "(" + f.Args + ")"
		case f.Args != "":
			name += "` or `" + f.Name + "(" + f.Args + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, cell(f.Meaning))
	}
	return b.String()
}

func modifierTable() string {
	var b strings.Builder
	b.WriteString("| modifier | meaning |\n| --- | --- |\n")
	for _, m := range template.Modifiers() {
		name := m.Name
		if m.Arg != "" {
			name += "(" + m.Arg + ")"
		}
		fmt.Fprintf(&b, "| `%s` | %s |\n", name, cell(m.Meaning))
	}
	return b.String()
}

// section returns what the manual holds between two marks.
func section(t *testing.T, begin, end string) string {
	t.Helper()
	data, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(data), begin)
	text, _, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("the manual has no section between %q and %q", begin, end)
	}
	return text
}

func TestManualListsTheMembers(t *testing.T) {
	var want []string
	d := json.NewDecoder(strings.NewReader(lineOf(capturing(t, "json"), full())))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch token {
		case json.Delim('{'):
			depth++
			continue
		case json.Delim('}'):
			depth--
			continue
		}
		if depth == 1 {
			want = append(want, token.(string))
			var value json.RawMessage
			if err := d.Decode(&value); err != nil {
				t.Fatal(err)
			}
		}
	}
	var got []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section(t, "| member | meaning |", "As text,"), -1) {
		got = append(got, m[1])
	}
	if !slices.Equal(got, want) {
		t.Errorf("the manual lists\n%v\na full line has\n%v", got, want)
	}
}

func TestManualListsTheSecrets(t *testing.T) {
	var got []string
	for _, m := range regexp.MustCompile("`(\\w+)`").FindAllStringSubmatch(section(t, "<!-- secrets -->", "<!-- secrets end -->"), -1) {
		got = append(got, m[1])
	}
	want := slices.Sorted(maps.Keys(template.SecretWords()))
	if !slices.Equal(got, want) {
		t.Errorf("the manual lists\n%q\nthe code\n%q", got, want)
	}
}
