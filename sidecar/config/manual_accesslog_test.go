package config

import (
	"strings"
	"testing"
)

// The configurations on the manual's page about the access log are right, beside a
// listener where they have none.
func TestManualAccessLog(t *testing.T) {
	s, run := compiledSchema(t), 0
	for _, block := range fenced.FindAllStringSubmatch(string(mustRead(t, pages+"access-log.md")), -1) {
		if block[1] != "yaml" {
			continue
		}
		run++
		text := block[2]
		if !strings.Contains(text, "listeners:") {
			text += small
		}
		if _, problems := Load("larboard.yaml", []byte(text)); len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, text)
		}
		if err := judged(s, []byte(text)); err != nil {
			t.Errorf("%v\nin\n%s", err, text)
		}
	}
	if run < 5 {
		t.Errorf("only %d configurations were found", run)
	}
}

// A lone text or share is where it stands for the field that is meant.
func TestOriginsOfAccessLogs(t *testing.T) {
	for _, tc := range []struct {
		text string
		want map[string]string
	}{
		{"access_log: stdout\n", map[string]string{"access_log.path": "line 1", "access_log.name": "default", "access_log.format": "default"}},
		{"access_log:\n- a.log\n- syslog: unix:///dev/log\n  sample: 3%\n", map[string]string{"access_log[0].path": "line 2", "access_log[1].name": "default",
			"access_log[1].syslog.address": "line 3", "access_log[1].syslog.framing": "default", "access_log[1].sample.rate": "line 4", "access_log[1].sample.by": "default"}},
	} {
		got := originsOf(load(t, tc.text+small))
		for path, want := range tc.want {
			if got[path] != want {
				t.Errorf("%s: %q, want %q", path, got[path], want)
			}
		}
	}
}
