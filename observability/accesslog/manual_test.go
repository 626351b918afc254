package accesslog

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// section returns what the manual holds between two marks.
func section(t *testing.T, begin, end string) string {
	t.Helper()
	page, err := os.ReadFile("../../examples/manual/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(page), begin)
	text, _, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatalf("the manual has no section between %q and %q", begin, end)
	}
	return text
}

func TestManualListsTheMembers(t *testing.T) {
	var want []string
	d := json.NewDecoder(strings.NewReader(line(JSON, full())))
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
	want := slices.Sorted(maps.Keys(secretWords))
	if !slices.Equal(got, want) {
		t.Errorf("the manual lists\n%q\nthe code\n%q", got, want)
	}
	var longest nameBuffer
	for _, word := range want {
		if len(word) > len(longest.buf) {
			t.Errorf("%q does not fit the buffer", word)
		}
	}
}
