package identity

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

var update = flag.Bool("update", false, "write the generated part of the manual")

// The manual's table of refusals is the table of reasons.
func TestManualListsTheRefusals(t *testing.T) {
	const path = "../../examples/manual/identity.md"
	const begin, end = "<!-- refusals: written by `go test ./sidecar/identity -run Manual -update` -->\n", "<!-- refusals end -->"
	var table strings.Builder
	table.WriteString("| reason | what happened | what to do |\n| --- | --- | --- |\n")
	for r := policy.TLSHandshake; r <= policy.NoIdentity; r++ {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r, r.Info().Sentence, r.Info().Remedy)
	}
	for _, r := range []policy.Reason{policy.UpstreamTLS, policy.UpstreamTLSIdentity} {
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", r, r.Info().Sentence, r.Info().Remedy)
	}
	manual, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := bytes.Cut(manual, []byte(begin))
	old, after, closed := bytes.Cut(rest, []byte(end))
	if !found || !closed {
		t.Fatal("the manual has lost its marks")
	}
	if string(old) == table.String() {
		return
	}
	if !*update {
		t.Fatal("the manual's table differs from the table of reasons; run with -update")
	}
	if err := os.WriteFile(path, slices.Concat(before, []byte(begin), []byte(table.String()), []byte(end), after), 0o644); err != nil {
		t.Fatal(err)
	}
}
