package deploy

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/larboard-proxy/larboard/observability/metrics"
)

const (
	root = "../.."
	dir  = root + "/deploy"
)

var update = flag.Bool("update", false, "write the dashboards and the manual's table")

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The dashboards in deploy/ are those of the tables here.
func TestDashboardsAreWritten(t *testing.T) {
	var names []string
	for _, d := range dashboards() {
		want, err := d.encode()
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Join(dir, "grafana/dashboards", d.file+".json")
		names = append(names, name)
		if *update {
			if err := os.WriteFile(name, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if read(t, name) != string(want) {
			t.Errorf("%s is not what the tables say: go test ./tests/deploy -update", name)
		}
	}
	found, err := filepath.Glob(filepath.Join(dir, "grafana/dashboards/*"))
	if err != nil || len(found) != len(names) {
		t.Errorf("found %q, want %q", found, names)
	}
}

// What Grafana would trip over, or put in the wrong place.
func TestDashboardsAreSound(t *testing.T) {
	titles, uids := map[string]bool{}, map[string]bool{}
	for _, d := range dashboards() {
		var b board
		if err := json.Unmarshal([]byte(read(t, filepath.Join(dir, "grafana/dashboards", d.file+".json"))), &b); err != nil {
			t.Fatal(err)
		}
		if uids[b.UID] || titles[b.Title] || b.UID == "" || len(b.UID) > 40 || b.SchemaVersion == 0 {
			t.Errorf("%s: uid %q, title %q", d.file, b.UID, b.Title)
		}
		uids[b.UID], titles[b.Title] = true, true
		var variables []string
		for _, v := range b.Templating.List {
			variables = append(variables, "$"+v.Name)
		}
		if len(variables) == 0 || variables[0] != "$datasource" {
			t.Errorf("%s: variables %q", d.file, variables)
		}
		variables = append(variables, "$__rate_interval")
		seen, taken := map[int]bool{}, map[[2]int]string{}
		for _, p := range b.Panels {
			if seen[p.ID] || p.ID <= 0 {
				t.Errorf("%s: two panels have the id %d", d.file, p.ID)
			}
			seen[p.ID] = true
			for x := range p.GridPos.W {
				for y := range p.GridPos.H {
					at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
					if taken[at] != "" || at[0] >= 24 {
						t.Errorf("%s: %s stands at %v, as does %q", d.file, p.Title, at, taken[at])
					}
					taken[at] = p.Title
				}
			}
			if p.Type != "row" && (len(p.Targets) == 0 || p.Datasource == nil || *p.Datasource != source) {
				t.Errorf("%s: %s asks nothing, or not the source that was chosen", d.file, p.Title)
			}
			for _, q := range p.Targets {
				for _, v := range regexp.MustCompile(`\$\w+`).FindAllString(q.Expr, -1) {
					if !slices.Contains(variables, v) {
						t.Errorf("%s: %s: no variable %s", d.file, p.Title, v)
					}
				}
				if strings.Contains(q.Expr, "rate(") && !regexp.MustCompile(`\[(\$__rate_interval|10m)\]`).MatchString(q.Expr) {
					t.Errorf("%s: %s: %s", d.file, p.Title, q.Expr)
				}
			}
		}
	}
}

// others are metrics that are not of our table.
var others = regexp.MustCompile(`^(up|go_goroutines|process_(cpu_seconds_total|resident_memory_bytes|start_time_seconds))$`)

// Every metric that is asked for exists, with the labels by which it is chosen.
func TestMetricsExist(t *testing.T) {
	labels := map[string][]string{}
	for _, i := range metrics.Instruments() {
		info := i.Info()
		if info.Kind == metrics.Histogram {
			labels[info.Name+"_bucket"] = append([]string{"le"}, info.Labels...)
			continue
		}
		labels[info.Name] = info.Labels
	}
	for _, name := range RuleFiles() {
		rules, err := Rules(filepath.Join(dir, "prometheus", name))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			if r.Record != "" {
				labels[r.Record] = nil
			}
		}
	}
	all, err := Expressions(dir)
	if err != nil {
		t.Fatal(err)
	}
	word := regexp.MustCompile(`[a-z_:][a-z0-9_:]*`)
	named := regexp.MustCompile(`larboard|^process_|^go_|^up$`)
	chosen := regexp.MustCompile(`([a-z0-9_:]+)\{([^}]*)\}`)
	asked := 0
	for _, e := range all {
		text := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(e.Query, `""`)
		for _, name := range word.FindAllString(text, -1) {
			if !named.MatchString(name) {
				continue
			}
			asked++
			if _, ok := labels[name]; !ok && !others.MatchString(name) {
				t.Errorf("%s: no metric %s", e.Where, name)
			}
		}
		for _, m := range chosen.FindAllStringSubmatch(text, -1) {
			for _, condition := range strings.Split(m[2], ",") {
				label := regexp.MustCompile(`^\s*\w*`).FindString(condition)
				if label = strings.TrimSpace(label); label != "job" && label != "instance" && !slices.Contains(labels[m[1]], label) {
					t.Errorf("%s: %s has no label %q", e.Where, m[1], label)
				}
			}
		}
	}
	if asked < 80 {
		t.Errorf("only %d metrics were found in %d expressions", asked, len(all))
	}
}

// Each alert has a number to compare with, a unit test that sees it fire, and a section of the
// manual that says what to do.
func TestAlertsAreExplained(t *testing.T) {
	alerts, err := Rules(filepath.Join(dir, "prometheus/alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tests := read(t, filepath.Join(dir, "prometheus/alerts_test.yaml"))
	page := filepath.Join(root, "examples/manual/alerts.md")
	var table strings.Builder
	for _, a := range alerts {
		if a.Alert == "" || !threshold.MatchString(a.Expr) || a.Annotations["summary"] == "" || !slices.Contains([]string{"page", "ticket"}, a.Labels["severity"]) {
			t.Errorf("%+v", a)
		}
		if want := "/examples/manual/alerts.md#" + strings.ToLower(a.Alert); !strings.HasSuffix(a.Annotations["runbook_url"], want) {
			t.Errorf("%s leads to %s, want %s", a.Alert, a.Annotations["runbook_url"], want)
		}
		if !strings.Contains(read(t, page), "\n## "+a.Alert+"\n\n") {
			t.Errorf("the manual says nothing of %s", a.Alert)
		}
		if !strings.Contains(tests, "- alertname: "+a.Alert+"\n") || !strings.Contains(tests, "{alertname: "+a.Alert+",") {
			t.Errorf("%s has no test that sees it fire, and silent", a.Alert)
		}
		when := strings.ReplaceAll(a.Expr, `{job="larboard"}`, "")
		when = strings.ReplaceAll(when, `job="larboard", `, "")
		if a.For != "" {
			when += " for " + a.For
		}
		fmt.Fprintf(&table, "| [%s](#%s) | `%s` | %s |\n", a.Alert, strings.ToLower(a.Alert), strings.ReplaceAll(when, "|", `\|`), a.Labels["severity"])
	}
	const begin, end = "| --- | --- | --- |\n", "\n## LarboardProxyDown"
	text := read(t, page)
	head, rest, _ := strings.Cut(text, "| alert | when | severity |\n"+begin)
	_, rest, ok := strings.Cut(rest, end)
	want := head + "| alert | when | severity |\n" + begin + table.String() + end + rest
	if *update && ok {
		if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		text = want
	}
	if text != want {
		t.Error("the manual's table is not that of alerts.yaml: go test ./tests/deploy -update")
	}
	for _, m := range regexp.MustCompile(`(?m)^## (Larboard\w+)$`).FindAllStringSubmatch(text, -1) {
		if !slices.ContainsFunc(alerts, func(r Rule) bool { return r.Alert == m[1] }) {
			t.Errorf("the manual explains %s, which is no alert", m[1])
		}
	}
}

// Each recorded rule has a unit test.
func TestRecordingsAreTested(t *testing.T) {
	rules, err := Rules(filepath.Join(dir, "prometheus/recording.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tests := read(t, filepath.Join(dir, "prometheus/recording_test.yaml"))
	for _, r := range rules {
		if r.Record == "" || !strings.Contains(tests, "expr: "+r.Record+"\n") {
			t.Errorf("%s has no test", r.Name())
		}
	}
}

// promtool runs Prometheus' own judge of configurations, in deploy/prometheus.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("promtool", args...)
	cmd.Dir = filepath.Join(dir, "prometheus")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("promtool %s (of Debian's package prometheus): %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestPrometheusAcceptsTheRules(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yaml")
	promtool(t, append([]string{"check", "rules", "--lint-fatal"}, RuleFiles()...)...)
	promtool(t, "test", "rules", "recording_test.yaml", "alerts_test.yaml")
}

// Grafana's provisioning is YAML that names what is there.
func TestProvisioning(t *testing.T) {
	for name, key := range map[string]string{"dashboards/larboard.yaml": "providers", "datasources/prometheus.yaml": "datasources"} {
		var v map[string]any
		if err := yaml.Unmarshal([]byte(read(t, filepath.Join(dir, "grafana/provisioning", name))), &v); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if list, ok := v[key].([]any); !ok || len(list) != 1 || v["apiVersion"] != 1 {
			t.Errorf("%s: %v", name, v)
		}
	}
}
