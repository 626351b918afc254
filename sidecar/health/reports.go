package health

import (
	"context"
	"log/slog"
	"sync"
)

// reports hands changes to one goroutine, in order, so that Report is called with
// no lock of ours held and may take the caller's own.
type reports struct {
	mu    sync.Mutex
	queue []Change
	ready chan struct{} // holds one token while queue is not empty
}

func (r *reports) add(c Change) {
	r.mu.Lock()
	r.queue = append(r.queue, c)
	r.mu.Unlock()
	select {
	case r.ready <- struct{}{}:
	default:
	}
}

func (r *reports) take() []Change {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := r.queue
	r.queue = nil
	return all
}

// deliver logs and reports what is queued.
func (c *Checker) deliver() {
	for _, change := range c.changes.take() {
		level, text := slog.LevelWarn, "endpoint is down"
		if change.Up {
			level, text = slog.LevelInfo, "endpoint is up"
		}
		c.log.LogAttrs(context.Background(), level, text, slog.String("service", change.Service),
			slog.String("address", change.Address), slog.String("reason", change.Reason),
			slog.Duration("lasted", change.Lasted))
		c.report(change)
	}
}
