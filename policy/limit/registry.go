package limit

import "sync"

// Registry holds the limits in force by their places, so that a limit whose definition has not
// changed keeps its buckets over reloads. Any goroutine but loops.
type Registry struct {
	mu    sync.Mutex
	made  uint64 // orders of limits
	known map[string]*Limit
	all   []Placed
}

// Placed is a limit and where it stands.
type Placed struct {
	Place string
	Limit *Limit
}

// NewRegistry returns one without limits.
func NewRegistry() *Registry { return &Registry{known: map[string]*Limit{}} }

// Get returns the limit in force at a place if it is called so and defined so, and a new one
// otherwise, which is in force after Keep.
func (r *Registry) Get(place, name string, d Definition) *Limit {
	r.mu.Lock()
	defer r.mu.Unlock()
	if l := r.known[place]; l != nil && l.name == name && l.def == d {
		return l
	}
	r.made++
	return newLimit(name, d, r.made)
}

// Keep says what is in force from now on.
func (r *Registry) Keep(all []Placed) {
	known := make(map[string]*Limit, len(all))
	for _, p := range all {
		known[p.Place] = p.Limit
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known, r.all = known, all
}

// All returns those in force; it is not to be changed.
func (r *Registry) All() []Placed {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}
