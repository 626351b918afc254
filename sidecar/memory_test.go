package sidecar

import "testing"

func TestMemoryIsGivenBackAfterABurst(t *testing.T) {
	var b burst
	for i, step := range []struct {
		coroutines int
		over       bool
	}{{100, false}, {0, false}, {8000, false}, {4000, false}, {2000, true}, {1900, false}, {500, true}, {200, false}, {125, true}, {0, false}, {300, false}, {10, true}} {
		if got := b.over(step.coroutines); got != step.over {
			t.Errorf("step %d, %d coroutines: %v, want %v", i, step.coroutines, got, step.over)
		}
	}
}
