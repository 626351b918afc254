package sidecar

import (
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// retriesView shows what is repeated of a service's attempts, by its own policy and, of
// what was made, by those of routes too.
func (s *Sidecar) retriesView(svc *upstream.Service) admin.RetriesView {
	v := admin.RetriesView{Attempts: 1, On: []string{}, Active: svc.Repeats.Repeats()}
	counts := s.metrics.Repeats(svc.Name)
	v.Made, v.OverBudget, v.Spent, v.Unsafe = counts[retry.Made], counts[retry.OverBudget], counts[retry.Spent], counts[retry.Unsafe]
	p := svc.Settings().Retries
	if p == nil {
		return v
	}
	v.Attempts, v.PerTrySeconds, v.ReplayBytes = p.Attempts, p.PerTry.Seconds(), p.Replay
	v.Percent, v.Min, v.Allowed = p.Budget.Percent, p.Budget.Min, svc.Repeats.Allowed(p.Budget)
	for _, c := range retry.Causes() {
		if p.Repeats(c) {
			v.On = append(v.On, c.String())
		}
	}
	return v
}

// registerRetries feeds the metrics of the budgets.
func (s *Sidecar) registerRetries() {
	s.metrics.Register(metrics.RetryBudget, func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			if p := svc.Settings().Retries; !p.Off() {
				emit(float64(svc.Repeats.Allowed(p.Budget)), svc.Name)
			}
		}
	})
	s.metrics.Register(metrics.RetriesActive, func(emit metrics.Emit) {
		for _, svc := range s.snapshotServices() {
			emit(float64(svc.Repeats.Repeats()), svc.Name)
		}
	})
}
