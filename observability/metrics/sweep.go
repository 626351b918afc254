package metrics

import "time"

const (
	// SweepEvery is how often Sweep is to be called.
	SweepEvery = time.Minute
	// sourceSweeps is for how many sweeps a source may be unseen before its series go.
	sourceSweeps = 15
)

// rest is how long a series has not moved. It belongs to Sweep.
type rest struct {
	seen   uint64 // its count at the last sweep
	sweeps int    // at which it was still that
}

// Live is what is in force: the series of everything else are given up.
type Live struct {
	Listeners, Services map[string]bool
	Routes              map[[2]string]bool // listener, route
	Endpoints           map[[2]string]bool // service, address
}

// Sweep gives up the series of what is not live, and those of sources that have not been
// seen for 15 minutes, so that what is gone makes room and is not shown for ever. post is
// to run a function on a loop, some time. Any goroutine but a loop.
func (m *Metrics) Sweep(live *Live, post func(loop int, f func())) {
	m.sweeping.Lock()
	defer m.sweeping.Unlock()
	quiet := m.quietSources()
	silent := m.silentListeners()
	for i, s := range m.shards {
		drops := s.stale(live, quiet, silent)
		post(i, func() {
			for _, drop := range drops {
				drop()
			}
			s.near = near{} // what was refused may have room now
		})
	}
}

// quietSources counts how many sweeps each source has been unseen, over all loops: a
// counter that goes on one loop only would fall back.
func (m *Metrics) quietSources() map[sourceKey]int {
	quiet := map[sourceKey]int{}
	note := func(key sourceKey, r *rest, count uint64) {
		r.note(count)
		key.class = 0
		if n, known := quiet[key]; !known || r.sweeps < n {
			quiet[key] = r.sweeps
		}
	}
	for _, s := range m.shards {
		for _, c := range s.sources.all() {
			note(c.key, &c.rest, c.value.value())
		}
		for _, c := range s.sourceTimes.all() {
			note(c.key, &c.rest, c.value.count())
		}
	}
	return quiet
}

func (r *rest) note(count uint64) {
	if r.seen != count {
		r.seen, r.sweeps = count, 0
		return
	}
	r.sweeps++
}

// silentListeners are those without a connection, over all loops.
func (m *Metrics) silentListeners() map[string]bool {
	active := map[string]int64{}
	for _, s := range m.shards {
		for _, c := range s.listeners.all() {
			active[c.key] += c.value.active.Load()
		}
	}
	silent := map[string]bool{}
	for name, n := range active {
		silent[name] = n == 0
	}
	return silent
}

// stale returns what the loop is to do to drop what is stale.
func (s *shard) stale(live *Live, quiet map[sourceKey]int, silent map[string]bool) (drops []func()) {
	listener := func(name string) bool { return known(live.Listeners, name) }
	service := func(name string) bool { return known(live.Services, name) }
	route := func(k routeKey) bool {
		return k.route == Other || listener(k.listener) && (k.route == "" || live.Routes[[2]string{k.listener, k.route}])
	}
	endpoint := func(k endpointKey) bool {
		return k.endpoint == Other || live.Endpoints[[2]string{k.service, k.endpoint}]
	}
	source := func(k sourceKey) bool {
		k.class = 0
		return k.source == Other || service(k.service) && quiet[k] < sourceSweeps
	}
	drops = keepOnly(drops, &s.requests, func(k requestKey) bool { return listener(k.listener) && service(k.service) })
	drops = keepOnly(drops, &s.routes, route)
	drops = keepOnly(drops, &s.routeTimes, route)
	drops = keepOnly(drops, &s.sources, source)
	drops = keepOnly(drops, &s.sourceTimes, source)
	drops = keepOnly(drops, &s.services, func(k serviceKey) bool { return service(k.service) })
	drops = keepOnly(drops, &s.serviceTimes, func(k serviceKey) bool { return service(k.service) })
	drops = keepOnly(drops, &s.endpoints, endpoint)
	drops = keepOnly(drops, &s.endpointTimes, endpoint)
	drops = keepOnly(drops, &s.listeners, func(name string) bool { return listener(name) || !silent[name] })
	drops = keepOnly(drops, &s.refused, func(k refusedKey) bool { return listener(k.listener) })
	drops = keepOnly(drops, &s.cut, func(k refusedKey) bool { return listener(k.listener) })
	drops = keepOnly(drops, &s.abuse, func(k refusedKey) bool { return listener(k.listener) })
	drops = keepOnly(drops, &s.upstream, func(k upstreamKey) bool { return service(k.service) })
	drops = keepOnly(drops, &s.retries, func(k retryKey) bool { return service(k.service) })
	drops = keepOnly(drops, &s.hostile, func(k upstreamKey) bool { return service(k.service) })
	drops = keepOnly(drops, &s.limited, func(k limitedKey) bool { return listener(k.listener) })
	drops = keepOnly(drops, &s.grpc, func(k grpcKey) bool { return listener(k.listener) && service(k.service) })
	return drops
}

// known reports whether name is live, or stands for none or for several.
func known(live map[string]bool, name string) bool { return name == "" || name == Other || live[name] }

// keepOnly adds to drops what takes out of t the series whose key does not pass.
func keepOnly[K comparable, V any](drops []func(), t *table[K, V], live func(K) bool) []func() {
	var keys []K
	for _, c := range t.all() {
		if !live(c.key) {
			keys = append(keys, c.key)
		}
	}
	if keys == nil {
		return drops
	}
	return append(drops, func() { t.drop(keys...) })
}

// forgetEndpoints gives up the series of endpoints. Called on the loop.
func (s *shard) forgetEndpoints(keys ...endpointKey) {
	counted, timed := s.endpoints.drop(keys...), s.endpointTimes.drop(keys...)
	if counted || timed {
		s.near.places = [nearSlots]place{}
	}
}
