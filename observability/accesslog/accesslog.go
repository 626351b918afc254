// Package accesslog writes one line for each finished exchange, off the request
// path: the loop formats the line into a bounded ring of its own, and one goroutine
// carries the rings to the sink. It exists so that a slow, full or broken log never
// delays a request: what the ring cannot hold is dropped and counted. The package
// must not know of codecs or configuration. Header fields are shown only where a template or
// a capture names them, credentials only where it says so twice; secrets in a query are redacted.
//
// What a line looks like is a template (package template), compiled into a slice of
// appenders (format.go).
package accesslog

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
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

// Options say what to write where.
type Options struct {
	Name   string // in counts and messages
	Loops  int    // loops 0 to Loops-1 will call Observe; at least 1
	Format *Format
	// When says of which exchanges there are lines; nil: of all.
	When *Conditions
	// Path of the file to append to, made with mode 0640. Empty: Syslog.
	Path string
	// Syslog is a server; nil: Writer.
	Syslog *SyslogOptions
	// Writer where nothing else is given; nil: standard output. A process that logs to a
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
	name      string
	when      *Conditions
	producers []*producer
	sink      sink
	logger    *slog.Logger
	wake      chan struct{}

	tally tally

	// owned by the writing goroutine
	failing bool
	first   int    // the producer whose line was left off in the middle, or any
	joined  []byte // both pieces of a ring that has come round
}

// New opens the sink. Lines are written while Run runs.
func New(o Options) (*Log, error) {
	if o.Loops < 1 {
		return nil, errors.New("access log: no loops")
	}
	if o.Format == nil {
		return nil, errors.New("access log: no format")
	}
	if o.RingBytes == 0 {
		o.RingBytes = defaultRing
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	l := &Log{name: o.Name, when: o.When, logger: o.Logger.With("log", o.Name), wake: make(chan struct{}, 1)}
	var head *syslogHead
	if o.Syslog != nil {
		head = newSyslogHead(o.Syslog)
	}
	for i := range o.Loops {
		l.producers = append(l.producers, newProducer(max(o.RingBytes, minRing), o.Format, head, uint64(i)))
	}
	switch {
	case o.Path != "":
		f, err := openFile(o.Path, &l.tally)
		if err != nil {
			return nil, fmt.Errorf("access log: %w", err)
		}
		l.sink = f
	case o.Syslog != nil:
		l.sink = newSyslogSink(*o.Syslog, &l.tally)
	default:
		if o.Writer == nil {
			o.Writer = os.Stdout
		}
		l.sink = &writerSink{o.Writer, &l.tally}
	}
	return l, nil
}

// Observe puts one line into the ring of the record's loop, or drops and counts it
// where the ring is full. It implements observability.Observer; it costs well under
// a microsecond and does not allocate (BenchmarkObserve).
func (l *Log) Observe(r *observability.Record) {
	p := l.producers[r.Loop]
	if l.when != nil && !l.when.hold(r, &p.random) {
		p.skipped.Store(p.skipped.Load() + 1)
		return
	}
	p.line = p.appendLine(p.line[:0], r)
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
	defer l.end()
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

// end gives the sink back. What the rings still hold is lost.
func (l *Log) end() {
	l.sink.close()
	for _, p := range l.producers {
		first, second, end := p.ring.pending()
		l.tally.failed.Add(uint64(lines(first) + lines(second)))
		p.ring.release(end)
	}
}

// flush carries what all rings hold to the sink, as far as it takes it. A line that it left off in
// the middle goes on before any other.
func (l *Log) flush() {
	now := time.Now()
	err := l.sink.tend(now)
	tried := err != nil
	for i := 0; i < len(l.producers) && err == nil; i++ {
		at := (l.first + i) % len(l.producers)
		var some bool
		if some, err = l.carry(l.producers[at], now); err != nil {
			l.first = at
		}
		tried = tried || some
	}
	if tried {
		l.note(err)
	}
}

// carry hands a ring's lines to the sink and reports whether there were any.
func (l *Log) carry(p *producer, now time.Time) (some bool, err error) {
	first, second, end := p.ring.pending()
	if len(first) == 0 {
		return false, nil
	}
	if len(second) > 0 {
		l.joined = append(append(l.joined[:0], first...), second...)
		first = l.joined
	}
	taken, err := l.sink.write(first, now)
	p.ring.release(end - uint64(len(first)-taken))
	return true, err
}

// note logs when the sink begins and when it ends to fail.
func (l *Log) note(err error) {
	if err != nil && !l.failing {
		l.logger.Warn("access log sink fails; lines are kept while there is room, and then lost", "error", err)
	}
	if err == nil && l.failing {
		c := l.Counts()
		l.logger.Info("access log sink works again", "lines_lost", c.Dropped+c.Failed)
	}
	l.failing = err != nil
}

// Counts tells what became of the lines so far.
func (l *Log) Counts() Counts {
	c := Counts{Written: l.tally.written.Load(), Failed: l.tally.failed.Load()}
	for _, p := range l.producers {
		c.Dropped += p.ring.dropped.Load()
		c.Skipped += p.skipped.Load()
	}
	return c
}

// Close gives the sink of a log back whose Run was never called.
func (l *Log) Close() { l.sink.close() }

// Reopen opens the file anew, for log rotation; the old one is closed once the batch
// under way is written. On an error the old file stays in use. Without a file it
// does nothing and returns false.
func (l *Log) Reopen() (bool, error) {
	f, ok := l.sink.(*fileSink)
	if !ok {
		return false, nil
	}
	if err := f.reopen(); err != nil {
		return false, fmt.Errorf("access log %s: reopen: %w", l.name, err)
	}
	return true, nil
}
