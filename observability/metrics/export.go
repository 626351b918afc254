package metrics

import (
	"context"
	"net/http"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/otlptranslator"
	"go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/instrumentation"
	sdk "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/resource"
)

// scope names this package to OpenTelemetry.
const scope = "github.com/larboard-proxy/larboard/observability/metrics"

// scrapesAtOnce bounds the memory that scrapes take together.
const scrapesAtOnce = 4

// newHandler wires m as a producer into a Prometheus exporter with a registry of
// its own. The names of the table are exported as they stand. It panics where the
// libraries refuse what is constant here.
func newHandler(m *Metrics) http.Handler {
	registry := client.NewRegistry()
	exporter, err := prometheus.New(
		prometheus.WithRegisterer(registry),
		prometheus.WithProducer(m.Producer()),
		prometheus.WithoutTargetInfo(),
		prometheus.WithoutScopeInfo(),
		prometheus.WithTranslationStrategy(otlptranslator.NoTranslation),
	)
	if err != nil {
		panic("metrics: " + err.Error())
	}
	// A reader answers only once a provider holds it; it has no instruments of its own.
	sdk.NewMeterProvider(sdk.WithReader(exporter), sdk.WithResource(resource.Empty()))
	return promhttp.HandlerFor(client.Gatherers{registry, m.processes}, promhttp.HandlerOpts{
		EnableOpenMetrics:   true,
		MaxRequestsInFlight: scrapesAtOnce,
	})
}

// Producer offers the metrics to any other OpenTelemetry reader, such as a periodic
// one that pushes OTLP.
func (m *Metrics) Producer() sdk.Producer { return producer{m} }

type producer struct{ m *Metrics }

// Produce implements sdk.Producer: cumulative sums over all loops, and the answers
// of the callbacks. It does not block but where a callback does.
func (p producer) Produce(context.Context) ([]metricdata.ScopeMetrics, error) {
	var ms []metricdata.Metrics
	var shown [instrumentCount]int
	for _, i := range Instruments() {
		set := p.m.gather(i, &shown)
		shown[i] = set.series()
		if data := set.aggregation(p.m.start); data != nil {
			ms = append(ms, metricdata.Metrics{Name: i.Info().Name, Description: i.Info().Help, Data: data})
		}
	}
	return []metricdata.ScopeMetrics{{Scope: instrumentation.Scope{Name: scope}, Metrics: ms}}, nil
}
