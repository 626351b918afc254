package webhook

import (
	"net/http"
	"time"

	client "github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics is what the injector counts. Its methods may be called from any goroutine.
type metrics struct {
	reviews    *client.CounterVec
	duration   client.Histogram
	patches    client.Counter
	patchBytes client.Counter
	settings   *client.CounterVec
	handler    http.Handler
}

// newMetrics counts for s, whose state is asked for at each scrape.
func newMetrics(s *Server) *metrics {
	m := &metrics{
		reviews: client.NewCounterVec(client.CounterOpts{Name: "larboard_injector_reviews_total", Help: "Admission reviews, by what came of them."}, []string{"outcome"}),
		duration: client.NewHistogram(client.HistogramOpts{Name: "larboard_injector_review_duration_seconds",
			Help:    "Time from a review's head to its answer.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5}}),
		patches:    client.NewCounter(client.CounterOpts{Name: "larboard_injector_patches_total", Help: "Patches sent."}),
		patchBytes: client.NewCounter(client.CounterOpts{Name: "larboard_injector_patch_bytes_total", Help: "Bytes of all patches sent."}),
		settings:   client.NewCounterVec(client.CounterOpts{Name: "larboard_injector_settings_reads_total", Help: "Readings of changed settings, by result."}, []string{"result"}),
	}
	for _, o := range outcomes {
		m.reviews.WithLabelValues(string(o))
	}
	for _, result := range []string{"applied", "refused"} {
		m.settings.WithLabelValues(result)
	}
	registry := client.NewRegistry()
	registry.MustRegister(m.reviews, m.duration, m.patches, m.patchBytes, m.settings,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		client.NewGaugeFunc(client.GaugeOpts{Name: "larboard_injector_ready", Help: "Whether reviews may come (1)."},
			func() float64 { return oneIf(s.unready() == "") }),
		client.NewGaugeFunc(client.GaugeOpts{Name: "larboard_injector_certificate_expiry_timestamp_seconds", Help: "When the serving certificate expires, in Unix time; 0: there is none."}, s.expiry),
		client.NewGaugeFunc(client.GaugeOpts{Name: "larboard_injector_namespaces", Help: "Namespaces known."},
			func() float64 { return float64(s.namespaces.count()) }),
		client.NewCounterFunc(client.CounterOpts{Name: "larboard_injector_kubernetes_errors_total", Help: "Requests to the API server that failed."},
			func() float64 { return float64(s.options.API.errors.Load()) }))
	if s.keeper != nil {
		registry.MustRegister(
			client.NewGaugeFunc(client.GaugeOpts{Name: "larboard_injector_authority_expiry_timestamp_seconds", Help: "When the newest authority expires, in Unix time; 0: there is none."},
				func() float64 { return float64(s.keeper.expiry.Load()) }),
			client.NewCounterFunc(client.CounterOpts{Name: "larboard_injector_bundle_writes_total", Help: "Times that the bundle of the webhook configuration was written, since it was not as it should be."},
				func() float64 { return float64(s.keeper.writes.Load()) }))
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{EnableOpenMetrics: true})
	return m
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// expiry is that of the serving certificate.
func (s *Server) expiry() float64 {
	if pair := s.serving.Load(); pair != nil {
		return float64(pair.Leaf.NotAfter.Unix())
	}
	return 0
}

// reviewed counts a review.
func (m *metrics) reviewed(what outcome, took time.Duration) {
	m.reviews.WithLabelValues(string(what)).Inc()
	m.duration.Observe(took.Seconds())
}

// patched counts a patch.
func (m *metrics) patched(bytes int) {
	m.patches.Inc()
	m.patchBytes.Add(float64(bytes))
}

// reloaded counts a reading of the settings.
func (m *metrics) reloaded(applied bool) {
	result := "refused"
	if applied {
		result = "applied"
	}
	m.settings.WithLabelValues(result).Inc()
}
