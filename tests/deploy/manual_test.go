package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/observability/metrics"
)

// The queries of the manual's page about metrics ask for metrics that there are, and
// Prometheus takes them.
func TestManualQueries(t *testing.T) {
	known := map[string]bool{}
	for _, i := range metrics.Instruments() {
		name := i.Info().Name
		known[name] = true
		if i.Info().Kind == metrics.Histogram {
			known[name+"_bucket"], known[name+"_sum"], known[name+"_count"] = true, true, true
		}
	}
	var rules strings.Builder
	rules.WriteString("groups:\n- name: manual\n  rules:\n")
	row := regexp.MustCompile("(?m)^\\| [^|`]* \\| `(.+)` \\|$")
	all := row.FindAllStringSubmatch(read(t, filepath.Join(root, "examples/manual/observability.md")), -1)
	asked := 0
	for n, m := range all {
		query := strings.ReplaceAll(m[1], `\|`, "|") // as a table of Markdown writes it
		for _, name := range regexp.MustCompile(`larboard_\w+`).FindAllString(query, -1) {
			if asked++; !known[name] {
				t.Errorf("no metric %s: %s", name, query)
			}
		}
		if strings.Contains(query, "_") {
			fmt.Fprintf(&rules, "  - {record: 'manual:q%d', expr: %q}\n", n, query)
		}
	}
	if asked < 20 {
		t.Errorf("only %d metrics were found", asked)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
