package sidecar

import (
	"context"
	"runtime/debug"
	"time"
)

// After a burst the loops let go of tasks and buffers by themselves, a share each second.
// What they let go stays with the Go heap, whose collector has no reason to run while little
// happens, and with the stacks of tasks, which only it frees: so the proxy asks for it.

const (
	memoryPeriod = time.Second
	// fewTasks is too little to be worth a collection.
	fewTasks = 256
)

// burst remembers how many coroutines there were when memory was last given back.
type burst struct{ most int }

// over reports whether now is so far below the most that memory is to be given back: at a
// quarter of it, then at a quarter of that.
func (b *burst) over(now int) bool {
	if now > b.most {
		b.most = now
	}
	if b.most < fewTasks || now > b.most/4 {
		return false
	}
	b.most = now
	return true
}

// giveBack returns memory to the system after bursts, until ctx ends.
func (s *Sidecar) giveBack(ctx context.Context) error {
	tick := time.NewTicker(memoryPeriod)
	defer tick.Stop()
	var b burst
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if b.over(s.engine.Stats().Total().Coroutines) {
				debug.FreeOSMemory()
			}
		}
	}
}
