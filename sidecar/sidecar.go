// Package sidecar is the composition root: it builds a running proxy from a
// configuration, applies new configurations, and drains. Everything below it
// knows its own business only; what they have to do with each other is here.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/health"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Options of a Sidecar.
type Options struct {
	// Load reads the configuration; called at start and at each reload. Problems of
	// the file are a config.Problems error.
	Load func() (*config.Config, error)
	Log  *slog.Logger
	// Observers are told of each exchange, beside metrics and access log.
	Observers []observability.Observer
	// Source, where set, replaces Consul: the demo's registry.
	Source func(*config.ConsulDiscovery) discovery.Source
	// Authority, where set, serves `identity: {dev: ...}` in place of one of our own.
	Authority *identity.Authority
}

// Sidecar is one running proxy.
type Sidecar struct {
	options Options
	log     *slog.Logger

	// immutable after New
	config0  *config.Config // as started; what cannot change without a restart
	engine   *engine.Engine
	metrics  *metrics.Metrics
	access   *accesslog.Log // nil: off
	proxy    *proxy.Proxy
	set      *discovery.Set
	checker  *health.Checker
	sources  sources
	identity *identity.Current // nil: none configured
	issuer   identity.Source
	workload workloadAPI
	admin    []*admin.Server

	ready    atomic.Bool
	stopping atomic.Bool
	stop     chan struct{}
	stopOnce sync.Once

	reloading  sync.Mutex // one reload at a time, its reading included
	applying   sync.Mutex // one apply at a time; guards the next two
	generation uint64
	endEdges   context.CancelFunc // of the goroutines that keep certificates fresh

	mu       sync.Mutex // guards what follows; held for moments
	config   *config.Config
	services map[string]*upstream.Service

	ctx context.Context // of Run
	wg  sync.WaitGroup
}

// New builds a sidecar from its configuration and binds its admin sockets; nothing
// runs yet. Errors: config.Problems, or what could not be built.
func New(o Options) (*Sidecar, error) {
	loaded, err := o.Load()
	if err != nil {
		return nil, err
	}
	s := &Sidecar{options: o, log: o.Log, config0: loaded, stop: make(chan struct{}), services: map[string]*upstream.Service{}}
	c := config.Expand(loaded)
	loops := Loops(loaded)
	if s.engine, err = engine.New(engine.Options{Loops: loops, Log: o.Log}); err != nil {
		return nil, err
	}
	if err := s.build(c, loops); err != nil {
		s.engine.Close()
		return nil, err
	}
	s.config = c
	return s, nil
}

// Loops is the number of event loops that a configuration asks for: as written, or
// min(2, CPUs) beside a workload, or one for each CPU.
func Loops(c *config.Config) int {
	cpus := runtime.NumCPU()
	switch {
	case c.Loops > 0:
		return c.Loops
	case c.Workload != nil || len(c.Upstreams) > 0:
		return min(2, cpus)
	}
	return cpus
}

func (s *Sidecar) build(c *config.Config, loops int) error {
	s.metrics = metrics.New(loops)
	observers := append([]observability.Observer{s.metrics}, s.options.Observers...)
	if err := s.openAccessLog(c, loops); err != nil {
		return err
	}
	if s.access != nil {
		observers = append(observers, s.access)
	}
	s.proxy = proxy.New(proxy.Options{Engine: s.engine, Observers: observers, Meter: s.metrics, Log: s.log})
	s.set = discovery.New(s.log)
	s.set.OnUpdate = s.onUpdate
	s.checker = health.New(health.Options{Report: s.onHealth, Log: s.log})
	if err := s.sources.init(c, s.options, s.log); err != nil {
		return err
	}
	if err := s.buildIdentity(c); err != nil {
		return err
	}
	s.registerGauges()
	return s.openAdmin(c)
}

func (s *Sidecar) openAccessLog(c *config.Config, loops int) error {
	if c.AccessLog.Path == config.AccessLogOff {
		return nil
	}
	o := accesslog.Options{Loops: loops, Format: accesslog.Text, Logger: s.log}
	if c.AccessLog.Format == config.FormatJSON {
		o.Format = accesslog.JSON
	}
	if c.AccessLog.Path != config.AccessLogStdout {
		o.Path = c.AccessLog.Path
	}
	var err error
	s.access, err = accesslog.New(o)
	return err
}

const (
	identityWithin  = 10 * time.Second
	discoveryWithin = 5 * time.Second
)

// Run serves until ctx ends (at once) or Stop is called (gracefully), and returns
// when everything that it started has ended: nil after a drain to its end or to its
// deadline, ctx's error where ctx cut it short.
func (s *Sidecar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	s.ctx = ctx
	defer s.wg.Wait()
	defer cancel()
	engineDone := make(chan error, 1)
	// The engine outlives the control plane's context: its end is the drain's.
	engineCtx, endEngine := context.WithCancel(context.WithoutCancel(ctx))
	defer endEngine()
	go func() { engineDone <- s.engine.Run(engineCtx) }()

	s.startControl(ctx)
	if err := s.start(ctx); err != nil && !s.stopping.Load() {
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
		return fmt.Errorf("engine: %w", err)
	case <-s.stop:
		whole := s.drain(ctx)
		if err := <-engineDone; err != nil || whole {
			return err
		}
		return ctx.Err()
	}
}

// startControl starts the goroutines of the control plane.
func (s *Sidecar) startControl(ctx context.Context) {
	s.run("discovery", func() error { return s.set.Run(ctx) })
	s.run("health", func() error { return s.checker.Run(ctx) })
	if s.identity != nil {
		s.run("identity", func() error { return s.identity.Run(ctx, s.issuer) })
	}
	if s.workload.serve != nil {
		s.run("workload api", func() error { return s.workload.serve(ctx) })
	}
	if s.access != nil {
		s.run("access log", func() error { return s.access.Run(ctx) })
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

// start waits a bounded time for the identity and the first endpoints, then
// accepts. Neither being there is no reason not to start: without identity every
// mesh connection is refused, without endpoints requests are answered 503.
// Stop ends the waiting.
func (s *Sidecar) start(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.wg.Go(func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	})
	if s.identity != nil {
		within, cancel := context.WithTimeout(ctx, identityWithin)
		if _, err := s.identity.Wait(within); err != nil && ctx.Err() == nil {
			s.log.Warn("no identity yet: mesh connections are refused until it comes", "waited", identityWithin.String())
		}
		cancel()
	}
	s.reloading.Lock()
	err := s.apply(s.current())
	s.reloading.Unlock()
	if err != nil {
		return err
	}
	within, cancel := context.WithTimeout(ctx, discoveryWithin)
	defer cancel()
	if err := s.set.WaitFirst(within); err != nil && ctx.Err() == nil {
		s.log.Warn("not every service has endpoints yet", "error", err)
	}
	if s.stopping.Load() {
		return nil
	}
	s.ready.Store(true)
	s.log.Info("ready", "listeners", len(s.current().Listeners), "services", len(s.current().Services), "loops", len(s.engine.Loops()))
	return nil
}
