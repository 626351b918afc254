package identity

import (
	"log/slog"
	"sync"
)

// lastError remembers a source's latest failure for the status page and keeps the
// log to changes: a failure is logged when it is new or differs from the one
// before, its end once. The zero value is ready.
type lastError struct {
	mu      sync.Mutex
	current string
}

// note records err (nil: all is well again).
func (l *lastError) note(log *slog.Logger, message string, err error) {
	text := ""
	if err != nil {
		text = err.Error()
	}
	l.mu.Lock()
	old := l.current
	l.current = text
	l.mu.Unlock()
	switch {
	case text == old:
	case text == "":
		log.Info("identity source recovered", "after", old)
	default:
		log.Warn(message, "error", text)
	}
}

func (l *lastError) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.current
}
