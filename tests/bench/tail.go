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
func (b *bench) measureTail(ctx context.Context, s scenario, l *line, reference, subject *proxy) error {
	rate, err := b.halfOfSaturation(ctx, s, reference, subject)
	if err != nil {
		return err
	}
	l.Rate = rate
	fmt.Fprintf(b.progress, "%-10s at %.0f requests/s\n", s.name, rate)
	t := tail{bench: b, scenario: s, line: l, spare: 3 * b.o.rounds}
	return b.rounds(l, b.o.rounds, func(second bool) (float64, error) {
		p := reference
		if second {
			p = subject
		}
		r, err := t.window(ctx, p)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", p.name, err)
		}
		l.note(second, r)
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
// the rate is an error only in an undisturbed window, or in the last.
func (t *tail) window(ctx context.Context, p *proxy) (loadResult, error) {
	spec := t.spec(t.scenario, p, t.o.round)
	spec.Rate = t.line.Rate
	for {
		r, err := t.load(ctx, spec)
		if err != nil {
			return r, err
		}
		quiet := r.Foreign <= disturbed
		if !quiet && t.spare > 0 {
			t.spare--
			if err := pause(ctx, 200*time.Millisecond); err != nil {
				return r, err
			}
			continue
		}
		if !quiet {
			t.line.Disturbed++
		}
		if got := float64(r.Requests) / r.Elapsed.Seconds(); got < 0.9*spec.Rate {
			return r, fmt.Errorf("carried %.0f of %.0f requests/s: no latency below saturation", got, spec.Rate)
		}
		return r, nil
	}
}

// halfOfSaturation takes the best of three short windows of each proxy, since
// what disturbs a window only lowers it, and half of the lower best.
func (b *bench) halfOfSaturation(ctx context.Context, s scenario, proxies ...*proxy) (float64, error) {
	var lowest float64
	for _, p := range proxies {
		var best float64
		for range 3 {
			r, err := b.load(ctx, b.spec(s, p, b.o.round/2))
			if err != nil {
				return 0, fmt.Errorf("%s: saturation: %w", p.name, err)
			}
			best = max(best, float64(r.Requests)/r.Elapsed.Seconds())
		}
		if lowest == 0 || best < lowest {
			lowest = best
		}
	}
	return lowest / 2, nil
}
