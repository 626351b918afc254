package metrics

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
)

// ListenerConns returns the connections of a listener: open now, and accepted
// since the start. Any goroutine.
func (m *Metrics) ListenerConns(listener string) (active int64, total uint64) {
	for _, s := range m.shards {
		for _, c := range s.listeners.all() {
			if c.key == listener {
				active += c.value.active.Load()
				total += c.value.opened.value()
			}
		}
	}
	return active, total
}

// Repeats returns what became of the attempts at a service that were to be repeated. Any
// goroutine.
func (m *Metrics) Repeats(service string) map[retry.Result]uint64 {
	all := map[retry.Result]uint64{}
	for _, s := range m.shards {
		for _, c := range s.retries.all() {
			if c.key.service == service {
				all[c.key.result] += c.value.value()
			}
		}
	}
	return all
}

// Refusals returns how many connections were refused before their first request,
// by reason, over all listeners. Any goroutine.
func (m *Metrics) Refusals() map[policy.Reason]uint64 {
	all := map[policy.Reason]uint64{}
	for _, s := range m.shards {
		for _, c := range s.refused.all() {
			all[c.key.reason] += c.value.value()
		}
	}
	return all
}
