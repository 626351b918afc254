package sidecar

import (
	"context"
	"log/slog"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// sweepPeriod is how often it is looked what time has brought to breakers and ejection.
const sweepPeriod = time.Second

// watchOutliers lets time act on breakers and ejection, and writes a line for each of their
// changes, until ctx ends.
func (s *Sidecar) watchOutliers(ctx context.Context) error {
	tick := time.NewTicker(sweepPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for _, svc := range s.serviceMap() {
				svc.Sweep(s.engine.Nanos())
			}
		case <-s.happened:
		}
		for _, svc := range s.serviceMap() {
			s.logOutliers(svc)
		}
	}
}

// listenToOutliers has the services wake watchOutliers.
func (s *Sidecar) listenToOutliers(services map[string]*upstream.Service) {
	for _, svc := range services {
		svc.OnEvent(func() {
			select {
			case s.happened <- struct{}{}:
			default: // it is about to look
			}
		})
	}
}

func (s *Sidecar) logOutliers(svc *upstream.Service) {
	events, lost := svc.TakeEvents()
	for _, e := range events {
		log := s.log.With("service", svc.Name, "endpoint", e.Endpoint.Address)
		if c := e.Breaker; c != nil {
			log.Log(context.Background(), breakerLevel(c), "breaker changed", "from", c.From.String(), "to", c.To.String(), "failures", c.Failures)
			continue
		}
		switch c := e.Ejection; {
		case c.Capped:
			log.Warn("endpoint stays in: as many are out as may be", "cause", c.Cause.String(), "max_percent", maxPercent(svc))
		case c.Out:
			log.Warn("endpoint ejected", "cause", c.Cause.String(), "count", c.Times, "for", c.For.String())
		case c.Early:
			log.Info("endpoint returns: fewer may be out now", "cause", c.Cause.String(), "count", c.Times)
		default:
			log.Info("endpoint returns", "cause", c.Cause.String(), "count", c.Times)
		}
	}
	if lost > 0 {
		s.log.Warn("changes of breakers and ejection that are not in the log", "service", svc.Name, "changes", lost)
	}
}

func breakerLevel(c *breaker.Change) slog.Level {
	if c.To == breaker.Open {
		return slog.LevelWarn
	}
	return slog.LevelInfo
}

func maxPercent(svc *upstream.Service) int {
	if j := svc.Settings().Ejection; j != nil {
		return j.MaxPercent
	}
	return 0
}

// registerOutliers feeds the metrics of breakers and ejection.
func (s *Sidecar) registerOutliers() {
	of := func(i metrics.Instrument, emit func(metrics.Emit, *upstream.Service)) {
		s.metrics.Register(i, func(e metrics.Emit) {
			for _, svc := range s.snapshotServices() {
				emit(e, svc)
			}
		})
	}
	of(metrics.BreakerState, func(emit metrics.Emit, svc *upstream.Service) {
		for _, m := range svc.Set().Members {
			if v, ok := svc.Breaker(m.Endpoint, s.engine.Nanos()); ok {
				emit(float64(v.State), svc.Name, m.Address)
			}
		}
	})
	of(metrics.BreakerChanges, func(emit metrics.Emit, svc *upstream.Service) {
		for _, to := range []breaker.State{breaker.Closed, breaker.HalfOpen, breaker.Open} {
			if svc.Settings().Breaker != nil {
				emit(float64(svc.BreakerChanges(to)), svc.Name, to.String())
			}
		}
	})
	of(metrics.Ejected, func(emit metrics.Emit, svc *upstream.Service) {
		for _, m := range svc.Set().Members {
			if v, ok := svc.Ejection(m.Endpoint, s.engine.Nanos()); ok {
				out := 0.0
				if v.Out {
					out = 1
				}
				emit(out, svc.Name, m.Address)
			}
		}
	})
	of(metrics.Ejections, func(emit metrics.Emit, svc *upstream.Service) {
		for _, c := range []eject.Cause{eject.InARow, eject.ByRate} {
			if svc.Settings().Ejection != nil {
				emit(float64(svc.Ejections(c)), svc.Name, c.String())
			}
		}
	})
	of(metrics.EjectionsCapped, func(emit metrics.Emit, svc *upstream.Service) {
		if svc.Settings().Ejection != nil {
			emit(float64(svc.Capped()), svc.Name)
		}
	})
}
