package config

import "testing"

// The configurations on the manual's page about discovery are right, beside a
// listener for their service.
func TestManualDiscovery(t *testing.T) {
	run := 0
	for _, block := range fenced.FindAllStringSubmatch(string(mustRead(t, "../../examples/manual/discovery.md")), -1) {
		if block[1] != "yaml" {
			continue
		}
		run++
		text := "listeners: [{name: web, address: 127.0.0.1:8080, service: web}]\n" + block[2]
		if _, problems := Load("larboard.yaml", []byte(text)); len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, text)
		}
	}
	if run < 4 {
		t.Errorf("only %d configurations were found", run)
	}
}
