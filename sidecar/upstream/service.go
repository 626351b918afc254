package upstream

import (
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxyproto"
)

// Settings of a service; immutable, swapped at reload.
type Settings struct {
	Balance  string
	Timeouts Timeouts
	// Retries says which attempts are repeated; nil: none.
	Retries *retry.Policy
	Version Version
	HTTP    http1.ClientOptions
	// HTTP2 is needed where anything goes over it: Version may be anything but OnlyHTTP1.
	HTTP2 *http2.Options
	// MaxConnections bounds the connections in use to each endpoint, those being made
	// included; 0: no limit.
	MaxConnections int64
	// Breaker and Ejection are nil where there is none.
	Breaker  *breaker.Settings
	Ejection *eject.Settings
	// SendProxy begins each connection with that header of the PROXY protocol, so that it
	// belongs to one client; 0: none.
	SendProxy proxyproto.Version
	// Mesh, when set, makes every connection mutual TLS.
	Mesh *Mesh
}

// Timeouts towards the endpoints; zero: no limit.
type Timeouts struct {
	Connect      time.Duration // reaching an endpoint, its TLS handshake included
	ResponseHead time.Duration // from the request sent to the head of the answer
	Request      time.Duration // the whole exchange, all attempts
	Body         time.Duration // silence within a body
	Idle         time.Duration // of a pooled connection
	Tunnel       time.Duration // silence in both directions of a tunnel
}

// Mesh says as whom we call and whom we accept.
type Mesh struct {
	Identity *identity.Current
	// Pinned is whom the configuration expects at single endpoints.
	Pinned map[discovery.EndpointKey]spiffeid.ID
	// Peers accepts these at the others whatever discovery says; zero: the endpoint's own
	// identity, and failing that the SPIFFE ID of Path inside our trust domain.
	Peers identity.Peers
	// Path is the one that Consul's convention gives the service.
	Path string
}

// Service is the handle of one service. Routes hold it; discovery and reloads
// swap what is inside.
type Service struct {
	Name string

	// Repeats counts the service's exchanges, and bounds what is repeated of them.
	Repeats retry.Budget

	settings atomic.Pointer[Settings]
	set      atomic.Pointer[EndpointSet]
	gone     atomic.Bool // no route holds it any more

	mu    sync.Mutex // writers only
	known map[discovery.EndpointKey]*Endpoint

	outliers outliers
	events   events
}

// NewService returns a service with an empty endpoint set.
func NewService(name string, s *Settings) *Service {
	svc := &Service{Name: name, known: map[discovery.EndpointKey]*Endpoint{}}
	svc.settings.Store(s)
	svc.set.Store(&EndpointSet{})
	return svc
}

// Begin and End count an exchange that the service was chosen for, whatever becomes of
// it. Any goroutine.
func (s *Service) Begin() { s.Repeats.Begin() }

// End is the end of what Begin began, or Repeats.Enter.
func (s *Service) End() { s.Repeats.End() }

// Active is the number of exchanges between Begin and End.
func (s *Service) Active() int64 { return s.Repeats.Active() }

// Settings returns those in force.
func (s *Service) Settings() *Settings { return s.settings.Load() }

// Configure swaps the settings (reload). What is known of the endpoints stays, but for what
// breakers and ejection hold against them where there are none any more.
func (s *Service) Configure(v *Settings) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settings.Store(v)
	s.resettle(v)
}

// Set returns the endpoint set in force.
func (s *Service) Set() *EndpointSet { return s.set.Load() }

// Update swaps the endpoint set for the one of u; the state of endpoints that
// stay is kept. Called by one control goroutine at a time; u with an error
// changes nothing.
func (s *Service) Update(u discovery.Update) {
	if u.Err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	set := &EndpointSet{Index: u.Index, At: u.At}
	known := make(map[discovery.EndpointKey]*Endpoint, len(u.Endpoints))
	for _, d := range u.Endpoints {
		key := d.Key()
		if known[key] != nil {
			continue
		}
		e := s.known[key]
		if e == nil {
			e = &Endpoint{ID: d.ID, Address: d.Address}
			e.gate.OnChange = func(c breaker.Change) { s.noteBreaker(e, c) }
			e.Addr, _ = netip.ParseAddrPort(d.Address)
			if path, ok := strings.CutPrefix(d.Address, "unix://"); ok {
				e.Path = path
			}
		}
		known[key] = e
		set.Members = append(set.Members, Member{Endpoint: e, Weight: d.Weight, Identity: d.Identity,
			IdentityPath: d.IdentityPath, Source: d.Source, Status: d.Status,
			Node: d.Node, Zone: d.Zone, Meta: d.Meta, Tags: d.Tags})
		set.Weights = append(set.Weights, d.Weight)
		set.endpoints = append(set.endpoints, e)
	}
	for key, e := range s.known {
		if known[key] == nil {
			e.left.Store(true)
		}
	}
	s.known = known
	s.swap(set)
}

// Find returns the endpoint of the current set with this id and address, or nil:
// health checks report by them.
func (s *Service) Find(id, address string) *Endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.known[discovery.EndpointKey{ID: id, Address: address}]
}
