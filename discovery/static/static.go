// Package static serves endpoints that are written down in the configuration or
// registered in memory by the process itself (the demo, tests). It must not know
// of files or networks.
package static

import (
	"context"
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
)

// Name is the Source of endpoints from this package that name none.
const Name = "static"

// source is a set that never changes.
type source struct{ endpoints []discovery.Endpoint }

// New returns a source that sends endpoints once, in the given order. It fails
// for an address that discovery.CheckAddress refuses, a negative weight or an ID used twice.
// The slice is copied. An endpoint without ID gets its address as one; a weight of
// 0 means "no new traffic", as everywhere.
func New(endpoints []discovery.Endpoint) (discovery.Source, error) {
	out := make([]discovery.Endpoint, len(endpoints))
	seen := make(map[string]struct{}, len(endpoints))
	for i, e := range endpoints {
		e, err := complete(e)
		if err != nil {
			return nil, err
		}
		if _, twice := seen[e.ID]; twice {
			return nil, fmt.Errorf("static: endpoint %q is given twice", e.ID)
		}
		seen[e.ID] = struct{}{}
		out[i] = e
	}
	return source{out}, nil
}

// Run implements discovery.Source.
func (s source) Run(ctx context.Context, out func(discovery.Update)) error {
	out(discovery.Update{Endpoints: s.endpoints, At: time.Now()})
	<-ctx.Done()
	return ctx.Err()
}

// complete checks an endpoint and fills in what it leaves out.
func complete(e discovery.Endpoint) (discovery.Endpoint, error) {
	if err := discovery.CheckAddress(e.Address); err != nil {
		return e, fmt.Errorf("static: %w", err)
	}
	if e.Weight < 0 {
		return e, fmt.Errorf("static: endpoint %q: negative weight %d", e.Address, e.Weight)
	}
	if e.ID == "" {
		e.ID = e.Address
	}
	if e.Source == "" {
		e.Source = Name
	}
	return e, nil
}
