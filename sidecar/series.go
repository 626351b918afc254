package sidecar

import (
	"context"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
)

// sweepSeries gives up the series of what has gone, until ctx ends.
func (s *Sidecar) sweepSeries(ctx context.Context) error {
	ticker := time.NewTicker(metrics.SweepEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			s.sweep()
		}
	}
}

// sweep gives up the series of what is not in force, and of sources unseen for long. At a
// reload the exchanges of the old configuration may make some of them once more, which the
// next sweep takes.
func (s *Sidecar) sweep() {
	loops := s.engine.Loops()
	s.metrics.Sweep(s.live(), func(loop int, f func()) { loops[loop].Post(f) })
}

// live is what may have series: what the snapshot in force names.
func (s *Sidecar) live() *metrics.Live {
	snapshot := s.proxy.Snapshot()
	live := &metrics.Live{
		Listeners: map[string]bool{}, Services: map[string]bool{},
		Routes: map[[2]string]bool{}, Endpoints: map[[2]string]bool{},
	}
	for _, l := range snapshot.Listeners {
		live.Listeners[l.Name] = true
		for _, r := range l.Routes {
			live.Routes[[2]string{l.Name, r.Name}] = true
		}
	}
	for _, svc := range snapshot.Services {
		live.Services[svc.Name] = true
		for _, m := range svc.Set().Members {
			live.Endpoints[[2]string{svc.Name, m.Address}] = true
		}
	}
	return live
}
