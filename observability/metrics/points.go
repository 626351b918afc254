package metrics

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
)

// labelLimit bounds the bytes of a label value.
const labelLimit = 256

// points gathers the values of one metric, adding up those with equal labels:
// Prometheus refuses a whole scrape that shows one series twice.
type points struct {
	info  *Info
	index map[string]int // by joined labels
	list  []point
	limit int    // of what callbacks give
	left  uint64 // label sets of theirs that found no room
}

type point struct {
	labels []string
	value  float64
}

// add implements Emit for what is bounded already.
func (p *points) add(value float64, labels ...string) { p.put(value, labels, false) }

// addWithin implements Emit for callbacks. What they give above the limit is added up under
// Other where it is a counter; of a gauge it is left out, a sum being no state.
func (p *points) addWithin(value float64, labels ...string) { p.put(value, labels, true) }

func (p *points) put(value float64, labels []string, bounded bool) {
	if len(labels) != len(p.info.Labels) {
		panic(fmt.Sprintf("metrics: %s takes %d label values, got %d", p.info.Name, len(p.info.Labels), len(labels)))
	}
	clean, key := cleanLabels(labels)
	i, known := p.index[key]
	if !known && bounded && len(p.list) >= p.limit {
		p.left++
		if p.info.Kind != Counter {
			return
		}
		clean, key = cleanLabels(slices.Repeat([]string{Other}, len(labels)))
		i, known = p.index[key]
	}
	if !known {
		i = len(p.list)
		p.index[key] = i
		p.list = append(p.list, point{labels: clean})
	}
	p.list[i].value += value
}

// series is how many Prometheus makes of it.
func (p *points) series() int { return len(p.list) }

// aggregation returns the points as OpenTelemetry data, nil where there are none.
func (p *points) aggregation(start time.Time) metricdata.Aggregation {
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
	if p.info.Kind == Gauge {
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

// cleanLabels returns label values as they are shown, and what tells them from others.
func cleanLabels(labels []string) (clean []string, key string) {
	clean = make([]string, len(labels))
	for i, label := range labels {
		clean[i] = cleanLabel(label)
	}
	return clean, strings.Join(clean, "\xff")
}

// cleanLabel makes s a label value: valid UTF-8 of bounded length, without characters that
// upset a terminal or a parser by the line. What cannot stand becomes U+FFFD.
func cleanLabel(s string) string {
	if len(s) <= labelLimit && !strings.ContainsFunc(s, unshowable) {
		return s
	}
	s = strings.Map(func(r rune) rune {
		if unshowable(r) {
			return utf8.RuneError
		}
		return r
	}, s[:min(len(s), labelLimit+utf8.UTFMax)])
	end := min(len(s), labelLimit)
	for end < len(s) && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end]
}

// unshowable holds for control characters and, as it is met in a string, for what is no
// UTF-8.
func unshowable(r rune) bool { return r == utf8.RuneError || unicode.IsControl(r) }
