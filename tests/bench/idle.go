//go:build linux

package main

import (
	"context"
	"fmt"
	"time"
)

// measureIdle takes a few rounds only: memory varies little.
func (b *bench) measureIdle(ctx context.Context, s scenario, l *line) error {
	if b.o.short {
		s.idle /= 10
	}
	return b.rounds(ctx, l, min(b.o.rounds, 3), func(p *proxy, _ bool) (float64, error) {
		return b.idleMemory(ctx, s, p)
	})
}

func (b *bench) idleMemory(ctx context.Context, s scenario, p *proxy) (float64, error) {
	// What the first requests bring into memory is not the connections' cost.
	warm := b.spec(s, p, 300*time.Millisecond)
	warm.Conns = 16
	if _, err := b.load(ctx, warm); err != nil {
		return 0, err
	}
	if err := pause(ctx, b.o.settle/2); err != nil {
		return 0, err
	}
	before, err := writtenBytes(p.pids()[0])
	if err != nil {
		return 0, err
	}
	after, err := b.holding(ctx, s, p)
	return float64(after-before) / float64(s.idle), err
}

// holding is the proxy's memory while the connections are open. All of them
// must still be open when it was read.
func (b *bench) holding(ctx context.Context, s scenario, p *proxy) (int64, error) {
	spec := b.spec(s, p, 0)
	spec.Conns, spec.Idle = s.idle, true
	child, err := b.startLoad(spec)
	if err != nil {
		return 0, err
	}
	defer child.stop()
	var opened, still loadResult
	if err := child.decode(ctx, 2*time.Minute, &opened); err != nil {
		return 0, err
	}
	if err := pause(ctx, b.o.settle); err != nil {
		return 0, err
	}
	after, err := writtenBytes(p.pids()[0])
	if err != nil {
		return 0, err
	}
	if _, err := child.stdin.Write([]byte{'\n'}); err != nil {
		return 0, fmt.Errorf("load: %w", err)
	}
	if err := child.decode(ctx, 30*time.Second, &still); err != nil {
		return 0, err
	}
	if still.Failed > 0 {
		return 0, fmt.Errorf("%d of %d idle connections were closed", still.Failed, s.idle)
	}
	return after, nil
}
