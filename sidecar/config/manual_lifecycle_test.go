package config

import "testing"

// The configurations on the manual's page about starts and stops are right.
func TestManualLifecycle(t *testing.T) {
	run := 0
	for _, block := range fenced.FindAllStringSubmatch(string(mustRead(t, "../../examples/manual/lifecycle.md")), -1) {
		if block[1] != "yaml" {
			continue
		}
		run++
		if _, problems := Load("larboard.yaml", []byte(block[2])); len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, block[2])
		}
	}
	if run < 2 {
		t.Errorf("only %d configurations were found", run)
	}
}
