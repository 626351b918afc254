package metrics

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetricgrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
	"google.golang.org/grpc/credentials"

	"github.com/larboard-proxy/larboard/observability/otlp"
)

// What Run does after its context has ended is bounded.
const (
	lastPush = 3 * time.Second
	lastTry  = 500 * time.Millisecond // where the collector has not answered lately
)

// PushOptions say where metrics are sent.
type PushOptions struct {
	Collector otlp.Collector
	Interval  time.Duration
	// Resource says whose metrics they are: service.name and the like.
	Resource map[string]string
	Logger   *slog.Logger
}

// Push sends metrics to a collector, over and over, beside what scrapes see: the whole
// state each time, so that nothing has to be kept for a collector that is away. The SDK's
// PeriodicReader is not used: its goroutine is nobody's, and it says at each failure again
// that there was one.
type Push struct {
	// immutable after NewPush
	metrics   *Metrics
	exporter  sdk.Exporter
	transport *http.Transport // nil: gRPC
	resource  *resource.Resource
	interval  time.Duration
	timeout   time.Duration
	logger    *slog.Logger

	exported, failed atomic.Uint64

	failing bool // owned by Run
}

// NewPush returns what sends m. It does not connect; the collector may come later. Errors:
// a collector that cannot be.
func (m *Metrics) NewPush(o PushOptions) (*Push, error) {
	p := &Push{metrics: m, interval: o.Interval, timeout: o.Collector.Timeout, logger: o.Logger}
	var of []attribute.KeyValue
	for name, value := range o.Resource {
		of = append(of, attribute.String(name, value))
	}
	p.resource = resource.NewSchemaless(of...)
	var err error
	if o.Collector.GRPC {
		p.exporter, err = newGRPC(&o.Collector)
	} else {
		p.transport = o.Collector.Transport()
		p.exporter, err = newHTTP(&o.Collector, p.transport)
	}
	if err != nil {
		return nil, fmt.Errorf("metrics: collector: %w", err)
	}
	m.Register(Exports, func(emit Emit) {
		emit(float64(p.exported.Load()), "exported")
		emit(float64(p.failed.Load()), "failed")
	})
	return p, nil
}

// standardPath is the specification's for metrics over HTTP.
const standardPath = "/v1/metrics"

func newGRPC(c *otlp.Collector) (sdk.Exporter, error) {
	o := []otlpmetricgrpc.Option{
		otlpmetricgrpc.WithEndpointURL(c.URL(standardPath)), otlpmetricgrpc.WithHeaders(c.Headers), otlpmetricgrpc.WithTimeout(c.Timeout),
		otlpmetricgrpc.WithRetry(otlpmetricgrpc.RetryConfig{Enabled: true, InitialInterval: otlp.FirstPause, MaxInterval: otlp.MostPause, MaxElapsedTime: c.Timeout}),
	}
	if c.TLS != nil {
		o = append(o, otlpmetricgrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))
	}
	return otlpmetricgrpc.New(context.Background(), o...)
}

func newHTTP(c *otlp.Collector, t *http.Transport) (sdk.Exporter, error) {
	return otlpmetrichttp.New(context.Background(),
		otlpmetrichttp.WithHTTPClient(&http.Client{Transport: t}),
		otlpmetrichttp.WithEndpointURL(c.URL(standardPath)), otlpmetrichttp.WithHeaders(c.Headers), otlpmetrichttp.WithTimeout(c.Timeout),
		otlpmetrichttp.WithRetry(otlpmetrichttp.RetryConfig{Enabled: true, InitialInterval: otlp.FirstPause, MaxInterval: otlp.MostPause, MaxElapsedTime: c.Timeout}),
	)
}

// Run sends until ctx ends, and then once more what has come to be, for which there are
// three seconds, or half of one where the collector has not answered lately. It returns nil.
func (p *Push) Run(ctx context.Context) error {
	ticker := time.NewTicker(p.interval)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ticker.C:
			if err := p.send(ctx); err == nil || ctx.Err() == nil {
				p.note(err)
			}
		case <-ctx.Done():
		}
	}
	within := lastPush
	if p.failing {
		within = lastTry
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), within)
	defer cancel()
	p.note(p.send(last))
	_ = p.exporter.Shutdown(last) // it holds nothing back
	if p.transport != nil {
		p.transport.CloseIdleConnections()
	}
	return nil
}

// send sends the state of now. Blocks, for the collector's timeout at most.
func (p *Push) send(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	scopes, err := p.metrics.Producer().Produce(ctx)
	if err != nil {
		return err
	}
	scopes = append(scopes, p.metrics.process())
	return p.exporter.Export(ctx, &metricdata.ResourceMetrics{Resource: p.resource, ScopeMetrics: scopes})
}

// note counts, and logs when the collector begins or ends to fail.
func (p *Push) note(err error) {
	if err == nil {
		p.exported.Add(1)
	} else {
		p.failed.Add(1)
	}
	if err != nil && !p.failing {
		p.logger.Warn("the metrics' collector does not take them; the next try sends all again", "error", err)
	}
	if err == nil && p.failing {
		p.logger.Info("the metrics' collector takes them again", "failed", p.failed.Load())
	}
	p.failing = err != nil
}
