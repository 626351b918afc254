package static

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
)

// Registry is a registry in memory: what is registered for a service reaches its
// sources at once. The zero value is empty and ready; it is safe for concurrent
// use.
type Registry struct {
	mu       sync.Mutex // guards what follows
	index    uint64
	services map[string]*service
}

// service is one name with its endpoints, in the order of their first registration.
type service struct {
	endpoints []discovery.Endpoint // replaced at each change, never written
	index     uint64
	changed   chan struct{} // closed and replaced at each change
}

// Register adds e to a service, or replaces the endpoint of the same ID. It fails
// for what New refuses.
func (r *Registry) Register(name string, e discovery.Endpoint) error {
	e, err := complete(e)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.service(name)
	next := slices.Clone(s.endpoints)
	if i := find(next, e.ID); i >= 0 {
		next[i] = e
	} else {
		next = append(next, e)
	}
	r.change(s, next)
	return nil
}

// Deregister takes the endpoint with this ID out of a service and reports whether
// it was there.
func (r *Registry) Deregister(name, id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.service(name)
	i := find(s.endpoints, id)
	if i < 0 {
		return false
	}
	r.change(s, slices.Delete(slices.Clone(s.endpoints), i, i+1))
	return true
}

// Source returns a source for a service, registered by now or not: it sends what
// there is, also nothing, and each change. Changes that come faster than it can
// send are folded together.
func (r *Registry) Source(name string) discovery.Source {
	return registered{r, name}
}

// Endpoints returns what is registered for a service; the slice must not be
// written.
func (r *Registry) Endpoints(name string) []discovery.Endpoint {
	endpoints, _, _ := r.state(name)
	return endpoints
}

func (r *Registry) state(name string) ([]discovery.Endpoint, uint64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.service(name)
	return s.endpoints, s.index, s.changed
}

// service returns the entry of a name. Called with mu held.
func (r *Registry) service(name string) *service {
	if r.services == nil {
		r.services = map[string]*service{}
	}
	s := r.services[name]
	if s == nil {
		s = &service{changed: make(chan struct{})}
		r.services[name] = s
	}
	return s
}

// change puts a new set in force. Called with mu held.
func (r *Registry) change(s *service, next []discovery.Endpoint) {
	r.index++
	s.endpoints, s.index = next, r.index
	close(s.changed)
	s.changed = make(chan struct{})
}

func find(endpoints []discovery.Endpoint, id string) int {
	return slices.IndexFunc(endpoints, func(e discovery.Endpoint) bool { return e.ID == id })
}

// registered watches one service of a Registry.
type registered struct {
	registry *Registry
	name     string
}

// Run implements discovery.Source.
func (s registered) Run(ctx context.Context, out func(discovery.Update)) error {
	for {
		endpoints, index, changed := s.registry.state(s.name)
		out(discovery.Update{Service: s.name, Endpoints: endpoints, Index: index, At: time.Now()})
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
