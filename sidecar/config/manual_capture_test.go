package config

import "testing"

// TestManualCapture: every example of the page is a whole configuration.
func TestManualCapture(t *testing.T) {
	blocks := fenced.FindAllStringSubmatch(string(mustRead(t, pages+"capture.md")), -1)
	n := 0
	for _, block := range blocks {
		if block[1] != "yaml" {
			continue
		}
		n++
		if _, problems := Load("capture.md", []byte(block[2])); len(problems) > 0 {
			t.Errorf("%v in\n%s", problems, block[2])
		}
	}
	if n < 3 {
		t.Errorf("%d examples", n)
	}
}
