//go:build linux

package main

import (
	"context"
	"fmt"
)

// measureTail finds what each proxy can carry, and then sends half of what the
// weaker one can to both.
func (b *bench) measureTail(ctx context.Context, s scenario, l *line) error {
	rate, err := b.halfOfSaturation(ctx, s, l)
	if err != nil {
		return fmt.Errorf("saturation: %w", err)
	}
	l.Rate = rate
	fmt.Fprintf(b.progress, "%-10s at %.0f requests/s\n", s.name, rate)
	repeat := repeater{bench: b, line: l, limit: disturbedTail, spare: 3 * b.o.rounds}
	return b.rounds(ctx, l, b.o.rounds, func(p *proxy, subject bool) (float64, error) {
		spec := b.spec(s, p, b.o.round)
		spec.Rate = rate
		r, err := repeat.window(ctx, spec)
		if err != nil {
			return 0, err
		}
		got := float64(r.Requests) / r.Elapsed.Seconds()
		if r.Foreign <= disturbedTail && got < 0.9*rate {
			return 0, fmt.Errorf("carried %.0f of %.0f requests/s: no latency below saturation", got, rate)
		}
		l.note(subject, r)
		return float64(r.P99) / 1e3, nil
	})
}

// halfOfSaturation takes the best of three short windows of each proxy, since
// what disturbs a window only lowers it, and half of the lower best.
func (b *bench) halfOfSaturation(ctx context.Context, s scenario, l *line) (float64, error) {
	var best [2]float64
	for i := range 2 * 3 {
		_, err := b.fresh(ctx, l, i%2 == 1, func(p *proxy, _ bool) (float64, error) {
			r, err := b.load(ctx, b.spec(s, p, b.o.round/2))
			if err == nil {
				best[i%2] = max(best[i%2], float64(r.Requests)/r.Elapsed.Seconds())
			}
			return 0, err
		})
		if err != nil {
			return 0, err
		}
	}
	return min(best[0], best[1]) / 2, nil
}
