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
	// settled is how long a proxy has been ready when its start counts as over, in periods.
	settled = 2
	// taskBytes is what a task costs besides its buffers: its stack, its exchange.
	taskBytes = 12 << 10
	// little is not worth a collection, in bytes.
	little = 4 << 20
)

// burst remembers what the loops held when memory was last given back.
type burst struct{ most int }

// over reports whether now, in bytes, is so far below the most that memory is to be given
// back: at a quarter of it, then at a quarter of that.
func (b *burst) over(now int) bool {
	if now > b.most {
		b.most = now
	}
	if b.most < little || now > b.most/4 {
		return false
	}
	b.most = now
	return true
}

// giveBack returns memory to the system after the start and after bursts, until ctx ends.
func (s *Sidecar) giveBack(ctx context.Context) error {
	tick := time.NewTicker(memoryPeriod)
	defer tick.Stop()
	var b burst
	ready := 0
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if ready <= settled && s.Ready() {
				if ready++; ready > settled {
					debug.FreeOSMemory()
					forgetCode()
				}
			}
			held := s.engine.Stats().Total()
			if b.over(held.Coroutines*taskBytes + held.BufferBytes) {
				s.proxy.GiveBack()
				debug.FreeOSMemory()
			}
		}
	}
}
