package metrics

import (
	"maps"
	"sync/atomic"
	"unsafe"
)

// nearSlots is the size of the direct-mapped cache in front of each table: a
// power of two, enough for what one loop serves in turn.
const nearSlots = 64

// count is a counter with one writer, its loop, and any number of readers. Add is
// a load and a store instead of a locked read-modify-write.
type count struct{ v atomic.Uint64 }

func (c *count) add(n uint64)  { c.v.Store(c.v.Load() + n) }
func (c *count) value() uint64 { return c.v.Load() }

// cell is one series of one loop. The padding keeps the counters of two loops off
// a shared cache line wherever the allocator puts them.
type cell[K comparable, V any] struct {
	key   K
	value V
	_     [64]byte
}

// table holds the series of one loop and one metric. get is called by the loop
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

// drop forgets the series of key.
func (t *table[K, V]) drop(key K) {
	if t.byKey[key] == nil {
		return
	}
	delete(t.byKey, key)
	t.near = [nearSlots]*cell[K, V]{}
	cells := make([]*cell[K, V], 0, len(t.byKey))
	for _, c := range t.all() {
		if c.key != key {
			cells = append(cells, c)
		}
	}
	t.published.Store(&cells)
	t.admission.release(key)
}

// all returns the series as they stand; the caller must not modify the slice.
func (t *table[K, V]) all() []*cell[K, V] {
	if p := t.published.Load(); p != nil {
		return *p
	}
	return nil
}

// admission bounds the distinct keys of one metric over all loops. Copy on write,
// so that a loop which asks for a key that was refused neither locks nor
// allocates, and one that meets a new key never waits for another.
type admission[K comparable] struct {
	limit int
	users atomic.Pointer[map[K]int] // loops that hold the key
}

func newAdmission[K comparable](limit int) *admission[K] {
	a := &admission[K]{limit: limit}
	a.users.Store(&map[K]int{})
	return a
}

// admit reports whether a loop may make a series for key.
func (a *admission[K]) admit(key K) bool {
	for {
		old := a.users.Load()
		if (*old)[key] == 0 && len(*old) >= a.limit {
			return false
		}
		users := maps.Clone(*old)
		users[key]++
		if a.users.CompareAndSwap(old, &users) {
			return true
		}
	}
}

// release gives back what admit granted.
func (a *admission[K]) release(key K) {
	for {
		old := a.users.Load()
		users := maps.Clone(*old)
		if users[key]--; users[key] <= 0 {
			delete(users, key)
		}
		if a.users.CompareAndSwap(old, &users) {
			return
		}
	}
}

// slotOf mixes the addresses of two strings and a number into a cache slot. Only
// where to look depends on the addresses, never what is found.
func slotOf(a, b string, n uintptr) uintptr {
	pa := uintptr(unsafe.Pointer(unsafe.StringData(a)))
	pb := uintptr(unsafe.Pointer(unsafe.StringData(b)))
	h := uint64(pa)*31 ^ uint64(pb) ^ uint64(n)<<40
	return uintptr(h * 0x9E3779B97F4A7C15 >> 32)
}
