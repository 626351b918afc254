package demo

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

// TestStory tells the whole story with a registry in memory: every step must show
// what it claims, and no call may fail. tests/e2e tells it through the binary.
func TestStory(t *testing.T) {
	var out bytes.Buffer
	err := Run(t.Context(), Options{Once: true, Rate: 300, Pause: time.Millisecond, Out: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if text := out.String(); !strings.Contains(text, "failed 0; steps 13 of 13 passed") {
		t.Errorf("summary missing:\n%s", text)
	}
}
