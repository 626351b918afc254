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
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
)

// Endpoint is the state of one endpoint. It is keyed by the endpoint's id and
// address and outlives both endpoint sets and configuration snapshots; it is
// shared by all loops, so its changing fields are atomics.
type Endpoint struct {
	// What each pick looks at comes first, in one or two lines of a processor's cache.
	inflight  atomic.Int64
	suspect   atomic.Int64 // Nanos until which it is passed over
	down      atomic.Bool  // by the active check
	left      atomic.Bool  // its service has it no more; it does not come back as this Endpoint
	onlyHTTP1 atomic.Bool  // it chose HTTP/1 where it could have had HTTP/2
	ejection  eject.Endpoint
	gate      breaker.Gate
	streams   atomic.Int64 // of inflight, those on shared connections
	idle      atomic.Int64 // HTTP/1 connections in the pools of all loops
	muxes     atomic.Int64 // HTTP/2 connections that take new streams
	sharing   atomic.Int64 // HTTP/2 connections with a stream, those that take no new ones too
	failures  atomic.Int32 // connection failures in a row
	failing   atomic.Int64 // Nanos of the first of them
	why       atomic.Int32 // policy.Reason of the last of them

	ID      string
	Address string
	Addr    netip.AddrPort // zero where Address is not an IP and port
	Path    string         // of a Unix socket; empty where Address is none
}

// reserve counts one more in flight, unless that would be more connections in use than
// limit; 0: none. It is exact among exchanges that have a connection each; beside streams
// that begin or end at this moment on another loop it may be off by as many.
func (e *Endpoint) reserve(limit int64) bool {
	if limit <= 0 {
		e.inflight.Add(1)
		return true
	}
	for {
		n := e.inflight.Load()
		if n-e.streams.Load()+e.sharing.Load() >= limit {
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

// InUse is the number of connections that exchanges use: one for each that has its own, or
// waits for one, and the shared ones that have streams.
func (e *Endpoint) InUse() int64 {
	return max(e.inflight.Load()-e.streams.Load()+e.sharing.Load(), 0)
}

// Streams is the number of exchanges on shared connections, on all loops.
func (e *Endpoint) Streams() int64 { return e.streams.Load() }

// Idle is the number of HTTP/1 connections that wait for their next exchange, on all loops.
func (e *Endpoint) Idle() int64 { return e.idle.Load() }

// Muxes is the number of HTTP/2 connections that take new streams, on all loops.
func (e *Endpoint) Muxes() int64 { return e.muxes.Load() }

// Left reports that discovery has removed e from its service. Exchanges may still be under
// way with it.
func (e *Endpoint) Left() bool { return e.left.Load() }

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
	// endpoints are those of Members, close together for picks that look at many.
	endpoints []*Endpoint
	Index     uint64
	At        time.Time
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
