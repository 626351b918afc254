package sidecar

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Reload reads the configuration again and brings it into force. On any error the
// old one stays in force, whole. Connections live on in either case.
// Those that come while one runs, or before the first configuration is in force,
// wait for it, so that what was read last stays.
func (s *Sidecar) Reload() error {
	<-s.begun
	s.reloading.Lock()
	defer s.reloading.Unlock()
	err := s.reload()
	s.metrics.Reloaded(err == nil)
	if err != nil {
		s.log.Error("reload refused: the old configuration stays in force", "error", err)
		return err
	}
	s.log.Info("configuration reloaded", "generation", s.proxy.Snapshot().Generation)
	return nil
}

func (s *Sidecar) reload() error {
	loaded, err := s.options.Load()
	if err != nil {
		return err
	}
	descriptors, err := Budget(s.withoutLater(loaded), len(s.engine.Loops()), s.options.Descriptors)
	if err != nil {
		return err
	}
	later := needRestart(s.config0, loaded)
	if len(later) > 0 {
		s.log.Warn("these settings take effect at the next start only", "fields", later)
	}
	err = s.apply(config.Expand(s.withoutLater(loaded)), descriptors, func(ctx context.Context, fresh []string) {
		if len(fresh) > 0 {
			s.awaitEndpoints(ctx, fresh...)
		}
		s.captures.await(ctx)
		s.awaitIntentions(ctx)
	})
	if err != nil && len(later) > 0 {
		err = fmt.Errorf("%w (changed, and in effect at the next start only: %s)", err, strings.Join(later, ", "))
	}
	return err
}

// withoutLater is c with the sections that a reload does not touch as they are in
// force, so that what is shown and compiled is what runs.
func (s *Sidecar) withoutLater(c *config.Config) *config.Config {
	in := *c
	in.Admin, in.Probes, in.Log, in.Loops = s.config0.Admin, s.config0.Probes, s.config0.Log, s.config0.Loops
	in.Metrics, in.Tracing = s.config0.Metrics, s.config0.Tracing.Running(c.Tracing)
	in.Engine, in.CPUs, in.Limits.Handshakes = s.config0.Engine, s.config0.CPUs, s.config0.Limits.Handshakes
	in.Consul, in.Identity, in.Identities = s.config0.Consul, s.config0.Identity, s.config0.Identities
	return &in
}

// needRestart names the changed sections that a reload does not touch: those that
// withoutLater keeps.
func needRestart(was, is *config.Config) (fields []string) {
	for _, f := range []struct {
		name    string
		was, is any
	}{
		{"admin", was.Admin, is.Admin},
		{"probes", was.Probes, is.Probes},
		{"log", was.Log, is.Log},
		{"metrics", was.Metrics, is.Metrics},
		{"tracing", was.Tracing, was.Tracing.Started(is.Tracing)},
		{"engine", was.Engine, is.Engine},
		{"loops", was.Loops, is.Loops},
		{"cpus", was.CPUs, is.CPUs},
		{"decisions", was.Decisions, is.Decisions},
		{"limits.handshakes", was.Limits.Handshakes, is.Limits.Handshakes},
		{"consul", was.Consul, is.Consul},
		{"identity", was.Identity, is.Identity},
		{"identities", was.Identities, is.Identities},
	} {
		if !reflect.DeepEqual(f.was, f.is) {
			fields = append(fields, f.name)
		}
	}
	return fields
}

var errStopping = errors.New("the proxy is stopping")

// apply builds the snapshot of c aside, takes its addresses, lets its sources begin,
// waits, and brings it into force. All that can fail comes before the first change;
// only a stop is heeded later. wait is told the services that are new, which should
// have endpoints before a route leads to them, and ends with its context.
func (s *Sidecar) apply(c *config.Config, d Descriptors, wait func(ctx context.Context, fresh []string)) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.stopping.Load() || s.ended {
		return errStopping
	}
	specs, err := s.sources.specs(c)
	if err != nil {
		return err
	}
	was, before := s.current(), s.serviceMap()
	defer func() { s.intentions.keep(s.current()) }()
	if err := s.intentions.open(s.ctx, c, func(f func() error) { s.run("intentions", f) }); err != nil {
		return err
	}
	quota, err := s.quota.prepare(c.RateLimitService, s.engine.Nanos, s.log)
	if err != nil {
		return err
	}
	defer quota.abandon() // unless it is committed
	out, err := compile.Compile(compile.Input{
		Connections: d.Connections,
		Config:      c, Identities: s.identities.byName(), Intentions: s.intentions.of,
		Services: before, Generation: s.generation + 1, Log: s.log,
		Limits: s.limits, Quota: quota.asProxy(),
	})
	if err != nil {
		return err
	}
	logs, err := s.access.prepare(c.AccessLog, len(s.engine.Loops()), s.log)
	if err != nil {
		return err
	}
	plan, err := s.proxy.Prepare(out.Snapshot)
	if err != nil {
		s.access.abandon(logs)
		return err
	}
	s.listenToOutliers(out.Services)
	s.swap(c, out.Services)
	s.set.Apply(specs)
	s.captures.apply(c, s.ownPlaces())
	s.whileRunning(func(ctx context.Context) { wait(ctx, newNames(before, out.Services)) })
	if s.stopping.Load() || s.ctx.Err() != nil {
		plan.Abandon()
		s.access.abandon(logs)
		s.swap(was, before)
		s.captures.apply(was, s.ownPlaces())
		return errStopping
	}
	out.Commit()
	s.engine.LimitBuffers(int64(c.Limits.Buffers))
	s.engine.SetAcceptBurst(c.Limits.AcceptBurst)
	plan.Commit()
	s.limits.Keep(out.Limits)
	s.quota.commit(quota)
	s.switchAccessLogs(logs)
	s.descriptors.Store(&d)
	s.generation++
	s.watchEdges(out.Certificates)
	s.sweep()
	s.checkAll()
	if s.ready.Load() {
		s.register(c)
	}
	return nil
}

// whileRunning calls f with a context that ends with Run's and when Stop is called.
func (s *Sidecar) whileRunning(f func(context.Context)) {
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	f(ctx)
}

func newNames(before, now map[string]*upstream.Service) []string {
	return slices.DeleteFunc(slices.Sorted(maps.Keys(now)), func(name string) bool { return before[name] != nil })
}

func (s *Sidecar) swap(c *config.Config, services map[string]*upstream.Service) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config, s.services = c, services
}

// current is the expanded configuration in force.
func (s *Sidecar) current() *config.Config {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.config
}

func (s *Sidecar) serviceMap() map[string]*upstream.Service {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.services
}

// watchEdges keeps the certificates of the snapshot in force fresh.
func (s *Sidecar) watchEdges(all []*identity.EdgeCertificates) {
	if s.endEdges != nil {
		s.endEdges()
	}
	ctx, cancel := context.WithCancel(s.ctx)
	s.endEdges = cancel
	for _, e := range all {
		s.run("certificates", func() error { return e.Run(ctx) })
	}
}

// onUpdate is told of each change of a service's endpoints.
func (s *Sidecar) onUpdate(u discovery.Update) {
	svc := s.serviceMap()[u.Service]
	if svc == nil {
		return
	}
	was := svc.Set()
	svc.Update(u)
	s.captures.discovered(u)
	s.proxy.Forget(svc, svc.Set().Without(was))
	if svc.Settings().Mesh != nil {
		s.proxy.Reauthorize() // whom to expect there may have changed
	}
	s.log.Info("endpoints changed", "service", u.Service, "endpoints", len(u.Endpoints), "index", u.Index)
	s.checkAll()
}
