// Package trace makes OpenTelemetry spans of finished exchanges and sends them to a
// collector, off the request path: the loop copies the record of a sampled exchange into
// a bounded ring of its own, and one goroutine builds the spans, with the ids that were
// made at the exchange's start, and exports them in batches. It exists so that a slow,
// failing or absent collector never delays a request: what the ring cannot hold, or the
// collector does not take, is dropped and counted. The package must not know of
// connections or configuration; contexts in header fields are the business of
// observability/tracecontext.
package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/otlp"
)

const (
	// defaultQueue is how many exchanges a loop's ring holds: at one in a hundred,
	// a second of 100,000 requests.
	defaultQueue = 1024
	// batchSpans is how many spans are sent at once, as OpenTelemetry's own batches.
	batchSpans = 512
	// lastFlush bounds what Run does after its context has ended.
	lastFlush = 3 * time.Second
)

// Options say what to send where.
type Options struct {
	Loops     int // loops 0 to Loops-1 will call Observe; at least 1
	Collector otlp.Collector
	// Interval is how long a span waits at most before it is sent.
	Interval time.Duration
	// Resource says whose spans they are, by OpenTelemetry's names.
	Resource map[string]string
	// Queue is how many sampled exchanges each loop may hold, rounded up to a power of
	// two. Zero: 1024.
	Queue  int
	Logger *slog.Logger
}

// Tracer makes and sends spans. Observe is called on the loops, Run once, and Counts from
// any goroutine.
type Tracer struct {
	// immutable after New
	rings    []*ring
	interval time.Duration
	timeout  time.Duration
	wake     chan struct{}
	logger   *slog.Logger
	exporter sdktrace.SpanExporter
	provider *sdktrace.TracerProvider

	exported, lost atomic.Uint64 // spans; lost were not taken by the collector

	// owned by Run
	builder builder
	batch   []sdktrace.ReadOnlySpan
	failing bool
}

// New returns a tracer. It does not connect; the collector may come later. Errors: a
// collector that cannot be.
func New(o Options) (*Tracer, error) {
	exporter, err := newExporter(&o.Collector)
	if err != nil {
		return nil, fmt.Errorf("traces: %w", err)
	}
	return newTracer(o, exporter)
}

func newTracer(o Options, exporter sdktrace.SpanExporter) (*Tracer, error) {
	if o.Loops < 1 {
		return nil, errors.New("traces: no loops")
	}
	if o.Queue <= 0 {
		o.Queue = defaultQueue
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	t := &Tracer{interval: o.Interval, timeout: o.Collector.Timeout, wake: make(chan struct{}, 1), logger: o.Logger, exporter: exporter}
	for range o.Loops {
		t.rings = append(t.rings, newRing(o.Queue))
	}
	ids := &givenIDs{}
	t.provider = sdktrace.NewTracerProvider(
		sdktrace.WithIDGenerator(ids),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // what comes here has been sampled
		sdktrace.WithResource(newResource(o.Resource)),
		sdktrace.WithSpanProcessor(collecting{t}),
	)
	t.builder = builder{ids: ids, tracer: t.provider.Tracer("github.com/larboard-proxy/larboard", trace.WithSchemaURL(semconv.SchemaURL))}
	return t, nil
}

func newResource(named map[string]string) *resource.Resource {
	all := []attribute.KeyValue{semconv.TelemetrySDKLanguageGo, semconv.TelemetrySDKName("opentelemetry"), semconv.TelemetrySDKVersion(sdk.Version())}
	for key, value := range named {
		all = append(all, attribute.String(key, value))
	}
	return resource.NewWithAttributes(semconv.SchemaURL, all...)
}

// Observe keeps what spans are made from, of an exchange that is sampled, or drops and
// counts it where the ring is full. It implements observability.Observer; it allocates
// nothing in steady state, and costs an exchange that is not sampled one look
// (BenchmarkObserve).
func (t *Tracer) Observe(r *observability.Record) {
	if !r.Trace.Sampled {
		return
	}
	ring := t.rings[r.Loop]
	if ring.put(r) && ring.needsWake() {
		t.rouse()
	}
}

// rouse wakes Run before its time. A send with a default takes a short runtime lock but
// never waits; needsWake makes it at most one in each half ring.
func (t *Tracer) rouse() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Counts returns how many spans the collector has taken, and how many were dropped: the
// ring was full, or the collector did not take them.
func (t *Tracer) Counts() (exported, dropped uint64) {
	dropped = t.lost.Load()
	for _, r := range t.rings {
		dropped += r.dropped.Load()
	}
	return t.exported.Load(), dropped
}

// Run builds and sends until ctx ends, and then what is left, for which there are three
// seconds. What cannot be sent by then is counted as dropped.
func (t *Tracer) Run(ctx context.Context) error {
	out, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	defer context.AfterFunc(ctx, func() {
		// A batch under way is not broken off: the collector may have taken it.
		last := time.AfterFunc(lastFlush, end)
		context.AfterFunc(out, func() { last.Stop() })
	})()
	ticker := time.NewTicker(t.interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
		case <-t.wake:
		case <-ctx.Done():
		}
		t.flush(out)
	}
	t.flush(out)
	t.abandon()
	if err := errors.Join(t.provider.Shutdown(out), t.exporter.Shutdown(out)); err != nil && out.Err() == nil {
		return fmt.Errorf("traces: %w", err)
	}
	return nil
}

// flush sends what all rings hold, as far as ctx lets it; what is left stays where it is.
func (t *Tracer) flush(ctx context.Context) {
	for _, r := range t.rings {
		for x := r.next(); x != nil; x = r.next() {
			if len(t.batch) >= batchSpans && !t.send(ctx) {
				return
			}
			t.builder.build(x)
			r.release()
		}
	}
	t.send(ctx)
}

// abandon counts what is left as dropped.
func (t *Tracer) abandon() {
	t.lost.Add(uint64(len(t.batch)))
	t.batch = nil
	for _, r := range t.rings {
		for x := r.next(); x != nil; x = r.next() {
			t.lost.Add(spansOf(&x.record))
			r.release()
		}
	}
}

// collecting puts each span that ends into the tracer's batch. It implements the SDK's
// SpanProcessor.
type collecting struct{ t *Tracer }

func (c collecting) OnStart(context.Context, sdktrace.ReadWriteSpan) {}
func (c collecting) OnEnd(s sdktrace.ReadOnlySpan)                   { c.t.batch = append(c.t.batch, s) }
func (c collecting) Shutdown(context.Context) error                  { return nil }
func (c collecting) ForceFlush(context.Context) error                { return nil }

// givenIDs hands out the ids of the span that is being made. It implements the SDK's
// IDGenerator.
type givenIDs struct {
	trace trace.TraceID
	span  trace.SpanID
}

func (g *givenIDs) NewIDs(context.Context) (trace.TraceID, trace.SpanID)  { return g.trace, g.span }
func (g *givenIDs) NewSpanID(context.Context, trace.TraceID) trace.SpanID { return g.span }
