package metrics

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
