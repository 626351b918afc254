package http2

import "math/bits"

// table finds a stream by its id: open addressing, a power of two of slots, at most half full.
// Ids come one after the other, but id/2 would be a bad hash: it puts all streams into one run,
// the rest of which remove had to walk, and each id there is a cache miss. It allocates only
// when it grows. The zero value is empty.
type table struct {
	slots []*Stream
	shift uint8 // leaves as many bits of a hash as there are slots
	n     int
}

const leastSlots = 8

// slot takes the upper bits of a multiplication by the golden ratio, which spreads ids that
// follow one another as far as can be.
func (t *table) slot(id uint32) uint32 { return id >> 1 * 0x9e3779b1 >> t.shift }

func (t *table) get(id uint32) *Stream {
	if t.n == 0 {
		return nil
	}
	for i := t.slot(id); ; i = (i + 1) & uint32(len(t.slots)-1) {
		if s := t.slots[i]; s == nil || s.id == id {
			return s
		}
	}
}

func (t *table) put(s *Stream) {
	if 2*(t.n+1) > len(t.slots) {
		old := t.slots
		t.slots = make([]*Stream, max(leastSlots, 2*len(old)))
		t.shift = uint8(32 - bits.TrailingZeros(uint(len(t.slots))))
		for _, x := range old {
			if x != nil {
				t.insert(x)
			}
		}
	}
	t.insert(s)
	t.n++
}

func (t *table) insert(s *Stream) {
	i := t.slot(s.id)
	for t.slots[i] != nil {
		i = (i + 1) & uint32(len(t.slots)-1)
	}
	t.slots[i] = s
}

// remove takes s out and closes the gap: what was displaced over it moves back.
func (t *table) remove(s *Stream) {
	mask := uint32(len(t.slots) - 1)
	i := t.slot(s.id)
	for t.slots[i] != s {
		i = (i + 1) & mask
	}
	t.slots[i] = nil
	t.n--
	for j := (i + 1) & mask; t.slots[j] != nil; j = (j + 1) & mask {
		home := t.slot(t.slots[j].id)
		if (j-home)&mask >= (j-i)&mask {
			t.slots[i], t.slots[j] = t.slots[j], nil
			i = j
		}
	}
}
