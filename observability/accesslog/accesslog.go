// Package accesslog writes one line for each finished exchange, off the request
// path: the loop formats the line into a bounded ring of its own, and one goroutine
// carries the rings to the sink. It exists so that a slow, full or broken log never
// delays a request: what the ring cannot hold is dropped and counted. The package
// must not know of codecs or configuration, and never sees header fields, so that
// credentials and cookies cannot reach the log; secrets in a query are redacted.
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/observability"
)

const (
	defaultRing = 256 << 10
	minRing     = 4 << 10
	// flushInterval is how old a line may become before it is written.
	flushInterval = 100 * time.Millisecond
	// closeLimit bounds how long Run waits for the sink after its context has ended.
	closeLimit = time.Second
)

// Format is the form of a line.
type Format uint8

// The formats.
const (
	JSON Format = iota // one object a line
	Text               // one aligned line for human readers
)

// Options say what to write where.
type Options struct {
	Loops  int // loops 0 to Loops-1 will call Observe; at least 1
	Format Format
	// Path of the file to append to, made with mode 0640. Empty: Writer.
	Path string
	// Writer where Path is empty; nil: standard output. A process that logs to a
	// pipe must ignore SIGPIPE to outlive the reader.
	Writer io.Writer
	// RingBytes is the memory of each loop's ring, rounded up to a power of two.
	// Zero: 256 KiB.
	RingBytes int
	Logger    *slog.Logger
}

// Log is an access log. Observe is called on the loops; everything else from
// ordinary goroutines.
type Log struct {
	// immutable after New
	producers []*producer
	format    Format
	sink      *sink
	logger    *slog.Logger
	wake      chan struct{}

	lost    atomic.Uint64 // lines that the sink failed to take
	failing bool          // owned by the writing goroutine
}

// New opens the sink. Lines are written while Run runs.
func New(o Options) (*Log, error) {
	if o.Loops < 1 {
		return nil, errors.New("access log: no loops")
	}
	if o.RingBytes == 0 {
		o.RingBytes = defaultRing
	}
	s, err := openSink(o.Path, o.Writer)
	if err != nil {
		return nil, fmt.Errorf("access log: %w", err)
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{format: o.Format, sink: s, logger: o.Logger, wake: make(chan struct{}, 1)}
	for range o.Loops {
		l.producers = append(l.producers, newProducer(max(o.RingBytes, minRing)))
	}
	return l, nil
}

// Observe puts one line into the ring of the record's loop, or drops and counts it
// where the ring is full. It implements observability.Observer; it costs well under
// a microsecond and does not allocate (BenchmarkObserve).
func (l *Log) Observe(r *observability.Record) {
	p := l.producers[r.Loop]
	p.line = p.appendLine(p.line[:0], l.format, r)
	if p.ring.put(p.line) && p.ring.needsWake() {
		l.rouse()
	}
}

// rouse wakes the writer before its time. A send with a default takes a short
// runtime lock but never waits; needsWake makes it at most one in each half ring.
func (l *Log) rouse() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run writes until ctx ends and then what the rings still hold. It returns within a
// second of the end of ctx; where the sink is blocked at that time it says so and
// leaves behind the goroutine that waits in the write, which nothing can interrupt.
func (l *Log) Run(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.write(ctx)
	}()
	<-ctx.Done()
	limit := time.NewTimer(closeLimit)
	defer limit.Stop()
	select {
	case <-done:
		return nil
	case <-limit.C:
		return errors.New("access log: the sink is blocked; the last lines are lost")
	}
}

func (l *Log) write(ctx context.Context) {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	defer l.sink.close()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-l.wake:
		case <-ctx.Done():
		}
		l.flush()
	}
	l.flush()
}

// flush carries what all rings hold to the sink.
func (l *Log) flush() {
	for _, p := range l.producers {
		first, second, end := p.ring.pending()
		if len(first) > 0 {
			lost, err := l.sink.write(first, second)
			l.note(lost, err)
		}
		p.ring.release(end)
	}
}

// note counts lines that were lost and logs when the sink begins or ends to fail.
func (l *Log) note(lost int, err error) {
	l.lost.Add(uint64(lost))
	if err != nil && !l.failing {
		l.logger.Warn("access log sink fails; lines are lost", "error", err)
	}
	if err == nil && l.failing {
		l.logger.Info("access log sink works again", "lines_lost", l.lost.Load())
	}
	l.failing = err != nil
}

// Dropped counts the lines lost so far: the ring was full or the sink failed.
func (l *Log) Dropped() uint64 {
	n := l.lost.Load()
	for _, p := range l.producers {
		n += p.ring.dropped.Load()
	}
	return n
}

// Reopen opens the file anew, for log rotation; the old one is closed once the batch
// under way is written. On an error the old file stays in use. Without a file it
// does nothing.
func (l *Log) Reopen() error {
	if err := l.sink.reopen(); err != nil {
		return fmt.Errorf("access log: reopen: %w", err)
	}
	return nil
}
