package discovery

import (
	"maps"
	"slices"
)

// Equal reports whether two sets are the same, endpoint by endpoint and in the
// same order: sources keep their order stable.
func Equal(a, b []Endpoint) bool {
	return slices.EqualFunc(a, b, Endpoint.Equal)
}

// Equal reports whether nothing about the endpoint differs.
func (e Endpoint) Equal(o Endpoint) bool {
	return e.ID == o.ID && e.Address == o.Address && e.Weight == o.Weight &&
		e.Identity == o.Identity && e.IdentityPath == o.IdentityPath &&
		e.Node == o.Node && e.Zone == o.Zone && e.Source == o.Source && e.Status == o.Status &&
		slices.Equal(e.CalledAt, o.CalledAt) && slices.Equal(e.Tags, o.Tags) && maps.Equal(e.Meta, o.Meta)
}

// unique gives an endpoint without ID its address as one and drops those whose ID
// an earlier one has: state is kept by ID, so a second holder would share it. The
// given slice is not written.
func unique(in []Endpoint) (out []Endpoint, dropped int) {
	seen := make(map[string]struct{}, len(in))
	out = make([]Endpoint, 0, len(in))
	for _, e := range in {
		if e.ID == "" {
			e.ID = e.Address
		}
		if _, twice := seen[e.ID]; twice {
			continue
		}
		seen[e.ID] = struct{}{}
		out = append(out, e)
	}
	return out, len(in) - len(out)
}
