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
	// Low and High enclose the median of all rounds that could have been taken with a
	// confidence of 95 %; 0 where there are too few rounds to say.
	Low  float64 `json:"ratio_low,omitempty"`
	High float64 `json:"ratio_high,omitempty"`
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
	s.Low, s.High = confidence(ratio)
	return s
}

// confidence is the interval of order statistics that holds the median with at least
// 95 %, whatever the distribution: 0 and 0 for fewer than 6 values.
func confidence(values []float64) (low, high float64) {
	n := len(values)
	below, chance, k := 0.0, math.Pow(0.5, float64(n)), 0 // below: of at most k-1 values under the median
	for ; below+chance <= 0.025 && k < n/2; k++ {
		below += chance
		chance *= float64(n-k) / float64(k+1)
	}
	if k == 0 {
		return 0, 0
	}
	sorted := append([]float64(nil), values...)
	sort.Float64s(sorted)
	return sorted[k-1], sorted[n-k]
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
