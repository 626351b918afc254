package sidecar

import (
	"os"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// limitsView shows what is in use and what is allowed.
func (s *Sidecar) limitsView() admin.LimitsView {
	d := s.descriptors.Load()
	v := admin.LimitsView{Descriptors: openDescriptors(), DescriptorsLimit: d.Limit, DescriptorsReserved: d.Reserve}
	v.Connections, v.ConnectionsLimit = s.proxy.Connections()
	v.BufferBytes, v.BufferBytesLimit = s.engine.BufferBytes()
	return v
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
				show(m.Inflight(), limit, "endpoint", svc.Name+" "+m.Address)
			}
		}
	}
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
