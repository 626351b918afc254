package load

import (
	"math/bits"
	"time"
)

// subBits gives 128 buckets to each power of two: a value is known to 0.8 %.
const subBits = 7

// Histogram holds durations in fixed memory, log-linear from a nanosecond up.
// The zero value is ready; it is not safe for use by several goroutines.
type Histogram struct {
	counts [(64 - subBits) << subBits]uint32
	total  uint64
	max    time.Duration
}

// Add records one duration; a negative one counts as zero.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.total++
	h.max = max(h.max, d)
}

// Count is the number of recorded durations.
func (h *Histogram) Count() uint64 { return h.total }

// Max is the longest recorded duration, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile is the upper edge of the bucket that holds the q-quantile, and 0
// for an empty histogram. q is between 0 and 1.
func (h *Histogram) Quantile(q float64) time.Duration {
	if h.total == 0 {
		return 0
	}
	rank := min(uint64(q*float64(h.total)), h.total-1)
	var seen uint64
	for i, n := range h.counts {
		seen += uint64(n)
		if seen > rank {
			return min(time.Duration(upper(i)), h.max)
		}
	}
	return h.max
}

// bucket maps v to its index: values below 2^subBits exactly, above that the
// exponent and the subBits bits after the leading one.
func bucket(v uint64) int {
	if v < 1<<subBits {
		return int(v)
	}
	exp := bits.Len64(v) - 1 - subBits
	return (exp+1)<<subBits + int(v>>exp) - 1<<subBits
}

// upper is the largest value of bucket i.
func upper(i int) uint64 {
	if i < 1<<subBits {
		return uint64(i)
	}
	exp := i>>subBits - 1
	low := uint64(i&(1<<subBits-1)+1<<subBits) << exp
	return low + 1<<exp - 1
}
