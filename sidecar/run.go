package sidecar

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
)

const (
	identityWithin  = 10 * time.Second
	discoveryWithin = 5 * time.Second
)

// Run serves until ctx ends (at once) or Stop is called (gracefully), and returns
// when everything that it started has ended: nil after a drain to its end or to its
// deadline, ctx's error where ctx cut it short. Once. The steps of a start, in their
// order:
//
//  1. the admin interface and the probes answer: alive, not ready;
//  2. the addresses of all listeners are taken; one that cannot be ends the run with
//     its error;
//  3. the sources of endpoints and of our identity begin, and have a bounded time;
//  4. the listeners accept, those who have connected meanwhile first;
//  5. ready;
//  6. registered in Consul, where that is configured, and kept so.
func (s *Sidecar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	s.applying.Lock()
	s.ctx = ctx
	s.applying.Unlock()
	defer s.finish(cancel)
	engineDone := make(chan error, 1)
	// The engine outlives the control plane's context: its end is the drain's.
	engineCtx, endEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer endEngine()
	go func() { engineDone <- s.engine.Run(engineCtx) }()

	s.startControl(ctx)
	if err := s.start(); err != nil && !s.stopping.Load() && ctx.Err() == nil {
		endEngine()
		<-engineDone
		return err
	}
	select {
	case <-ctx.Done():
		endEngine()
		if err := <-engineDone; err != nil || !s.stopping.Load() {
			return err
		}
		return ctx.Err()
	case err := <-engineDone:
		return errors.Join(errors.New("the engine ended by itself"), err)
	case <-s.stopped.Done():
		whole := s.drain(ctx)
		if err := <-engineDone; err != nil || whole {
			return err
		}
		return ctx.Err()
	}
}

// finish ends the control plane and waits for it.
func (s *Sidecar) finish(cancel context.CancelFunc) {
	s.ready.Store(false)
	s.leave(context.Background()) // nothing is left where a drain came before
	cancel()
	s.applying.Lock()
	s.ended = true
	s.applying.Unlock()
	s.wg.Wait()
}

// startControl starts the goroutines of the control plane.
func (s *Sidecar) startControl(ctx context.Context) {
	s.run("discovery", func() error { return s.set.Run(ctx) })
	s.run("captures", func() error { return s.captures.run(ctx) })
	s.run("series", func() error { return s.sweepSeries(ctx) })
	s.run("rate limit service", func() error { return s.quota.run(ctx) })
	s.run("limits", func() error { return s.expireLimits(ctx) })
	s.run("memory", func() error { return s.giveBack(ctx) })
	s.run("health", func() error { return s.checker.Run(ctx) })
	s.run("outliers", func() error { return s.watchOutliers(ctx) })
	for _, own := range s.identities.all {
		s.run(strings.TrimSpace("identity "+own.name), func() error { return own.current.Run(ctx, own.source) })
		s.run("identity watch", func() error { return s.reauthorizeOnChange(ctx, own.current) })
	}
	for _, serve := range s.identities.serve {
		s.run("workload api", func() error { return serve(ctx) })
	}
	s.runAccessLogs()
	s.pushMetrics(ctx)
	if s.tracer != nil {
		s.run("traces", func() error { return s.tracer.Run(ctx) })
	}
	if s.options.Changes != nil {
		s.run("configuration", func() error { return s.options.Changes(ctx, func() { _ = s.Reload() }) }) // its outcome is logged
	}
	if s.probes != nil {
		s.run("probes", func() error { return s.probes.Run(ctx) })
	}
	for _, a := range s.admin {
		s.run("admin", func() error { return a.Run(ctx) })
	}
}

func (s *Sidecar) run(name string, f func() error) {
	s.wg.Go(func() {
		if err := f(); err != nil && !errors.Is(err, context.Canceled) {
			s.log.Error("component ended", "component", name, "error", err)
		}
	})
}

// start brings the first configuration into force. That there is no identity yet, or
// no endpoint, is no reason not to: without identity every mesh connection is
// refused, without endpoints requests are answered 503.
func (s *Sidecar) start() error {
	defer close(s.begun)
	began := time.Now()
	identified := began
	c := s.current()
	d := *s.descriptors.Load()
	err := s.apply(c, d, func(ctx context.Context, _ []string) {
		s.identities.await(ctx, identityWithin)
		identified = time.Now()
		s.awaitEndpoints(ctx)
		s.captures.await(ctx)
		s.awaitIntentions(ctx)
	})
	if err != nil {
		return err
	}
	s.ready.Store(true)
	took := startup{identified.Sub(began), time.Since(identified)}
	s.started.Store(&took)
	s.registerFirst()
	s.log.Info("ready", "took", (took.identity + took.ready).Round(10*time.Microsecond).String(), "after_identity", took.ready.Round(10*time.Microsecond).String(), "listeners", len(c.Listeners), "services", len(c.Services), "loops", len(s.engine.Loops()), "engine", s.engine.Kind().String(),
		"connections", d.Connections, "descriptors", d.Limit, "descriptors_reserved", d.Reserve)
	return nil
}

// registerFirst registers what the configuration in force says.
func (s *Sidecar) registerFirst() {
	s.applying.Lock()
	defer s.applying.Unlock() // also where it panics: finish takes the lock, too
	s.register(s.current())
}

// startup is how long a start took: until the identity was there or no longer waited for,
// and from then until ready.
type startup struct{ identity, ready time.Duration }

// registerStart feeds the metric of how long the start took.
func (s *Sidecar) registerStart() {
	s.metrics.Register(metrics.StartDuration, func(emit metrics.Emit) {
		if took := s.started.Load(); took != nil {
			emit(took.identity.Seconds(), "identity")
			emit(took.ready.Seconds(), "ready")
		}
	})
}

// awaitEndpoints waits for the first endpoints of the services named, or of all.
func (s *Sidecar) awaitEndpoints(ctx context.Context, services ...string) {
	within, cancel := context.WithTimeout(ctx, discoveryWithin)
	defer cancel()
	if err := s.set.WaitFirst(within, services...); err != nil && ctx.Err() == nil {
		s.log.Warn("not every service has endpoints yet", "error", err)
	}
}
