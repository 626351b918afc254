package metrics

import "sync/atomic"

// count is a counter with one writer, its loop, and any number of readers.
//
// An exchange counts in a dozen places, and an atomic store is a locked exchange on
// amd64: together they would cost more than everything else here. So add writes an
// ordinary aligned word (count_plain.go), which a reader sees either before or after, never
// in part: Go's memory model says so of a word, whatever races for it. The race detector,
// which must not be told less, and systems with smaller words get the atomic store
// (count_atomic.go).
type count struct {
	_ [0]atomic.Uint64 // its alignment, which 32-bit systems would not give a plain word
	v uint64
}

func (c *count) value() uint64  { return atomic.LoadUint64(&c.v) }
func (c *count) float() float64 { return float64(c.value()) }
