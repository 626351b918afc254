//go:build linux

package main

import (
	"math"
	"sort"
)

// pair is one round: the same quantity of the reference and of the subject.
type pair struct {
	Reference float64 `json:"reference"`
	Subject   float64 `json:"subject"`
}

// ratio is below 1 where the subject is cheaper; NaN without a reference.
func (p pair) ratio() float64 {
	if p.Reference <= 0 {
		return math.NaN()
	}
	return p.Subject / p.Reference
}

// summary is what the rounds of a scenario come to. The ratio is the median of
// the per-round ratios, not the ratio of medians: the two halves of a round
// are neighbours in time and share the machine's mood.
type summary struct {
	Reference float64 `json:"reference"`
	Subject   float64 `json:"subject"`
	Ratio     float64 `json:"ratio"`
	RatioMin  float64 `json:"ratio_min"`
	RatioMax  float64 `json:"ratio_max"`
}

func summarize(rounds []pair) summary {
	var reference, subject, ratio []float64
	for _, p := range rounds {
		reference = append(reference, p.Reference)
		subject = append(subject, p.Subject)
		ratio = append(ratio, p.ratio())
	}
	s := summary{Reference: median(reference), Subject: median(subject), Ratio: median(ratio)}
	s.RatioMin, s.RatioMax = bounds(ratio)
	return s
}

// median is NaN for no values, and where any value is NaN.
func median(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted) // NaN sorts first
	if math.IsNaN(sorted[0]) {
		return math.NaN()
	}
	mid := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[mid]
	}
	return (sorted[mid-1] + sorted[mid]) / 2
}

func bounds(values []float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, v := range values {
		low, high = math.Min(low, v), math.Max(high, v)
	}
	return low, high
}

// quantile is the smallest value that a share q of the values does not exceed; NaN
// for none.
func quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return sorted[min(len(sorted)-1, max(0, int(math.Ceil(q*float64(len(sorted))))-1))]
}
