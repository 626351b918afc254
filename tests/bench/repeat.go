//go:build linux

package main

import (
	"context"
	"time"
)

// The foreign share of a window (see edge.between) above which it is measured
// again. On a quiet machine the share is below 0.02. A tail latency is soon
// somebody else's; CPU for each request bears more, until the proxy is starved
// so much that its events come in other batches.
const (
	disturbedTail = 0.04
	disturbedCPU  = 0.25
)

// repeater measures windows again that other processes disturbed, as long as
// there are tries to spare, and counts those it had to keep.
type repeater struct {
	*bench
	line  *line
	limit float64
	spare int // tries left, over all rounds
}

func (r *repeater) window(ctx context.Context, spec loadSpec) (loadResult, error) {
	for {
		result, err := r.load(ctx, spec)
		if result.Foreign <= r.limit {
			return result, err
		}
		if r.spare == 0 {
			r.line.Disturbed++
			return result, err
		}
		r.spare--
		if err := pause(ctx, 200*time.Millisecond); err != nil {
			return result, err
		}
	}
}
