package metrics

import (
	"math/bits"
	"sort"
	"time"
)

// Durations are counted in 80 fine buckets, 13 a decade from 10 µs to 10 s, so
// that a percentile can be read from them within about a tenth of its value. The
// exported histogram folds them into exportBounds, which are all among the fine ones.

const (
	decades     = 6
	perDecade   = 13
	fineBuckets = decades*perDecade + 2 // the last two: up to 10 s, above
)

var mantissas = [perDecade]int64{100, 125, 150, 175, 200, 250, 300, 350, 400, 500, 600, 700, 850}

// fineBounds are the inclusive upper bounds of the fine buckets but the last, in nanoseconds.
var fineBounds = makeFineBounds()

// exportBounds are the buckets of every exported histogram, in seconds.
var exportBounds = []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10}

// firstCandidate holds, for each quarter of each power of two, the first fine
// bucket whose bound may hold such a duration.
var firstCandidate = makeFirstCandidate()

func makeFineBounds() [fineBuckets - 1]int64 {
	var bounds [fineBuckets - 1]int64
	unit := int64(10 * time.Microsecond / 100)
	for d := range decades {
		for i, m := range mantissas {
			bounds[d*perDecade+i] = m * unit
		}
		unit *= 10
	}
	bounds[fineBuckets-2] = int64(10 * time.Second)
	return bounds
}

func makeFirstCandidate() [64 * 4]uint8 {
	var first [64 * 4]uint8
	for i := range first {
		least := int64(0) // of the durations that octaveOf maps to i
		if octave := i / 4; octave > 2 && octave < 63 {
			least = (4 + int64(i%4)) << (octave - 3)
		} else if octave >= 63 {
			least = int64(^uint64(0) >> 1)
		}
		first[i] = uint8(sort.Search(len(fineBounds), func(b int) bool { return fineBounds[b] >= least }))
	}
	return first
}

// octaveOf maps a duration to its power of two (bit length) and the two bits below it.
func octaveOf(ns uint64) int {
	n := bits.Len64(ns)
	if n <= 2 {
		return 0
	}
	return n*4 + int(ns>>(n-3)&3)
}

// bucketOf returns the fine bucket of d.
func bucketOf(d time.Duration) int {
	ns := max(int64(d), 0)
	b := int(firstCandidate[octaveOf(uint64(ns))])
	for b < len(fineBounds) && ns > fineBounds[b] {
		b++
	}
	return b
}

// fold sums the fine buckets into the exported ones.
func fold(fine *[fineBuckets]uint64) []uint64 {
	out := make([]uint64, coarseBuckets)
	for b, n := range fine {
		out[coarseOf[b]] += n
	}
	return out
}

// quantile estimates the q-th quantile (0 to 1) by linear interpolation in its
// bucket; 0 where nothing was counted, 10 s where it lies above.
func quantile(fine *[fineBuckets]uint64, q float64) time.Duration {
	var total uint64
	for _, n := range fine {
		total += n
	}
	if total == 0 {
		return 0
	}
	rank := q * float64(total)
	var below float64
	for b, n := range fine[:len(fineBounds)] {
		if n > 0 && below+float64(n) >= rank {
			low := int64(0)
			if b > 0 {
				low = fineBounds[b-1]
			}
			return time.Duration(low + int64(float64(fineBounds[b]-low)*(rank-below)/float64(n)))
		}
		below += float64(n)
	}
	return time.Duration(fineBounds[len(fineBounds)-1])
}
