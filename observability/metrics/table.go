package metrics

import (
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// nearSlots is the size of the direct-mapped cache in front of each table: a
// power of two, enough for what one loop serves in turn.
const nearSlots = 64

// cell is one series of one loop. The padding keeps the counters of two loops off
// a shared cache line wherever the allocator puts them.
type cell[K comparable, V any] struct {
	key   K
	value V
	rest  rest
	_     [64]byte
}

// table holds the series of one loop and one metric. get and drop are called by the loop
// only, all by anyone.
type table[K comparable, V any] struct {
	// immutable after New
	admission *admission[K]
	overflow  func(K) K

	// owned by the loop
	near  [nearSlots]*cell[K, V]
	byKey map[K]*cell[K, V]

	// published by the loop, never modified afterwards but by appending beyond its length
	published atomic.Pointer[[]*cell[K, V]]
}

func newTable[K comparable, V any](a *admission[K], overflow func(K) K) table[K, V] {
	return table[K, V]{admission: a, overflow: overflow, byKey: make(map[K]*cell[K, V])}
}

// get returns the series of key, making it where it is new. The slot only says
// where to look first: in steady state a hit costs one comparison of the key,
// whose strings mostly share their data pointers and are equal at a glance.
func (t *table[K, V]) get(slot uintptr, key K) *V {
	near := &t.near[slot%nearSlots]
	if c := *near; c != nil && c.key == key {
		return &c.value
	}
	c := t.byKey[key]
	if c == nil {
		if c = t.add(key); c.key != key {
			return &c.value // overflow: its key must not enter the cache
		}
	}
	*near = c
	return &c.value
}

// find is get for those who keep what they are given, until drop.
func (t *table[K, V]) find(key K) *V {
	if c := t.byKey[key]; c != nil {
		return &c.value
	}
	return &t.add(key).value
}

func (t *table[K, V]) add(key K) *cell[K, V] {
	if !t.admission.admit(key) {
		if key = t.overflow(key); t.byKey[key] != nil {
			return t.byKey[key]
		}
	}
	c := &cell[K, V]{key: key}
	t.byKey[key] = c
	cells := append(t.all(), c)
	t.published.Store(&cells)
	return c
}

// drop forgets the series of keys, and reports whether there was one. Who keeps what find
// has returned must look again.
func (t *table[K, V]) drop(keys ...K) bool {
	dropped := false
	for _, key := range keys {
		if t.byKey[key] != nil {
			dropped = true
			delete(t.byKey, key)
			t.admission.release(key)
		}
	}
	if !dropped {
		return false
	}
	t.near = [nearSlots]*cell[K, V]{}
	cells := make([]*cell[K, V], 0, len(t.byKey))
	for _, c := range t.all() {
		if t.byKey[c.key] == c {
			cells = append(cells, c)
		}
	}
	t.published.Store(&cells)
	return true
}

// all returns the series as they stand; the caller must not modify the slice.
func (t *table[K, V]) all() []*cell[K, V] {
	if p := t.published.Load(); p != nil {
		return *p
	}
	return nil
}

// slotOf mixes the addresses of two strings and a number into a cache slot. Only
// where to look depends on the addresses, never what is found.
func slotOf(a, b string, n uintptr) uintptr {
	h := uint64(addressOf(a))*31 ^ uint64(addressOf(b)) ^ bits.RotateLeft64(uint64(n), 40)
	return uintptr(h * 0x9E3779B97F4A7C15 >> 32)
}

// addressOf is a string as slotOf's number.
func addressOf(s string) uintptr { return uintptr(unsafe.Pointer(unsafe.StringData(s))) }
