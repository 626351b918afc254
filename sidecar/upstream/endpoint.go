// Package upstream keeps what is known of the endpoints we call: their state
// (in-flight, health), the connections pooled to them, and the choice among
// them. A Service is the handle that routes hold; its endpoint set is swapped
// by discovery without touching anything else. The package must not know of
// listeners, routes or clients.
package upstream

import (
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
)

// Endpoint is the state of one endpoint. It is keyed by the endpoint's id and
// address and outlives both endpoint sets and configuration snapshots; it is
// shared by all loops, so its changing fields are atomics.
type Endpoint struct {
	ID      string
	Address string
	Addr    netip.AddrPort // zero where Address is not an IP and port
	Path    string         // of a Unix socket; empty where Address is none

	inflight atomic.Int64
	down     atomic.Bool  // by the active check
	failures atomic.Int32 // connection failures in a row
	failing  atomic.Int64 // Nanos of the first of them
	why      atomic.Int32 // policy.Reason of the last of them
	suspect  atomic.Int64 // Nanos until which it is passed over
}

// reserve counts one more in flight, unless that would be more than limit; 0: none.
func (e *Endpoint) reserve(limit int64) bool {
	if limit <= 0 {
		e.inflight.Add(1)
		return true
	}
	for {
		n := e.inflight.Load()
		if n >= limit {
			return false
		}
		if e.inflight.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// Key is under which discovery knows the endpoint.
func (e *Endpoint) Key() discovery.EndpointKey {
	return discovery.EndpointKey{ID: e.ID, Address: e.Address}
}

// Inflight is the number of exchanges (or tunnels) under way.
func (e *Endpoint) Inflight() int64 { return e.inflight.Load() }

// SetDown is called by the active health check.
func (e *Endpoint) SetDown(down bool) { e.down.Store(down) }

// Down reports the active check's verdict.
func (e *Endpoint) Down() bool { return e.down.Load() }

// Suspect reports whether connection failures keep e out at the moment now.
func (e *Endpoint) Suspect(now int64) bool { return e.suspect.Load() > now }

const (
	suspectFirst = time.Second
	suspectMost  = 30 * time.Second
)

// connectFailed passes the endpoint over for a while that doubles with each
// failure in a row. Those while it is passed over already were under way together,
// or had nowhere else to go: they count once.
func (e *Endpoint) connectFailed(now int64, why policy.Reason) {
	if e.Suspect(now) {
		return
	}
	n := e.failures.Add(1)
	if n == 1 {
		e.failing.Store(now)
	}
	e.why.Store(int32(why))
	pause := suspectMost
	if n < 6 {
		pause = min(suspectMost, suspectFirst<<(n-1))
	}
	e.suspect.Store(now + int64(pause))
}

func (e *Endpoint) connected() {
	if e.failures.Load() != 0 {
		e.failures.Store(0)
		e.suspect.Store(0)
	}
}

// Suspicion is what connection failures say of an endpoint; the zero value: nothing.
type Suspicion struct {
	// Failures in a row. Those of connections that were under way together, or while
	// the endpoint was passed over, count once.
	Failures     int
	Since, Until int64 // Nanos: of the first, and until which it is passed over
	Reason       policy.Reason
}

// Suspicion returns what is held against e, past Until as well as long as no
// connection has succeeded.
func (e *Endpoint) Suspicion() Suspicion {
	n := int(e.failures.Load())
	if n == 0 {
		return Suspicion{}
	}
	return Suspicion{Failures: n, Since: e.failing.Load(), Until: e.suspect.Load(), Reason: policy.Reason(e.why.Load())}
}

// Member is an endpoint as it stands in one set.
type Member struct {
	*Endpoint
	Weight int
	// Identity or IdentityPath (inside our own trust domain) is the SPIFFE ID that
	// discovery says the endpoint has; both empty: unknown.
	Identity     spiffeid.ID
	IdentityPath string
	Source       string
	// Status is what the source knows of its health; empty: nothing.
	Status     string
	Node, Zone string
	Meta       map[string]string
	Tags       []string
}

// EndpointSet is the immutable set of a service at one moment.
type EndpointSet struct {
	Members []Member
	Weights []int // of Members, for the pickers
	Index   uint64
	At      time.Time
}

// Without lists the addresses of was that s has no endpoint at any more.
func (s *EndpointSet) Without(was *EndpointSet) (gone []string) {
	stays := make(map[string]bool, len(s.Members))
	for i := range s.Members {
		stays[s.Members[i].Address] = true
	}
	for i := range was.Members {
		if a := was.Members[i].Address; !stays[a] {
			stays[a] = true
			gone = append(gone, a)
		}
	}
	return gone
}
