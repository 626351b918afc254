package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

const (
	manualPage = "../examples/manual/traffic.md"
	tableMark  = "<!-- reasons -->\n"
)

// TestManualHoldsTheTable keeps the manual's table of reasons the same as the code's.
func TestManualHoldsTheTable(t *testing.T) {
	page, err := os.ReadFile(manualPage)
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(page), tableMark)
	if !found {
		t.Fatalf("%s has no line %s", manualPage, tableMark)
	}
	var b strings.Builder
	b.WriteString("\n| reason | status | what happened | what to do |\n|---|---|---|---|\n")
	for _, r := range Reasons()[1:] {
		i := r.Info()
		status := "-"
		if i.Status != 0 {
			status = fmt.Sprint(i.Status)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", i.Code, status, i.Sentence, i.Remedy)
	}
	if *update {
		if err := os.WriteFile(manualPage, []byte(before+tableMark+b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if after != b.String() {
		t.Errorf("the table in %s is not the code's; go test ./policy -run Manual -update", manualPage)
	}
}
