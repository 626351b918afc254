package config

// Listener is one place where connections come in.
type Listener struct {
	Name string `yaml:"name"`
	// Direction says whose traffic it is; it decides the order of a shutdown and
	// labels the metrics. Listeners of the file are inbound unless they say
	// otherwise; those of upstreams are outbound.
	Direction Direction `yaml:"direction"`
	// Address holds one or several of IP:port (port 0 lets the system choose) and
	// unix:///PATH.
	Address Addresses `yaml:"address"`
	// Captures are the addresses whose captured connections come here, too, or only, where
	// there is no Address.
	Captures Captures `yaml:"captures"`
	// FreeBind listens on IP addresses that this host does not hold yet.
	FreeBind bool `yaml:"freebind"`
	// V6Only keeps [::]:PORT from taking IPv4 connections too.
	V6Only bool `yaml:"v6only"`
	// SocketMode is the mode of the Unix sockets' files, octal; empty: as the umask of
	// the process has it.
	SocketMode SocketMode `yaml:"socket_mode"`
	Protocol   Protocol   `yaml:"protocol"`
	// Detect is how protocol auto finds out what is spoken; after Expand never nil there.
	Detect *Detect `yaml:"detect"`
	// ProxyProtocol says who sends its header; nil: nobody.
	ProxyProtocol *ProxyProtocol `yaml:"proxy_protocol"`
	// TLS is nil for plain text.
	TLS *ListenerTLS `yaml:"tls"`
	// Allow names the SPIFFE IDs that may call; only with TLS.SPIFFE. Nil: every
	// authenticated peer of our own trust domain may.
	Allow []IDPattern `yaml:"allow"`
	// Intentions has Consul's intentions decide who may call; only with TLS.SPIFFE, and
	// never together with Allow. Nil: Allow decides.
	Intentions *Intentions `yaml:"intentions"`
	// Register makes the listener known in Consul as a mesh proxy; nil: it is not.
	Register *Register `yaml:"register"`
	// Routes are tried in their order; of requests only. Set together with Service for
	// protocol auto alone.
	Routes []Route `yaml:"routes"`
	// Service takes everything, with protocol auto what Routes do not. Expand turns it into
	// a route where requests are expected and there is none, so that afterwards HTTP has
	// Routes only, TCP has Service only, and Auto has both.
	Service string `yaml:"service"`
	// AllowConnect lets CONNECT open tunnels; HTTP only.
	AllowConnect bool          `yaml:"allow_connect"`
	HTTP2        ListenerHTTP2 `yaml:"http2"`
	// ReasonHeader has the proxy's own answers tell their reason to the clients; after Load
	// nil with TCP alone.
	ReasonHeader *bool `yaml:"reason_header"`
	// TrustTraces: the contexts of traces that clients send count, or do not; nil: as
	// Tracing.Trust has it.
	TrustTraces *bool `yaml:"trust_traces"`
	// MaxConnections bounds the connections that are open at once; 0: no limit.
	MaxConnections int `yaml:"max_connections"`
	// Limits bound the requests of all routes together; not of TCP.
	Limits []RateLimit `yaml:"limits"`
	// ConnectionRate bounds how fast connections are taken; nil: no bound.
	ConnectionRate *ConnectionRate  `yaml:"connection_rate"`
	Timeouts       ListenerTimeouts `yaml:"timeouts"`
}

// Direction says on which side of the workload a listener stands.
type Direction string

// The directions.
const (
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
)

// Detect is how a listener finds out what its clients speak.
type Detect struct {
	// ServerFirst connects a client that is silent to Service, whose endpoint may be the one
	// who speaks first.
	ServerFirst bool `yaml:"server_first"`
	// Within is how long the client may take for its first byte before that is done.
	Within Duration `yaml:"within"`
}

// ProxyProtocol says which clients begin their connections with the header of the PROXY
// protocol.
type ProxyProtocol struct {
	From []Block `yaml:"from"`
}

// Addresses is a list of IP:port and unix:///PATH; in the file a lone string will do.
type Addresses []string

// ListenerTLS holds exactly one of its fields.
type ListenerTLS struct {
	// Certificates are those of a public site, chosen by server name; the first is
	// the default.
	Certificates []Certificate `yaml:"certificates"`
	// SPIFFE asks for mutual TLS with the proxy's own identity.
	SPIFFE *ListenerSPIFFE `yaml:"spiffe"`
}

// Certificate names two PEM files.
type Certificate struct {
	Cert string `yaml:"cert" is:"path"` // chain, leaf first
	Key  string `yaml:"key" is:"path"`
}

// ListenerSPIFFE says as whom we answer; who may call is Listener.Allow.
type ListenerSPIFFE struct {
	// Identity is one of Config.Identities; empty: the only one there is.
	Identity string `yaml:"identity"`
}

// Intentions are those of Consul for one destination. A lone string in the file is
// Service.
type Intentions struct {
	Service string `yaml:"service"`
}

// Route sends what Match describes to a service.
type Route struct {
	Match   Match  `yaml:"match"`
	Service string `yaml:"service"`
	// Retries replaces the service's; nil: those.
	Retries *Retries `yaml:"retries"`
	// Limits bound the route's requests.
	Limits []RateLimit `yaml:"limits"`
}

// Match is a set of conditions that must all hold; the zero value matches all.
type Match struct {
	// Host is compared without its port and without regard to case; *.example.com
	// stands for every name below.
	Host string `yaml:"host"`
	// Path is the whole path, PathPrefix its first segments; never both.
	Path       string `yaml:"path"`
	PathPrefix string `yaml:"path_prefix"`
}

// ListenerTimeouts are those of Timeouts that concern the downstream side. After
// Load they are in force as they stand: what the file left out is inherited.
type ListenerTimeouts struct {
	RequestHead Duration `yaml:"request_head"`
	Idle        Duration `yaml:"idle"`
	Body        Duration `yaml:"body"`
}
