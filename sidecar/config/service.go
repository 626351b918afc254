package config

// Service is a named set of endpoints and how they are used. At least one of
// Endpoints and Discovery is set; of an address that several name, Endpoints counts,
// else the first of Discovery.
type Service struct {
	Name      string     `yaml:"name"`
	Endpoints []Endpoint `yaml:"endpoints"`
	Discovery Discovery  `yaml:"discovery"`
	Balance   Balance    `yaml:"balance"`
	// Health is nil without active checks.
	Health *Health `yaml:"health"`
	// TLS is nil for plain text.
	TLS *ServiceTLS `yaml:"tls"`
	// Protocol is the version of HTTP that is spoken to the endpoints.
	Protocol HTTPVersion   `yaml:"protocol"`
	HTTP2    HTTP2Settings `yaml:"http2"`
	// MaxConnections bounds the connections in use to each endpoint; 0: no limit.
	MaxConnections int `yaml:"max_connections"`
	// Limits bound the requests to the service, from whatever listener.
	Limits   []RateLimit `yaml:"limits"`
	Breaker  *Breaker    `yaml:"breaker"`  // nil: none
	Ejection *Ejection   `yaml:"ejection"` // nil: none
	// SendProxy begins each connection to an endpoint with the header of the PROXY protocol.
	SendProxy ProxyVersion    `yaml:"send_proxy"`
	Retries   Retries         `yaml:"retries"`
	Timeouts  ServiceTimeouts `yaml:"timeouts"`
}

// Endpoint is one address written in the file; a lone string is its Address.
type Endpoint struct {
	Address string `yaml:"address"` // IP:port
	// Weight is 1 by default; 0 takes no new traffic.
	Weight int `yaml:"weight"`
	// ID is stable over changes of the address; empty: the address is the id.
	ID string `yaml:"id"`
	// SPIFFEID is whom to expect there; empty: ServiceTLS decides.
	SPIFFEID string `yaml:"spiffe_id"`
}

// Balance is the way an endpoint is chosen.
type Balance string

// The balances of this version.
const (
	RoundRobin Balance = "round_robin" // smooth, weighted
	Random     Balance = "random"      // weighted
	P2C        Balance = "p2c"         // the less loaded of two random ones
)

// ProxyVersion is a version of the PROXY protocol; empty: none.
type ProxyVersion string

// The versions.
const (
	ProxyV1 ProxyVersion = "v1"
	ProxyV2 ProxyVersion = "v2"
)

// Health is an active check; exactly one of TCP, HTTP and GRPC is set.
type Health struct {
	TCP      *TCPCheck  `yaml:"tcp"`
	HTTP     *HTTPCheck `yaml:"http"`
	GRPC     *GRPCCheck `yaml:"grpc"`
	Interval Duration   `yaml:"interval"`
	Timeout  Duration   `yaml:"timeout"` // at most Interval
	Rise     int        `yaml:"rise"`    // successes that bring an endpoint up
	Fall     int        `yaml:"fall"`    // failures that bring it down
	// Jitter is the share of Interval by which each wait varies, 0 to 1.
	Jitter float64 `yaml:"jitter"`
}

// TCPCheck succeeds when a connection is accepted.
type TCPCheck struct{}

// HTTPCheck succeeds when the answer has one of the expected statuses.
type HTTPCheck struct {
	Method       string       `yaml:"method"`
	Path         string       `yaml:"path"`
	Host         string       `yaml:"host"` // empty: the endpoint's address
	ExpectStatus StatusRanges `yaml:"expect_status"`
}

// GRPCCheck succeeds when the endpoint's gRPC health service says SERVING.
type GRPCCheck struct {
	Service string `yaml:"service"` // that is asked about; empty: the server as a whole
}

// StatusRanges is a set of statuses: `200`, `200-299`, or a list of those.
type StatusRanges []StatusRange

// StatusRange holds both its ends.
type StatusRange struct{ From, To int }

// Contains reports whether status is in one of the ranges.
func (r StatusRanges) Contains(status int) bool {
	for _, one := range r {
		if one.From <= status && status <= one.To {
			return true
		}
	}
	return false
}

// ServiceTLS is how connections to the endpoints are protected.
type ServiceTLS struct {
	SPIFFE *ServiceSPIFFE `yaml:"spiffe"`
}

// ServiceSPIFFE asks for mutual TLS with the proxy's own identity. An endpoint is
// accepted when its ID is Endpoint.SPIFFEID or, where that is empty, one of IDs,
// or a member of TrustDomains; with neither, only the ID that discovery tells for
// the endpoint, or else that of the service in our own trust domain by Consul's
// convention, is accepted.
type ServiceSPIFFE struct {
	// Identity is the one of Config.Identities as which we call; empty: the only one
	// there is.
	Identity string `yaml:"identity"`
	// Service is whose ID Consul's convention gives, where it comes to that; empty: the
	// service that discovery asks for, or else this one.
	Service      string      `yaml:"service"`
	IDs          []IDPattern `yaml:"ids"`
	TrustDomains []string    `yaml:"trust_domains"`
}

// ServiceTimeouts are those of Timeouts that concern the upstream side. After
// Load they are in force as they stand: what the file left out is inherited.
type ServiceTimeouts struct {
	Connect      Duration `yaml:"connect"`
	ResponseHead Duration `yaml:"response_head"`
	Request      Duration `yaml:"request"`
	Body         Duration `yaml:"body"`
	// Idle is how long a pooled connection may wait; it is given up a tenth sooner.
	Idle   Duration `yaml:"idle"`
	Tunnel Duration `yaml:"tunnel"`
}
