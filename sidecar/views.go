package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// openAdmin binds the admin interface.
func (s *Sidecar) openAdmin(c *config.Config) error {
	if c.Admin.Address == "" && c.Admin.Socket == "" {
		return nil
	}
	server, err := admin.New(admin.Options{
		Address: c.Admin.Address, Socket: c.Admin.Socket, Logger: s.log,
		Views: s.views(),
	})
	if err == nil {
		s.admin = append(s.admin, server)
	}
	return err
}

// views are what the admin interface shows.
func (s *Sidecar) views() admin.Views {
	v := admin.Views{
		Listeners:     s.listenerViews,
		Services:      s.serviceViews,
		Endpoints:     s.endpointViews,
		Identity:      s.identities.views,
		Intentions:    s.intentionsViews,
		Captures:      s.captures.views,
		Limits:        s.limitsView,
		Registrations: s.registrationViews,
		Maintain:      s.maintain,
		Config:        s.configView,
		Ready:         s.readyView,
		Metrics:       s.metrics.Handler(),
		Leave:         s.Leave,
		Quit:          s.Stop,
		Reload:        s.Reload,
		ReopenLogs:    s.ReopenLogs,
	}
	if s.decisions != nil {
		v.Decisions = s.decisionsView
	}
	return v
}

// AdminAddr is the bound address of the admin interface; empty: none.
func (s *Sidecar) AdminAddr() string {
	if len(s.admin) == 0 {
		return ""
	}
	return s.admin[0].Addr().String()
}

// Metrics are the counters of this sidecar.
func (s *Sidecar) Metrics() *metrics.Metrics { return s.metrics }

// Ready reports whether it accepts traffic.
func (s *Sidecar) Ready() bool { return s.ready.Load() && !s.leaving.Load() && !s.stopping.Load() }

// readyPoll is how often readiness is looked at, which has no event of its own: it depends
// on identities and intentions, too.
const readyPoll = 2 * time.Millisecond

// AwaitReady returns nil as soon as traffic should be sent here (as /readyz has it). Its
// error tells why that is not so by the end of ctx, or that we are stopping.
func (s *Sidecar) AwaitReady(ctx context.Context) error {
	select {
	case <-s.begun:
	case <-ctx.Done():
	}
	for {
		ready, reasons := s.readyView()
		switch {
		case ready:
			return nil
		case s.stopping.Load():
			return errStopping
		case ctx.Err() != nil:
			return errors.New(strings.Join(reasons, ", "))
		}
		select {
		case <-time.After(readyPoll):
		case <-ctx.Done():
		}
	}
}

// Stopping is closed when the graceful end begins.
func (s *Sidecar) Stopping() <-chan struct{} { return s.stopped.Done() }

// Draining reports whether the graceful end has begun.
func (s *Sidecar) Draining() bool { return s.stopping.Load() }

// Endpoints lists the endpoints of all services with their state.
func (s *Sidecar) Endpoints() []admin.EndpointView { return s.endpointViews() }

// Decisions tells of the last exchanges that did not simply succeed.
func (s *Sidecar) Decisions(ctx context.Context, q admin.DecisionsQuery) ([]admin.DecisionView, error) {
	if s.decisions == nil {
		return nil, nil
	}
	return s.decisionsView(ctx, q)
}

// Identity describes the identities in force.
func (s *Sidecar) Identity() []admin.IdentityView { return s.identities.views() }

// Listeners lists the bound listeners.
func (s *Sidecar) Listeners() []admin.ListenerView { return s.listenerViews() }

func (s *Sidecar) readyView() (bool, []string) {
	switch {
	case s.stopping.Load():
		return false, []string{"draining"}
	case s.leaving.Load():
		return false, []string{"leaving"}
	case !s.ready.Load():
		return false, []string{"starting"}
	}
	if ok, why := s.identities.ready(time.Now()); !ok {
		return false, why
	}
	return s.intentions.ready()
}

func (s *Sidecar) listenerViews() []admin.ListenerView {
	var all []admin.ListenerView
	for _, l := range s.proxy.Listeners() {
		c := l.Config()
		v := admin.ListenerView{Name: c.Name, Addresses: l.Addresses(), Protocol: c.Protocol.String(), Direction: "outbound",
			TLS: "none", Routes: len(c.Routes)}
		if c.Inbound {
			v.Direction = "inbound"
		}
		switch {
		case c.Allow != nil:
			v.TLS = "mtls"
		case c.TLS != nil:
			v.TLS = "tls"
		}
		_, v.ConnectionsLimit = l.Connections()
		v.ConnectionsActive, v.ConnectionsTotal = s.metrics.ListenerConns(c.Name)
		all = append(all, v)
	}
	return all
}

func (s *Sidecar) serviceViews() []admin.ServiceView {
	var all []admin.ServiceView
	status := map[string]int{}
	known := s.set.Status()
	for i, k := range known {
		status[k.Service] = i
	}
	for _, svc := range s.snapshotServices() {
		v := admin.ServiceView{Name: svc.Name, Balance: svc.Settings().Balance}
		for _, m := range svc.Set().Members {
			v.Endpoints++
			if !m.Down() {
				v.Up++
			}
		}
		if i, ok := status[svc.Name]; ok {
			v.Source, v.UpdatedAt, v.Error = known[i].From, known[i].Success, errorText(known[i].Err)
			v.Sources = sourceViews(known[i].Sources)
		}
		t := s.metrics.Totals(svc.Name)
		v.Requests, v.Failures, v.P50Seconds, v.P99Seconds = t.Requests, t.Failures, t.P50.Seconds(), t.P99.Seconds()
		v.Retries = s.retriesView(svc)
		all = append(all, v)
	}
	return all
}

// configView is the configuration in force, expanded, without secrets.
func (s *Sidecar) configView() json.RawMessage {
	return json.RawMessage(config.PrintJSON(s.current()))
}

func (s *Sidecar) snapshotServices() []*upstream.Service { return s.proxy.Snapshot().Services }

// eachEndpoint shows a count of every endpoint.
func (s *Sidecar) eachEndpoint(count func(*upstream.Endpoint) int64) func(metrics.Emit) {
	return func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			for _, m := range svc.Set().Members {
				emit(float64(count(m.Endpoint)), svc.Name, m.Address)
			}
		}
	}
}

// registerGauges feeds the metrics that are asked for at a scrape.
func (s *Sidecar) registerGauges() {
	s.metrics.Register(metrics.EndpointUp, func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			for _, m := range svc.Set().Members {
				up := 1.0
				if m.Down() {
					up = 0
				}
				emit(up, svc.Name, m.Address)
			}
		}
	})
	s.metrics.Register(metrics.RequestsActive, func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			emit(float64(svc.Active()), svc.Name)
		}
	})
	s.metrics.Register(metrics.EndpointActive, s.eachEndpoint((*upstream.Endpoint).Inflight))
	s.metrics.Register(metrics.EndpointConnections, func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			for _, m := range svc.Set().Members {
				emit(float64(m.InUse()), svc.Name, m.Address, "in_use")
				emit(float64(m.Idle()), svc.Name, m.Address, "idle")
			}
		}
	})
	s.metrics.Register(metrics.SharedConnections, s.eachEndpoint((*upstream.Endpoint).Muxes))
	s.metrics.Register(metrics.Streams, s.eachEndpoint((*upstream.Endpoint).Streams))
	s.metrics.Register(metrics.DiscoveryAge, func(emit metrics.Emit) {
		for _, st := range s.set.Status() {
			emit(st.Age(time.Now()).Seconds(), st.Service)
		}
	})
	s.registerOutliers()
	s.registerRetries()
	s.registerIntentions()
	if len(s.identities.all) > 0 {
		s.metrics.Register(metrics.IdentityExpiry, func(emit metrics.Emit) {
			for id, at := range s.identities.expiries() {
				emit(float64(at.Unix()), id)
			}
		})
	}
	s.registerAccessLogs()
	s.registerLimits()
	s.registerPresence()
	s.registerStart()
	s.registerEngine()
}

func (s *Sidecar) registerEngine() {
	gauge := func(i metrics.Instrument, value func(loop int) float64) {
		s.metrics.Register(i, func(emit metrics.Emit) {
			for loop := range s.engine.Loops() {
				emit(value(loop), fmt.Sprint(loop))
			}
		})
	}
	stats := s.engine.Stats
	gauge(metrics.EngineTasks, func(l int) float64 { return float64(stats().Loops[l].Tasks) })
	gauge(metrics.EngineConnections, func(l int) float64 { return float64(stats().Loops[l].Conns) })
	gauge(metrics.EngineBufferBytes, func(l int) float64 { return float64(stats().Loops[l].BufferBytes) })
	gauge(metrics.EngineBufferWaits, func(l int) float64 { return float64(stats().Loops[l].BufferWaits) })
	s.metrics.Register(metrics.EngineBufferLimit, func(emit metrics.Emit) {
		_, limit := s.engine.BufferBytes()
		emit(float64(limit))
	})
	gauge(metrics.EngineSpliced, func(l int) float64 { return float64(stats().Loops[l].Spliced) })
	s.metrics.Register(metrics.EngineHandshakes, func(emit metrics.Emit) {
		for i, l := range stats().Loops {
			emit(float64(l.Handshakes-l.Beside), fmt.Sprint(i), "loop")
			emit(float64(l.Beside), fmt.Sprint(i), "beside")
		}
	})
	gauge(metrics.EngineLoopLag, func(l int) float64 { return stats().Loops[l].Lag.Seconds() })
	gauge(metrics.EnginePanics, func(l int) float64 { return float64(stats().Loops[l].Panics) })
	gauge(metrics.EngineAcceptBackoffs, func(l int) float64 { return float64(stats().Loops[l].AcceptBackoffs) })
}

var _ proxy.Meter = (*metrics.Metrics)(nil)
