package sidecar

import "testing"

func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	var b burst
	for i, step := range []struct {
		megabytes int
		over      bool
	}{{3, false}, {0, false}, {160, false}, {80, false}, {40, true}, {39, false}, {10, true}, {5, false}, {2, true}, {0, false}, {6, false}, {1, true}} {
		if got := b.over(step.megabytes << 20); got != step.over {
			t.Errorf("step %d, %d MiB: %v, want %v", i, step.megabytes, got, step.over)
		}
	}
}
