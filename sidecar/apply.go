package sidecar

import (
	"context"
	"errors"
	"reflect"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Reload reads the configuration again and brings it into force. On any error the
// old one stays in force, whole. Connections live on in either case.
// Those that come while one runs wait for it, so that what was read last stays.
func (s *Sidecar) Reload() error {
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
	if fields := needRestart(s.config0, loaded); len(fields) > 0 {
		s.log.Warn("these settings take effect at the next start only", "fields", fields)
	}
	return s.apply(config.Expand(loaded))
}

// needRestart names the changed sections that a reload does not touch.
func needRestart(was, is *config.Config) (fields []string) {
	for _, f := range []struct {
		name    string
		was, is any
	}{
		{"admin", was.Admin, is.Admin},
		{"log", was.Log, is.Log},
		{"access_log", was.AccessLog, is.AccessLog},
		{"loops", was.Loops, is.Loops},
		{"consul", was.Consul, is.Consul},
		{"identity", was.Identity, is.Identity},
	} {
		if !reflect.DeepEqual(f.was, f.is) {
			fields = append(fields, f.name)
		}
	}
	return fields
}

// apply builds the snapshot of c aside and swaps it in.
func (s *Sidecar) apply(c *config.Config) error {
	s.applying.Lock()
	defer s.applying.Unlock()
	if s.stopping.Load() {
		return errors.New("the proxy is stopping")
	}
	specs, err := s.sources.specs(c)
	if err != nil {
		return err
	}
	was, before := s.current(), s.serviceMap()
	out, err := compile.Compile(compile.Input{
		Config: c, Identity: s.identity, Services: before, Generation: s.generation + 1, Log: s.log,
	})
	if err != nil {
		return err
	}
	// New services find their endpoints before a route leads to them.
	s.swap(c, out.Services)
	s.set.Apply(specs)
	if err := s.proxy.Apply(out.Snapshot); err != nil {
		s.swap(was, before)
		s.restoreSources(was)
		return err
	}
	out.Commit()
	s.generation++
	s.watchEdges(out.Certificates)
	s.checkAll()
	return nil
}

// restoreSources goes back to the sources of the configuration in force.
func (s *Sidecar) restoreSources(was *config.Config) {
	if specs, err := s.sources.specs(was); err == nil && s.generation > 0 {
		s.set.Apply(specs)
	}
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
	was := svc.Set().Members
	svc.Update(u)
	for _, m := range was {
		if svc.Find(m.ID, m.Address) == nil {
			s.proxy.Forget(u.Service, m.Address)
		}
	}
	s.log.Info("endpoints changed", "service", u.Service, "endpoints", len(u.Endpoints), "index", u.Index)
	s.checkAll()
}
