package main

import (
	"context"
	"fmt"
	"time"
)

// disturbed is the foreign share of a window above which its tail latency is
// taken to be somebody else's: on a quiet machine the share is below 0.02.
const disturbed = 0.04

// measureTail finds what each proxy can carry, and then sends half of what the
// weaker one can to both. A round disturbed by other processes is measured
// again while there are tries left; what could not be repeated is counted.
func (b *bench) measureTail(ctx context.Context, s scenario, l *line) error {
	rate, err := b.halfOfSaturation(ctx, s, l.site)
	if err != nil {
		return fmt.Errorf("saturation: %w", err)
	}
	l.Rate = rate
	fmt.Fprintf(b.progress, "%-10s at %.0f requests/s\n", s.name, rate)
	t := tail{bench: b, scenario: s, line: l, spare: 3 * b.o.rounds}
	return b.rounds(ctx, l, b.o.rounds, func(p *proxy, subject bool) (float64, error) {
		r, err := t.window(ctx, p)
		if err != nil {
			return 0, err
		}
		l.note(subject, r)
		return float64(r.P99) / 1e3, nil
	})
}

// tail is the open-loop part of one scenario.
type tail struct {
	*bench
	scenario scenario
	line     *line
	spare    int // windows that may still be repeated
}

// window measures until nothing disturbed it or no try is left. Falling behind
// the rate is an error only in an undisturbed window.
func (t *tail) window(ctx context.Context, p *proxy) (loadResult, error) {
	spec := t.spec(t.scenario, p, t.o.round)
	spec.Rate = t.line.Rate
	for {
		r, err := t.load(ctx, spec)
		quiet := r.Foreign <= disturbed
		if !quiet && t.spare > 0 {
			t.spare--
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return r, err
			}
			continue
		}
		if err != nil {
			return r, err
		}
		if !quiet {
			t.line.Disturbed++
			return r, nil
		}
		if got := float64(r.Requests) / r.Elapsed.Seconds(); got < 0.9*spec.Rate {
			return r, fmt.Errorf("carried %.0f of %.0f requests/s: no latency below saturation", got, spec.Rate)
		}
		return r, nil
	}
}

// halfOfSaturation takes the best of three short windows of each proxy, since
// what disturbs a window only lowers it, and half of the lower best.
func (b *bench) halfOfSaturation(ctx context.Context, s scenario, where site) (float64, error) {
	var best [2]float64
	for i := range 2 * 3 {
		_, err := b.fresh(ctx, where, i%2 == 1, func(p *proxy, _ bool) (float64, error) {
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
