package sidecar

import (
	"context"
	"os"
	"time"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// limitsView shows what is in use and what is allowed.
func (s *Sidecar) limitsView() admin.LimitsView {
	d := s.descriptors.Load()
	v := admin.LimitsView{Descriptors: openDescriptors(), DescriptorsLimit: d.Limit, DescriptorsReserved: d.Reserve}
	v.Connections, v.ConnectionsLimit = s.proxy.Connections()
	v.BufferBytes, v.BufferBytesLimit = s.engine.BufferBytes()
	for _, p := range s.limits.All() {
		d, n := p.Limit.Definition(), p.Limit.Stats()
		v.RateLimits = append(v.RateLimits, admin.RateLimitView{Place: p.Place, Name: p.Limit.Name(), Rate: d.Rate, Burst: d.Burst,
			Keys: n.Keys, KeysLimit: d.Keys, Allowed: n.Allowed, Denied: n.Denied, Evicted: n.Evicted})
	}
	return v
}

// limitsExpireEvery is how often the keys of rate limits are forgotten that have not been used for
// so long that it makes no difference.
const limitsExpireEvery = 10 * time.Second

func (s *Sidecar) expireLimits(ctx context.Context) error {
	tick := time.NewTicker(limitsExpireEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			for _, p := range s.limits.All() {
				p.Limit.Expire(s.engine.Nanos())
			}
		}
	}
}

// openDescriptors counts those that the process has open; -1: not known.
func openDescriptors() int {
	dir, err := os.Open("/proc/self/fd")
	if err != nil {
		return -1
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return -1
	}
	return len(names) - 1 // without dir
}

// registerLimits feeds the gauges of connections and their limits.
func (s *Sidecar) registerLimits() {
	each := func(show func(used, limit int64, scope, name string)) {
		used, limit := s.proxy.Connections()
		show(used, limit, "process", "")
		for _, l := range s.proxy.Listeners() {
			used, limit := l.Connections()
			show(used, limit, "listener", l.Config().Name)
		}
		for _, svc := range s.snapshotServices() {
			limit := svc.Settings().MaxConnections
			for _, m := range svc.Set().Members {
				show(m.InUse(), limit, "endpoint", svc.Name+" "+m.Address)
			}
		}
	}
	s.metrics.Register(metrics.OpenDescriptors, func(emit metrics.Emit) {
		if n := openDescriptors(); n >= 0 {
			emit(float64(n))
		}
	})
	s.metrics.Register(metrics.DescriptorLimit, func(emit metrics.Emit) {
		if limit := s.descriptors.Load().Limit; limit > 0 {
			emit(float64(limit))
		}
	})
	s.metrics.Register(metrics.LimitKeys, func(emit metrics.Emit) {
		for _, p := range s.limits.All() {
			emit(float64(p.Limit.Stats().Keys), p.Limit.Name())
		}
	})
	s.metrics.Register(metrics.LimitEvicted, func(emit metrics.Emit) {
		for _, p := range s.limits.All() {
			emit(float64(p.Limit.Stats().Evicted), p.Limit.Name())
		}
	})
	s.metrics.Register(metrics.ConnectionLimit, func(emit metrics.Emit) {
		each(func(_, limit int64, scope, name string) {
			if limit > 0 {
				emit(float64(limit), scope, name)
			}
		})
	})
	s.metrics.Register(metrics.ConnectionLimitUsed, func(emit metrics.Emit) {
		each(func(used, limit int64, scope, name string) {
			if limit > 0 {
				emit(float64(used), scope, name)
			}
		})
	})
}
