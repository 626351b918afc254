package cli

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// logLines is how many lines may wait for a slow reader of the process log.
	logLines = 1024
	// logFlush bounds the wait for it at the end.
	logFlush = time.Second
)

// logWriter hands lines to a goroutine that writes them: event loops log too, and
// must not wait for a reader that has stopped. A line that finds no room is dropped,
// and the next one that does says how many were.
type logWriter struct {
	out     io.Writer
	lines   chan []byte
	dropped atomic.Uint64
	done    chan struct{}
	once    sync.Once
}

func newLogWriter(out io.Writer) *logWriter {
	w := &logWriter{out: out, lines: make(chan []byte, logLines), done: make(chan struct{})}
	go w.run()
	return w
}

// Write implements io.Writer for slog, which calls it once a line. It never blocks
// and never fails.
func (w *logWriter) Write(line []byte) (int, error) {
	select {
	case w.lines <- append([]byte(nil), line...):
	default:
		w.dropped.Add(1)
	}
	return len(line), nil
}

func (w *logWriter) run() {
	defer close(w.done)
	for line := range w.lines {
		if line == nil {
			return
		}
		if n := w.dropped.Swap(0); n > 0 {
			fmt.Fprintf(w.out, "larboard: %d log lines were dropped, since nobody read them in time\n", n)
		}
		w.out.Write(line)
	}
}

// Close writes what waits, for a second at most. Lines that come later are lost.
func (w *logWriter) Close() {
	w.once.Do(func() {
		end := time.After(logFlush)
		select {
		case w.lines <- nil:
		case <-end:
			return
		}
		select {
		case <-w.done:
		case <-end:
		}
	})
}
