// Package discovery says which endpoints a service has. A source watches one
// place (the configuration, a file, DNS, Consul) and hands over complete sets; the
// package itself keeps the last good set of each source and merges those of one
// service. It must not know of connections,
// balancing or the proxy's own health checks.
package discovery

import (
	"context"
	"net/netip"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Endpoint is one address that serves a service. Values are immutable once sent.
type Endpoint struct {
	// ID is stable over changes of weight and tags: state (health, in-flight,
	// pool) is kept under it. Sources without ids use the address.
	ID string
	// Address is host:port (host an IP literal) or unix:///path.
	Address string
	// Weight is at least 1 unless the endpoint is to get no new traffic (0).
	Weight int
	Tags   []string
	Meta   map[string]string
	// Identity is the SPIFFE ID to expect of the endpoint; zero: unknown.
	Identity spiffeid.ID
	// IdentityPath is the path of the expected SPIFFE ID inside our own trust
	// domain, where the source knows only that; empty: unknown.
	IdentityPath string
	Node, Zone   string
	// CalledAt are the addresses by which those call the service, or the instance, who know nothing
	// of a mesh; port 0: any port. Empty: the source knows none.
	CalledAt []netip.AddrPort
	// Source says where the endpoint comes from ("static", "consul:dc1").
	Source string
	// Status is what the source knows of its health ("passing", "warning"); empty:
	// nothing.
	Status string
}

// EndpointKey tells the endpoints of a service apart: an id is unique within one
// source only.
type EndpointKey struct{ ID, Address string }

// Key is under which the state of e is kept.
func (e *Endpoint) Key() EndpointKey { return EndpointKey{e.ID, e.Address} }

// Update is the complete set of a service at one moment, or news of a failure.
type Update struct {
	Service   string
	Endpoints []Endpoint
	// Index is the source's own version (Consul's X-Consul-Index); 0: none.
	Index uint64
	// Via says who answered, where a source has several to ask; empty: it has not.
	Via string
	At  time.Time
	// Err, when set, says that the source is out of reach: Endpoints is nil and the
	// last good set stays in force.
	Err error
	// News says that Err is worth a line of the log although the one before was an
	// error, too.
	News bool
}

// Source watches one service.
type Source interface {
	// Run sends the first complete set as soon as it is known and a new one at each
	// change, until ctx ends; out is called from one goroutine and must not
	// block. Run retries by itself (jittered back-off) and returns only ctx's error
	// or a permanent one.
	Run(ctx context.Context, out func(Update)) error
}
