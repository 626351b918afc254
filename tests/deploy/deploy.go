// Package deploy holds the dashboards and rules of deploy/ to the program: the
// dashboards are written from the tables here, every metric in them and in the rules
// exists with its labels, and every alert has its unit test and its section in the
// manual. That they show something is proven in tests/e2e, with a real Prometheus.
// The package must not know how a metric comes about.
package deploy

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Expression is one query of a dashboard or a rule.
type Expression struct {
	Where string // file, and panel or rule
	Query string // PromQL; of an alert without its threshold
}

// Rule is one of a file of rules for Prometheus.
type Rule struct {
	Record, Alert, Expr, For string
	Labels, Annotations      map[string]string
}

// Name of the rule, of either kind.
func (r Rule) Name() string { return r.Record + r.Alert }

// Rules reads a file of rules, by its path.
func Rules(path string) ([]Rule, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct{ Groups []struct{ Rules []Rule } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var all []Rule
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	return all, nil
}

// RuleFiles are the names of the files below dir/prometheus.
func RuleFiles() []string { return []string{"recording.yaml", "alerts.yaml"} }

// Expressions are all of deploy/, whose path is dir: of panels, of variables and of rules.
func Expressions(dir string) ([]Expression, error) {
	var all []Expression
	files, err := filepath.Glob(filepath.Join(dir, "grafana/dashboards/*.json"))
	if err != nil {
		return nil, err
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		more, err := expressionsOf(filepath.Base(name), text)
		if err != nil {
			return nil, err
		}
		all = append(all, more...)
	}
	for _, name := range RuleFiles() {
		rules, err := Rules(filepath.Join(dir, "prometheus", name))
		if err != nil {
			return nil, err
		}
		for _, r := range rules {
			all = append(all, Expression{Where: name + ": " + r.Name(), Query: r.measure()})
		}
	}
	return all, nil
}

// threshold is the last comparison with a number.
var threshold = regexp.MustCompile(`\s*(==|!=|<=|>=|<|>)\s*[0-9.e+-]+\s*$`)

// measure is what a rule looks at: an alert's expression without its threshold.
func (r Rule) measure() string {
	if r.Alert == "" {
		return r.Expr
	}
	return threshold.ReplaceAllString(r.Expr, "")
}

// labelValues is how Grafana asks for the values of a label.
var labelValues = regexp.MustCompile(`^label_values\((.*),\s*(\w+)\)$`)

// expressionsOf one dashboard, with everything chosen in its variables.
func expressionsOf(name string, text []byte) ([]Expression, error) {
	var d board
	if err := json.Unmarshal(text, &d); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var all []Expression
	for _, v := range d.Templating.List {
		if v.Type != "query" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Query)
		if m == nil {
			return nil, fmt.Errorf("%s: variable %s asks %q", name, v.Name, v.Query)
		}
		all = append(all, Expression{Where: name + ": variable " + v.Name, Query: fmt.Sprintf("count by (%s) (%s)", m[2], chosen(m[1]))})
	}
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, Expression{Where: fmt.Sprintf("%s: %s: %s", name, p.Title, q.RefID), Query: chosen(q.Expr)})
		}
	}
	return all, nil
}

// chosen puts values in place of Grafana's variables; what happened once still counts
// after five minutes.
func chosen(query string) string {
	return strings.NewReplacer("$__rate_interval", "5m", "$job", ".+", "$instance", ".+", "$service", ".+").Replace(query)
}
