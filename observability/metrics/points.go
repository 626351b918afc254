package metrics

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

const (
	// labelLimit bounds the bytes of a label value.
	labelLimit = 256
	// pointLimit bounds what one metric shows: the SeriesLimit of tables whose rows
	// make two points each, and the same for what callbacks give.
	pointLimit = 2 * SeriesLimit
)

// points gathers the values of one metric, adding up those with equal labels:
// Prometheus refuses a whole scrape that shows one series twice.
type points struct {
	info  *Info
	index map[string]int // by joined labels
	list  []point
}

type point struct {
	labels []string
	value  float64
}

// add implements Emit. What callbacks give above the pointLimit is added up under
// Other where it is a counter; of a gauge it is left out, a sum being no state.
func (p *points) add(value float64, labels ...string) {
	if len(labels) != len(p.info.Labels) {
		panic(fmt.Sprintf("metrics: %s takes %d label values, got %d", p.info.Name, len(p.info.Labels), len(labels)))
	}
	clean := make([]string, len(labels))
	for i, label := range labels {
		clean[i] = cleanLabel(label)
	}
	key := strings.Join(clean, "\xff")
	i, known := p.index[key]
	if !known && len(p.list) >= pointLimit {
		if p.info.Kind != Counter {
			return
		}
		clean = slices.Repeat([]string{Other}, len(labels))
		key = strings.Join(clean, "\xff")
		i, known = p.index[key]
	}
	if !known {
		i = len(p.list)
		p.index[key] = i
		p.list = append(p.list, point{labels: clean})
	}
	p.list[i].value += value
}

// aggregation returns the points as OpenTelemetry data, nil where there are none.
func (p *points) aggregation(kind Kind, start time.Time) metricdata.Aggregation {
	if len(p.list) == 0 {
		return nil
	}
	now := time.Now()
	data := make([]metricdata.DataPoint[float64], len(p.list))
	for i, pt := range p.list {
		data[i] = metricdata.DataPoint[float64]{
			Attributes: attributes(p.info.Labels, pt.labels),
			StartTime:  start,
			Time:       now,
			Value:      pt.value,
		}
	}
	if kind == Gauge {
		return metricdata.Gauge[float64]{DataPoints: data}
	}
	return metricdata.Sum[float64]{DataPoints: data, IsMonotonic: true, Temporality: metricdata.CumulativeTemporality}
}

func attributes(names, values []string) attribute.Set {
	set := make([]attribute.KeyValue, len(names))
	for i, name := range names {
		set[i] = attribute.String(name, values[i])
	}
	return attribute.NewSet(set...)
}

// cleanLabel makes s a label value: valid UTF-8 of bounded length.
func cleanLabel(s string) string {
	if len(s) > labelLimit {
		s = s[:labelLimit]
	}
	if utf8.ValidString(s) {
		return s
	}
	return strings.ToValidUTF8(s, "\uFFFD")
}
