package metrics

import (
	"sync"
	"sync/atomic"
)

// admission bounds the distinct keys of one metric over all loops. A loop asks when it
// meets a key that it has no series for: it holds the lock for one look into a map, and
// whoever is refused has allocated nothing.
type admission[K comparable] struct {
	limit   int
	refused atomic.Uint64

	mu    sync.Mutex
	users map[K]int // loops that hold the key
}

// newAdmission returns one for as many keys as series allows, each of which weighs so many.
func newAdmission[K comparable](series, weight int) *admission[K] {
	return &admission[K]{limit: max(series/weight, 1), users: map[K]int{}}
}

// admit reports whether a loop may make a series for key.
func (a *admission[K]) admit(key K) bool {
	a.mu.Lock()
	n := a.users[key]
	ok := n > 0 || len(a.users) < a.limit
	if ok {
		a.users[key] = n + 1
	}
	a.mu.Unlock()
	if !ok {
		a.refused.Add(1)
	}
	return ok
}

// release gives back what admit granted.
func (a *admission[K]) release(key K) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := a.users[key]; n > 1 {
		a.users[key] = n - 1
		return
	}
	delete(a.users, key)
}
