package config

// Workload is the sidecar shorthand for the inbound side: a mutual TLS listener
// in front of one local application. One of several has a name and its own upstreams,
// which are called as its identity.
type Workload struct {
	// Name begins the names of the listeners and services made of one of several;
	// empty: Service.
	Name string `yaml:"name"`
	// Service is the name under which others know the workload.
	Service  string      `yaml:"service"`
	Address  string      `yaml:"address"` // IP:port of the application
	Listen   string      `yaml:"listen"`  // IP:port of the mesh listener
	Protocol Protocol    `yaml:"protocol"`
	HTTP     HTTPVersion `yaml:"http"`   // spoken to the application
	Detect   *Detect     `yaml:"detect"` // as Listener.Detect
	Allow    []IDPattern `yaml:"allow"`  // as Listener.Allow
	// Intentions has Consul's intentions for Service decide who may call.
	Intentions bool    `yaml:"intentions"`
	Health     *Health `yaml:"health"` // of the application
	// Register makes the workload known in Consul; nil: somebody else does.
	Register *Register `yaml:"register"`
	// ReasonHeader is as Listener.ReasonHeader.
	ReasonHeader *bool `yaml:"reason_header"`
	// Retries are those towards the application; nil: the defaults.
	Retries *Retries `yaml:"retries"`
	// ConnectionRate and Limits are as Listener's.
	ConnectionRate *ConnectionRate `yaml:"connection_rate"`
	Limits         []RateLimit     `yaml:"limits"`
	// Timeouts are those towards the application; nil: those of the file.
	Timeouts *ServiceTimeouts `yaml:"timeouts"`
	// Identity is one of Config.Identities; empty: the only one there is.
	Identity string `yaml:"identity"`
	// Upstreams are for this workload alone. That of a lone workload stand beside it.
	Upstreams []Upstream `yaml:"upstreams"`
}

// Upstream is the sidecar shorthand for the outbound side: a local plain listener
// whose traffic goes to a service over mutual TLS. Where Services holds one of
// that name, that one is used as it stands; otherwise the rest of the fields say
// what it is.
type Upstream struct {
	Service string `yaml:"service"`
	Bind    string `yaml:"bind"` // IP:port or unix:///path; may be empty where Config.Capture has Outbound
	// Captures are as Listener.Captures; empty: the addresses that Consul knows, where it is asked.
	Captures Captures `yaml:"captures"`
	// SocketMode is as Listener.SocketMode.
	SocketMode SocketMode `yaml:"socket_mode"`
	Protocol   Protocol   `yaml:"protocol"`
	// HTTP is as Service.Protocol.
	HTTP    HTTPVersion `yaml:"http"`
	Detect  *Detect     `yaml:"detect"` // as Listener.Detect
	Balance Balance     `yaml:"balance"`
	// Without Discovery and Endpoints: the mesh proxies that Consul knows for the
	// service.
	Discovery Discovery   `yaml:"discovery"`
	Endpoints []Endpoint  `yaml:"endpoints"`
	Limits    []RateLimit `yaml:"limits"`   // as Service.Limits
	Breaker   *Breaker    `yaml:"breaker"`  // as Service.Breaker
	Ejection  *Ejection   `yaml:"ejection"` // as Service.Ejection
	// IDs are the SPIFFE IDs to accept; empty: those that discovery tells.
	IDs []IDPattern `yaml:"ids"`
	// ReasonHeader is as Listener.ReasonHeader.
	ReasonHeader *bool `yaml:"reason_header"`
	// Retries are those of the service; nil: the defaults.
	Retries *Retries `yaml:"retries"`
	// Timeouts are those of the service; nil: those of the file.
	Timeouts *ServiceTimeouts `yaml:"timeouts"`
}
