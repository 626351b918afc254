package proxy

import (
	"crypto/tls"
	"io/fs"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/policy/route"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Protocol of a listener.
type Protocol uint8

// The protocols.
const (
	HTTP Protocol = iota
	TCP
	Auto // what is HTTP by its first bytes, and the rest as TCP
)

func (p Protocol) String() string { return [...]string{"http", "tcp", "auto"}[p] }

// Snapshot is everything that a configuration asks of the data plane. It is
// immutable; Proxy.Apply swaps it in.
type Snapshot struct {
	Listeners []*ListenerConfig
	Services  []*upstream.Service
	// MaxConnections bounds the connections of all listeners together; 0: no limit.
	MaxConnections int64
	// Generation counts the applied configurations.
	Generation uint64
}

// ListenerConfig is one listener of a snapshot. An exchange loads it once and
// keeps it to its end.
type ListenerConfig struct {
	Name      string
	Addresses []string // host:port or unix:///path
	Bind      Bind
	Protocol  Protocol
	Inbound   bool // to our workload, or from the outside
	Detect    Detect
	Proxied   Proxied
	// Capture is set where the connections are those that the kernel has redirected to us, for
	// other listeners; nil elsewhere.
	Capture *Capture
	// TLS is asked at each handshake; nil: plain text.
	TLS func() (TLSMaterial, error)
	// Allow decides who may call; nil: nobody is asked.
	Allow Authorizer
	// Table and Routes are the routes of requests, by index; none with TCP.
	Table  *route.Table
	Routes []*Route
	// Service takes the connections that carry no requests; none with HTTP.
	Service *upstream.Service

	// HideReason keeps the reasons of the proxy's answers from the clients; its routes have the
	// step of that name.
	HideReason bool

	// MaxConnections bounds the listener's own; 0: no limit.
	MaxConnections int64
	// ConnectionRate bounds how fast connections are taken, ByAll or BySource; nil: no bound.
	ConnectionRate *RateLimit

	// Tracing is nil where traces are not taken part in.
	Tracing *Tracing

	Timeouts Timeouts
	HTTP     http1.ServerOptions
	// HTTP2 is nil where only HTTP/1 is spoken.
	HTTP2 *http2.Options
}

// Detect is how Auto finds out what a client speaks.
type Detect struct {
	// ServerFirst: a client that is silent for Within is connected to the service, whose
	// endpoint may be the one who speaks first.
	ServerFirst bool
	Within      time.Duration
}

// Proxied are the clients whose connections begin with the header of the PROXY protocol.
type Proxied struct {
	From []netip.Prefix
	Unix bool // those that come over Unix sockets
}

// Bind is how addresses are taken. Of a socket that is there already a change has an effect
// on its mode only.
type Bind struct {
	FreeBind   bool        // also those that this host does not hold
	V6Only     bool        // [::] without IPv4
	SocketMode fs.FileMode // of Unix sockets; 0: as the umask has it
}

// Authorizer decides at each exchange, on its loop, and for each live connection when
// Proxy.Reauthorize is called; it must not block. Its verdicts may change with time:
// whoever makes them change calls Reauthorize afterwards. What it does not know it
// denies.
type Authorizer interface {
	Allow(spiffeid.ID) authz.Verdict
}

// TLSMaterial is what one handshake uses.
type TLSMaterial struct {
	Config *tls.Config
	// Identity is set in a mesh: the peer proves a SPIFFE ID, and the connection
	// ends before a certificate of either side does.
	Identity *identity.Snapshot
	// Slow: it may sign with RSA.
	Slow bool
}

// Timeouts towards the client; zero: no limit.
type Timeouts struct {
	RequestHead time.Duration // first byte to the end of the head; TLS handshake
	KeepAlive   time.Duration // waiting for the next request
	Body        time.Duration // silence within a body, in either direction
}

// Route is where a matching request goes.
type Route struct {
	Name    string
	Service *upstream.Service
	Steps   []Step
	// Retries replaces the service's; nil: those.
	Retries *retry.Policy
}

// Step is one feature of a route. What is not configured is not among a route's
// steps and costs nothing. Both hooks run on the exchange's task and may park.
type Step interface {
	// Request sees the request before an endpoint is chosen; an error (a
	// *policy.Error) ends the exchange with the proxy's answer.
	Request(*Exchange) error
	// Response sees the final response head before it is sent.
	Response(*Exchange) error
}

// Listener is the running form: its sockets and the configuration in force. It
// lives as long as its name, its addresses and what is spoken there stay in the
// configuration.
type Listener struct {
	proxy   *Proxy
	name    string
	conf    atomic.Pointer[ListenerConfig]
	sockets []*socket
	room    *room // of all listeners that have had the name
	closed  atomic.Bool
}

// Addresses returns the bound addresses, port 0 resolved.
func (l *Listener) Addresses() []string {
	var all []string
	for _, s := range l.sockets {
		all = append(all, s.bound.Address())
	}
	return all
}

// Config returns the configuration in force.
func (l *Listener) Config() *ListenerConfig { return l.conf.Load() }

// becomes reports whether l can go on under c. Connections that live would not
// understand another protocol, or go on unasked where TLS is asked for now.
func (l *Listener) becomes(c *ListenerConfig) bool {
	was := l.conf.Load()
	return slices.Equal(was.Addresses, c.Addresses) && was.Protocol == c.Protocol && was.Inbound == c.Inbound &&
		(was.TLS == nil) == (c.TLS == nil) && (was.Allow == nil) == (c.Allow == nil)
}

// heir says who takes l's place, nil: nobody. Whoever may no longer call there may
// not on l's living connections either, for the one exchange that is left to them.
func (l *Listener) heir(now *Listener) {
	was := l.conf.Load()
	if now == nil || was.Allow == nil || now.conf.Load().Allow == nil {
		return
	}
	c := *was
	c.Allow = now.conf.Load().Allow
	l.conf.Store(&c)
}

// close stops accepting where no other listener has taken over; connections that
// live carry one more exchange at most.
func (l *Listener) close() {
	l.closed.Store(true)
	for _, s := range l.sockets {
		if s.owner.Load() == l {
			s.bound.Close()
		}
	}
}
