package config

import (
	"reflect"
	"strings"
	"testing"
)

// The page about repeats shows the defaults that are in force, and its example is right.
func TestManualRetries(t *testing.T) {
	blocks := fenced.FindAllStringSubmatch(string(mustRead(t, pages+"retries.md")), -1)
	run := 0
	for _, block := range blocks {
		text := block[2]
		if block[1] == "yaml defaults" {
			indented := "listeners: [{name: l, address: 127.0.0.1:1, service: s}]\nservices:\n- name: s\n  endpoints: [127.0.0.1:2]\n"
			plain, shown := load(t, indented), load(t, indented+indent(text))
			want, got := plain.Services[0].Retries, shown.Services[0].Retries
			want.Statuses, want.GRPCStatuses = StatusRanges{}, GRPCStatuses{}
			got.Statuses, got.GRPCStatuses = StatusRanges{}, GRPCStatuses{}
			if run++; !reflect.DeepEqual(got, want) {
				t.Errorf("the page has %+v, the code %+v", got, want)
			}
			continue
		}
		if block[1] == "yaml" {
			run++
			load(t, text)
		}
	}
	if run != 2 {
		t.Errorf("%d examples were found", run)
	}
}

// indent puts text into a mapping of a list.
func indent(text string) (out string) {
	for line := range strings.Lines(text) {
		out += "  " + line
	}
	return out
}
