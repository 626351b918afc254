package hpack

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// recent remembers, by hash, which fields were sent of late, and which of them are in
// the encoder's table: a cache of two places for each hash. The seed is the caller's: random,
// so that nobody can choose fields that displace others, but one that can be repeated where
// what is sent has to be (hash/maphash has none of that kind).
type recent struct {
	seed  uint64
	slots *[recentSlots]recentSlot // allocated with the first field
	turn  uint8
}

const (
	recentSlots = 64
	displace    = 16 // one in so many newcomers takes the place of a stored field
)

// recentSlot is a field. number is its entry's where it was stored; the entry may
// have gone since.
type recentSlot struct {
	hash   uint32 // 0: free
	number uint32
	stored bool
}

// spread is odd and without a pattern: the golden ratio of 64 bits.
const spread = 0x9e3779b97f4a7c15

// sum hashes a field.
func (r *recent) sum(name *Name, value []byte) uint64 {
	sum := r.hash(value)
	if name.Key != 0 {
		return sum + sumOfKey(name.Key)
	}
	return sum + r.hash(name.Text)*spread
}

// hash is wyhash's way: each eight bytes are folded in by a multiplication to 128 bits.
func (r *recent) hash(b []byte) uint64 {
	h := r.seed ^ uint64(len(b))
	for ; len(b) >= 8; b = b[8:] {
		h = fold(h ^ binary.LittleEndian.Uint64(b))
	}
	var last uint64
	for i, c := range b {
		last |= uint64(c) << (8 * i)
	}
	return fold(fold(h^last) ^ r.seed)
}

func fold(x uint64) uint64 {
	high, low := bits.Mul64(x, spread)
	return high ^ low
}

func sumOfKey(key uint8) uint64 { return uint64(key) * spread }

// find returns the slot of a hash and whether it had one; else it may have one now.
// The slot of a field whose entry has gone from t is returned as not stored.
func (r *recent) find(t *table, sum uint64) (s *recentSlot, known bool) {
	if r.slots == nil {
		r.slots = new([recentSlots]recentSlot)
	}
	hash := uint32(sum>>32) | 1
	first := &r.slots[sum%recentSlots]
	second := &r.slots[sum%recentSlots^1]
	for _, s := range [...]*recentSlot{first, second} {
		if s.hash == hash {
			s.stored = s.stored && s.number-t.first < t.count
			return s, true
		}
	}
	s = first
	if s.stored && s.number-t.first < t.count {
		s = second
	}
	if s.stored && s.number-t.first < t.count {
		if r.turn++; r.turn%displace != 0 {
			return nil, false
		}
	}
	*s = recentSlot{hash: hash}
	return s, false
}

func (r *recent) memory() int {
	if r.slots == nil {
		return 0
	}
	return int(unsafe.Sizeof(*r.slots))
}
