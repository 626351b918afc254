package config

import (
	"strings"
	"testing"
)

// The sections that the page about metrics shows are right, each beside a workload.
func TestManualMetricsExamples(t *testing.T) {
	run := 0
	for _, block := range fenced.FindAllStringSubmatch(string(mustRead(t, pages+"observability.md")), -1) {
		if block[1] != "yaml" || !strings.HasPrefix(block[2], "metrics:") {
			continue
		}
		run++
		text := block[2] + "workload: {service: web, address: 127.0.0.1:8000, listen: 127.0.0.1:20000}\nidentity: {dev: {}}\n"
		if _, problems := Load("observability.md", []byte(text)); len(problems) > 0 {
			t.Errorf("%v\nin\n%s", problems, text)
		}
	}
	if run < 2 {
		t.Errorf("only %d examples were found", run)
	}
}
