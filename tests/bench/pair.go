//go:build linux

package main

import (
	"context"
	"fmt"
)

// measureAdded takes what a pair adds to a latency: the quantile through it less the
// quantile of the origin alone, from two windows back to back.
func (b *bench) measureAdded(ctx context.Context, s scenario, l *line) error {
	l.Rate = s.spec.Rate
	repeat := repeater{bench: b, line: l, limit: disturbedTail, spare: 3 * b.o.rounds}
	at := func(r loadResult) float64 {
		if s.quantile == 0.5 {
			return float64(r.P50) / 1e3
		}
		return float64(r.P99) / 1e3
	}
	return b.rounds(ctx, l, b.o.rounds, func(p *proxy, subject bool) (float64, error) {
		spec := b.spec(s, p, b.o.round)
		through, err := repeat.window(ctx, spec)
		if err != nil {
			return 0, err
		}
		l.note(subject, through)
		spec.Addr = p.site.Origin.HTTP
		alone, err := repeat.window(ctx, spec)
		if err != nil {
			return 0, fmt.Errorf("origin alone: %w", err)
		}
		return at(through) - at(alone), nil
	})
}

// measureResident takes the resident memory of the largest process after a window of
// load.
func (b *bench) measureResident(ctx context.Context, s scenario, l *line) error {
	return b.rounds(ctx, l, min(b.o.rounds, 3), func(p *proxy, subject bool) (float64, error) {
		r, err := b.load(ctx, b.spec(s, p, b.o.round))
		if err != nil {
			return 0, err
		}
		l.note(subject, r)
		var largest int64
		for _, pid := range p.pids() {
			rss, err := residentSetBytes(pid)
			if err != nil {
				return 0, err
			}
			largest = max(largest, rss)
		}
		return float64(largest) / 1e6, nil
	})
}
