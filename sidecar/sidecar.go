// Package sidecar is the composition root: it builds a running proxy from a
// configuration, applies new configurations, and drains. Everything below it
// knows its own business only; what they have to do with each other is here.
package sidecar

import (
	"context"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/decisions"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/observability/trace"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/health"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/probes"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Options of a Sidecar.
type Options struct {
	// Load reads the configuration; called at start and at each reload. Problems of
	// the file are a config.Problems error.
	Load func() (*config.Config, error)
	// Changes, where set, calls reload whenever Load would return something else, until
	// ctx ends. reload blocks for the length of a reload.
	Changes func(ctx context.Context, reload func()) error
	Log     *slog.Logger
	// Descriptors is how many file descriptors the process may have; 0: unknown.
	Descriptors uint64
	// CPUs is how many the process may use, for those who set GOMAXPROCS to something
	// else; 0: GOMAXPROCS.
	CPUs int
	// Observers are told of each exchange, beside metrics and access log.
	Observers []observability.Observer
	// Source, where set, replaces Consul: the demo's registry.
	Source func(*config.ConsulDiscovery) discovery.Source
	// Authority, where set, serves `identity: {dev: ...}` in place of one of our own.
	Authority *identity.Authority
	// Version is ours, for what we register in Consul.
	Version string
	// Application, where set, runs below us and is asked to end in a drain.
	Application Application
}

// Sidecar is one running proxy.
type Sidecar struct {
	options Options
	log     *slog.Logger

	// immutable after New
	config0    *config.Config // as started; what cannot change without a restart
	engine     *engine.Engine
	metrics    *metrics.Metrics
	tracer     *trace.Tracer // nil: traces are not taken part in
	access     accessLogs
	decisions  *decisions.Log // nil: none are kept
	push       *metrics.Push  // nil: metrics are scraped only
	proxy      *proxy.Proxy
	limits     *limit.Registry
	quota      quotas
	set        *discovery.Set
	checker    *health.Checker
	sources    sources
	identities identities
	intentions intentions
	presences  presences
	captures   captures
	admin      []*admin.Server
	probes     *probes.Server // nil: none

	descriptors atomic.Pointer[Descriptors] // the budget of the configuration in force

	ready    atomic.Bool
	started  atomic.Pointer[startup] // nil before it is ready
	leaving  atomic.Bool             // see Leave
	stopping atomic.Bool
	stopped  context.Context // ends when Stop is called
	stopNow  context.CancelFunc
	happened chan struct{} // there are events of breakers and ejection to log
	begun    chan struct{} // closed when the first configuration is in force, or never will be

	reloading  sync.Mutex      // one reload at a time, its reading included
	applying   sync.Mutex      // one apply at a time; guards what follows
	ctx        context.Context // of Run
	ended      bool            // Run is about to return
	generation uint64
	endEdges   context.CancelFunc // of the goroutines that keep certificates fresh

	mu       sync.Mutex // guards what follows; held for moments
	config   *config.Config
	services map[string]*upstream.Service

	wg sync.WaitGroup
}

// New builds a sidecar from its configuration and binds its admin sockets; nothing
// runs yet, and Run is to be called. Errors: config.Problems, or what could not be built.
func New(o Options) (*Sidecar, error) {
	loaded, err := o.Load()
	if err != nil {
		return nil, err
	}
	s := &Sidecar{options: o, log: o.Log, config0: loaded, begun: make(chan struct{}),
		happened: make(chan struct{}, 1), services: map[string]*upstream.Service{}}
	s.stopped, s.stopNow = context.WithCancel(context.Background())
	loops := Loops(loaded, o.CPUs)
	descriptors, err := Budget(loaded, loops, o.Descriptors)
	if err != nil {
		return nil, err
	}
	s.descriptors.Store(&descriptors)
	c := config.Expand(loaded)
	kind, err := engine.ParseKind(loaded.Engine)
	if err != nil {
		return nil, err
	}
	if s.engine, err = engine.New(engine.Options{Kind: kind, Loops: loops, Handshakes: loaded.Limits.Handshakes,
		Pipes: descriptors.Pipes, Log: o.Log}); err != nil {
		return nil, err
	}
	if err := s.build(c, loops); err != nil {
		s.engine.Close()
		return nil, err
	}
	s.config = c
	return s, nil
}

// Loops is the number of event loops that a configuration asks for where the process may
// use so many CPUs (0: GOMAXPROCS, which begins as the limit of the container): as written,
// or min(2, CPUs) beside a workload, or one for each CPU.
func Loops(c *config.Config, cpus int) int {
	if cpus <= 0 {
		cpus = runtime.GOMAXPROCS(0)
	}
	if named := len(c.CPUs); named > 0 {
		cpus = min(cpus, named)
	}
	switch {
	case c.Loops > 0:
		return c.Loops
	case c.Workload != nil || len(c.Upstreams) > 0:
		return min(2, cpus)
	}
	return cpus
}

func (s *Sidecar) build(c *config.Config, loops int) error {
	s.metrics = metrics.NewWithin(loops, c.Metrics.Series)
	observers := append([]observability.Observer{s.metrics}, s.options.Observers...)
	logs, err := s.access.prepare(c.AccessLog, loops, s.log)
	if err != nil {
		return err
	}
	s.access.begin(logs)
	observers = append(observers, &s.access.set)
	if c.Decisions > 0 {
		s.decisions = decisions.New(loops, c.Decisions)
		observers = append(observers, s.decisions)
	}
	if err := s.openTracer(c, loops); err != nil {
		return err
	}
	if s.tracer != nil {
		observers = append(observers, s.tracer)
	}
	s.proxy = proxy.New(proxy.Options{Engine: s.engine, Observers: observers, Meter: s.metrics, Log: s.log,
		TurnedAway: s.descriptors.Load().TurnedAway})
	s.limits = limit.NewRegistry()
	s.captures.init(s.proxy.Capture, s.log)
	s.set = discovery.New(s.log)
	s.set.OnUpdate = s.onUpdate
	s.checker = health.New(health.Options{Report: s.onHealth, Log: s.log})
	if err := s.sources.init(c, s.options, s.log); err != nil {
		return err
	}
	s.intentions = intentions{client: s.sources.consul, log: s.log, changed: s.proxy.Reauthorize, watched: map[string]*watchedIntentions{}}
	if err := s.buildIdentities(c); err != nil {
		return err
	}
	s.registerGauges()
	if err := s.openPush(c); err != nil {
		return err
	}
	if err := s.openAdmin(c); err != nil {
		return err
	}
	return s.openProbes(c)
}
