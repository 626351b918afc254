package metrics

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table of metrics into the manual")

const (
	manual     = "../../examples/manual/observability.md"
	tableBegin = "-run Manual -update` -->\n"
	tableEnd   = "<!-- metrics end -->"
)

// The table of metrics in the manual is the table in the code.
func TestManual(t *testing.T) {
	page, err := os.ReadFile(manual)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(page), tableBegin)
	old, tail, foundEnd := strings.Cut(rest, tableEnd)
	if !found || !foundEnd {
		t.Fatal("the manual has no place for the table of metrics")
	}
	table := markdown()
	if old == table {
		return
	}
	if !*update {
		t.Fatalf("the manual differs from the code; run the test with -update\ngot\n%s\nwant\n%s", old, table)
	}
	if err := os.WriteFile(manual, []byte(head+tableBegin+table+tableEnd+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

// What is published stays: dashboards and rules are written against names, types and
// labels. A line that changes here breaks them.
func TestPublished(t *testing.T) {
	const file = "testdata/metrics.golden"
	var b strings.Builder
	for _, i := range Instruments() {
		fmt.Fprintf(&b, "%s %s %s\n", i.Info().Name, i.Info().Kind, strings.Join(i.Info().Labels, ","))
	}
	want, err := os.ReadFile(file)
	if *update {
		err = os.WriteFile(file, []byte(b.String()), 0o644)
		want = []byte(b.String())
	}
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("metrics have changed; if that is meant, run the test with -update\ngot\n%s\nwant\n%s", b.String(), want)
	}
}

func markdown() string {
	var b strings.Builder
	b.WriteString("| metric | type | labels | meaning |\n| --- | --- | --- | --- |\n")
	for _, i := range Instruments() {
		info := i.Info()
		labels := "-"
		if len(info.Labels) > 0 {
			labels = "`" + strings.Join(info.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", info.Name, info.Kind, labels, info.Help)
	}
	return b.String()
}
