package cli

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

func TestCtl(t *testing.T) {
	for _, test := range []struct {
		name   string
		args   []string
		code   int
		stdout []string
		stderr []string
	}{
		{"nothing lists the commands", []string{"ctl"}, 0, []string{"reasons "}, nil},
		{"help", []string{"ctl", "reasons", "--help"}, 0, []string{"larboard ctl reasons upstream_reset", "--output"}, nil},
		{"unknown command", []string{"ctl", "resons"}, 2, nil, []string{`unknown command "resons"; did you mean "reasons"?`, "larboard ctl --help"}},
		{"all reasons", []string{"ctl", "reasons"}, 0, []string{"CODE ", "no_route ", "UNIMPLEMENTED ", "add a route", "rate_limited "}, nil},
		{"two", []string{"ctl", "reasons", "no_route", "tls_no_id"}, 0, []string{"no_route\n  what happened  no route matches", "\n\ntls_no_id\n", "HTTP status    -\n"}, nil},
		{"misspelt", []string{"ctl", "reasons", "no_rout"}, 2, nil, []string{`unknown reason "no_rout"; did you mean "no_route"?`}},
		{"nothing like it", []string{"ctl", "reasons", "weather"}, 2, nil, []string{`unknown reason "weather"; 'larboard ctl reasons' lists them`}},
		{"unknown output", []string{"ctl", "reasons", "-o", "yaml"}, 2, nil, []string{`"yaml" is none of text, json`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := larboard(t, t.TempDir(), test.args...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			contains(t, "stdout", got.stdout, test.stdout...)
			contains(t, "stderr", got.stderr, test.stderr...)
			if test.code != 0 && got.stdout != "" {
				t.Errorf("stdout of a failure: %q", got.stdout)
			}
		})
	}
}

func TestCtlReasonsAsJSON(t *testing.T) {
	var rows []admin.ReasonView
	if err := json.Unmarshal([]byte(larboard(t, t.TempDir(), "ctl", "reasons", "-o", "json").stdout), &rows); err != nil {
		t.Fatal(err)
	}
	all := policy.Reasons()[1:]
	if len(rows) != len(all) {
		t.Fatalf("%d rows for %d reasons", len(rows), len(all))
	}
	for i, r := range all {
		if info := r.Info(); rows[i].Code != info.Code || rows[i].Status != info.Status || rows[i].Remedy != info.Remedy {
			t.Errorf("%+v for %+v", rows[i], info)
		}
	}
}

// The manual's page shows what the commands print.
func TestManualOfCtl(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/ctl.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	for _, m := range regexp.MustCompile("(?ms)^```console\n\\$ larboard (ctl reasons[^\n]*)\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		shown++
		got := larboard(t, t.TempDir(), strings.Fields(m[1])...)
		if out := got.stdout + got.stderr; out != m[2] {
			t.Errorf("%s prints\n%sand not\n%s", m[1], out, m[2])
		}
	}
	if shown < 2 {
		t.Errorf("only %d examples were found", shown)
	}
}

// A table that does not fit gives way in its last columns only, down to a bound.
func TestTableWidths(t *testing.T) {
	table := table{head: []string{"CODE", "WHAT", "REMEDY"}, wrap: 2}
	table.add("connection_limit", strings.Repeat("word ", 12)+"word", strings.Repeat("remedy ", 9)+"remedy")
	for _, most := range []int{0, 200, 100, 60, 20} {
		widths := table.widths(most)
		total := widths[0] + 2 + widths[1] + 2 + widths[2]
		if widths[0] != len("connection_limit") {
			t.Errorf("%d: the first column has %d", most, widths[0])
		}
		if most >= 60 && total > most || most == 0 && total < 140 || widths[1] < narrowest || widths[2] < narrowest {
			t.Errorf("%d: %v", most, widths)
		}
		for _, line := range wrapped(table.rows[0][1], widths[1]) {
			if utf8.RuneCountInString(line) > widths[1] {
				t.Errorf("%d: %q does not fit into %d", most, line, widths[1])
			}
		}
	}
}
