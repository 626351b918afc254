package e2e

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// sample is what a sidecar holds at a moment.
type sample struct {
	vitals
	goroutines, tasks, connections float64
	buffers                        float64 // bytes
}

func (s sample) String() string {
	return fmt.Sprintf("%6.1f MiB, %3d descriptors, %3.0f goroutines, %3.0f tasks, %3.0f connections, %5.2f MiB buffers",
		mib(s.memory), s.descriptors, s.goroutines, s.tasks, s.connections, s.buffers/(1<<20))
}

// sample asks the kernel and the sidecar. It may be called from any goroutine.
func (p *larboard) sample() (s sample, err error) {
	if s.vitals, err = readVitals(p.pid()); err != nil {
		return s, err
	}
	status, body, err := p.get("/metrics")
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET /metrics: %d", status)
	}
	if err != nil {
		return s, err
	}
	all, err := parseSamples(body)
	s.goroutines, s.tasks = all.sum("go_goroutines"), all.sum("larboard_engine_tasks")
	s.connections, s.buffers = all.sum("larboard_engine_connections"), all.sum("larboard_engine_buffer_bytes")
	return s, err
}

func (s *soak) sampleAll() map[string]sample {
	s.t.Helper()
	all := map[string]sample{}
	for _, p := range s.fixed() {
		one, err := p.sample()
		if err != nil {
			s.t.Fatalf("%s: %v", p.name, err)
		}
		all[p.name] = one
	}
	return all
}

// sampler keeps the samples of a run, by name.
type sampler struct {
	t   testing.TB
	mu  sync.Mutex
	all map[string][]sample
}

func (r *sampler) take(from []*larboard) {
	for _, p := range from {
		one, err := p.sample()
		if err != nil {
			r.t.Errorf("%s: %v", p.name, err)
			continue
		}
		r.mu.Lock()
		r.all[p.name] = append(r.all[p.name], one)
		r.mu.Unlock()
	}
}

func (r *sampler) last(name string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if all := r.all[name]; len(all) > 0 {
		return fmt.Sprintf("%-4s %v", name, all[len(all)-1])
	}
	return name + " -"
}

// check compares the second sixth of the run with the last one: the first
// is the warm-up. Then it waits until what is left is what there was before the load.
func (r *sampler) check(idle map[string]sample, from []*larboard) {
	r.t.Helper()
	table := "what the sidecars hold: before the load, early and late in it (medians), the most at any time, and after it"
	for _, p := range from {
		all := r.all[p.name]
		sixth := len(all) / 6
		if sixth == 0 {
			r.t.Fatalf("%s: %d samples", p.name, len(all))
		}
		early, late := all[sixth:2*sixth], all[len(all)-sixth:]
		after := r.awaitRest(p, idle[p.name])
		for _, row := range []struct {
			when string
			sample
		}{{"before", idle[p.name]}, {"early", at(early, 0.5)}, {"late", at(late, 0.5)}, {"most", at(all, 1)}, {"after", after}} {
			table += fmt.Sprintf("\n\t%-4s %-6s %v", p.name, row.when, row.sample)
		}
		if !long() {
			continue // seconds have no trend
		}
		r.checkTrend(p.name, at(early, 0.1), at(late, 0.1), at(early, 0.5), at(late, 0.5))
	}
	r.t.Log(table)
}

// checkTrend fails the test for what has grown both in its median and in the level to
// which it comes down (the tenth percentile): a leak raises both, requests that pile up
// while the machine is busy with something else raise the one.
func (r *sampler) checkTrend(name string, earlyLow, lateLow, early, late sample) {
	r.t.Helper()
	for _, c := range []struct {
		what         string
		of           func(sample) float64
		share, least float64 // allowed growth: the share, but at least so much
	}{
		{"MiB of memory", func(s sample) float64 { return mib(s.memory) }, 0.1, 4},
		{"descriptors", func(s sample) float64 { return float64(s.descriptors) }, 0, 8},
		// Those of a burst of streams are kept for a while, to be used again.
		{"goroutines", func(s sample) float64 { return s.goroutines }, 0.25, 8},
		{"tasks", func(s sample) float64 { return s.tasks }, 0, 16},
		{"connections", func(s sample) float64 { return s.connections }, 0, 16},
		{"MiB of buffers", func(s sample) float64 { return s.buffers / (1 << 20) }, 0.1, 1},
	} {
		allowed := max(c.of(early)*c.share, c.least)
		if c.of(late)-c.of(early) > allowed && c.of(lateLow)-c.of(earlyLow) > allowed {
			r.t.Errorf("%s: %s grew from %.1f to %.1f (at their lowest from %.1f to %.1f), by more than %.1f",
				name, c.what, c.of(early), c.of(late), c.of(earlyLow), c.of(lateLow), allowed)
		}
	}
}

// awaitRest waits until nothing is left of the load but connections to endpoints that
// wait to be used again.
func (r *sampler) awaitRest(p *larboard, idle sample) (now sample) {
	r.t.Helper()
	const kept, some = 64, 8
	eventually(r.t, 2*time.Minute, p.name+" is back where it was", func() (err error) {
		if now, err = p.sample(); err != nil {
			return err
		}
		if now.tasks > idle.tasks+some || now.goroutines > idle.goroutines+some ||
			now.connections > idle.connections+kept || now.descriptors > idle.descriptors+kept {
			return fmt.Errorf("%v; was %v", now, idle)
		}
		return nil
	})
	return now
}

// at is the quantile of each figure by itself.
func at(all []sample, q float64) sample {
	return sample{
		vitals: vitals{memory: quantile(all, q, func(s sample) int64 { return s.memory }),
			descriptors: quantile(all, q, func(s sample) int { return s.descriptors })},
		goroutines:  quantile(all, q, func(s sample) float64 { return s.goroutines }),
		tasks:       quantile(all, q, func(s sample) float64 { return s.tasks }),
		connections: quantile(all, q, func(s sample) float64 { return s.connections }),
		buffers:     quantile(all, q, func(s sample) float64 { return s.buffers }),
	}
}

func quantile[T cmp.Ordered](all []sample, q float64, of func(sample) T) T {
	values := make([]T, len(all))
	for i, s := range all {
		values[i] = of(s)
	}
	slices.Sort(values)
	return values[int(q*float64(len(values)-1))]
}
