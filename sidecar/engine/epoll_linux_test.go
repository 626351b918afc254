package engine

import (
	"testing"
	"time"
)

// A loop lets its processor go in the first wait, keeps it for a while, and lets it go
// again; polling is no wait.
func TestProcessorIsLetGo(t *testing.T) {
	var p epoll
	if p.mayHold(0) || !p.released.IsZero() {
		t.Error("polling counts as a wait")
	}
	if p.mayHold(1) {
		t.Error("held in the first wait")
	}
	p.released = time.Now().Add(time.Hour)
	if !p.mayHold(-1) {
		t.Error("not held right after a wait that let it go")
	}
	p.released = time.Now().Add(-holdFor)
	if p.mayHold(-1) || time.Since(p.released) > time.Minute {
		t.Error("held for longer than it may")
	}
}
