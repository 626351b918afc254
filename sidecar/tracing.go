package sidecar

import (
	"fmt"

	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/observability/trace"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// openTracer makes what sends spans to a collector, where traces are taken part in.
func (s *Sidecar) openTracer(c *config.Config, loops int) error {
	t := c.Tracing
	if t == nil {
		return nil
	}
	to, err := collector(t.OTLP)
	if err != nil {
		return fmt.Errorf("tracing.otlp: %w", err)
	}
	s.tracer, err = trace.New(trace.Options{Loops: loops, Collector: to, Interval: t.OTLP.Interval.D(), Resource: s.resource(), Logger: s.log})
	if err != nil {
		return err
	}
	s.metrics.Register(metrics.Spans, func(emit metrics.Emit) {
		exported, dropped := s.tracer.Counts()
		emit(float64(exported), "exported")
		emit(float64(dropped), "dropped")
	})
	return nil
}
