package trace

import (
	"context"
	"net/http"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/credentials"

	"github.com/larboard-proxy/larboard/observability/otlp"
)

// standardPath is that of spans over HTTP, by the specification of the protocol.
const standardPath = "/v1/traces"

// newExporter is what speaks to the collector. It does not connect yet.
func newExporter(c *otlp.Collector) (sdktrace.SpanExporter, error) {
	if c.GRPC {
		return otlptrace.New(context.Background(), overGRPC(c))
	}
	transport := c.Transport()
	e, err := otlptrace.New(context.Background(), overHTTP(c, &http.Client{Transport: transport, Timeout: c.Timeout}))
	return httpExporter{e, transport}, err
}

// httpExporter leaves no connections behind.
type httpExporter struct {
	*otlptrace.Exporter
	transport *http.Transport
}

func (e httpExporter) Shutdown(ctx context.Context) error {
	defer e.transport.CloseIdleConnections()
	return e.Exporter.Shutdown(ctx)
}

func overGRPC(c *otlp.Collector) otlptrace.Client {
	o := []otlptracegrpc.Option{
		otlptracegrpc.WithEndpointURL(c.URL("")), otlptracegrpc.WithHeaders(c.Headers), otlptracegrpc.WithTimeout(c.Timeout),
		otlptracegrpc.WithRetry(otlptracegrpc.RetryConfig{Enabled: true, InitialInterval: otlp.FirstPause, MaxInterval: otlp.MostPause, MaxElapsedTime: c.Timeout}),
	}
	if c.TLS != nil {
		o = append(o, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(c.TLS)))
	}
	return otlptracegrpc.NewClient(o...)
}

func overHTTP(c *otlp.Collector, client *http.Client) otlptrace.Client {
	return otlptracehttp.NewClient(
		otlptracehttp.WithHTTPClient(client), otlptracehttp.WithEndpointURL(c.URL(standardPath)), otlptracehttp.WithHeaders(c.Headers),
		otlptracehttp.WithRetry(otlptracehttp.RetryConfig{Enabled: true, InitialInterval: otlp.FirstPause, MaxInterval: otlp.MostPause, MaxElapsedTime: c.Timeout}),
	)
}
