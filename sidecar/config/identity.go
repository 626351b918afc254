package config

// Consul is the agent that discovery asks.
type Consul struct {
	// Address is http://host:port, https://host:port, unix:///path, or host:port.
	Address string `yaml:"address"`
	// Token and TokenFile exclude each other; the file is read again on change.
	Token      Secret `yaml:"token"`
	TokenFile  string `yaml:"token_file" is:"path"`
	Datacenter string `yaml:"datacenter"`
	Namespace  string `yaml:"namespace"`
	Partition  string `yaml:"partition"`
	// Wait is the longest that the agent holds a query for a change.
	Wait Duration   `yaml:"wait"`
	TLS  *ClientTLS `yaml:"tls"` // nil: the system's authorities, no client certificate
}

// Identity names the source of an X.509-SVID of the proxy's own; exactly one field
// is set.
type Identity struct {
	SPIFFE *SPIFFEIdentity `yaml:"spiffe"`
	Consul *ConsulIdentity `yaml:"consul"`
	Files  *FilesIdentity  `yaml:"files"`
	Dev    *DevIdentity    `yaml:"dev"`
}

// SPIFFEIdentity is the SPIFFE Workload API (SPIRE, or a development authority).
type SPIFFEIdentity struct {
	// Socket is unix:///path or tcp://IP:port; empty: SPIFFE_ENDPOINT_SOCKET.
	Socket string `yaml:"socket"`
	// ID and Hint pick one where the API offers several SVIDs: by its SPIFFE ID, or by
	// the hint that its entry carries. They exclude each other; with neither, the first.
	ID   string `yaml:"id"`
	Hint string `yaml:"hint"`
}

// ConsulIdentity is Consul's Connect: the agent of Config.Consul issues the
// certificate.
type ConsulIdentity struct {
	// Service is whom the certificate names; empty in the file: Workload.Service.
	Service string `yaml:"service"`
}

// FilesIdentity reads PEM files and watches them.
type FilesIdentity struct {
	Cert string `yaml:"cert" is:"path"` // chain, leaf first
	Key  string `yaml:"key" is:"path"`
	// Bundle holds the authorities of our own trust domain.
	Bundle string `yaml:"bundle" is:"path"`
	// Bundles holds those of other trust domains, by name.
	Bundles map[string]string `yaml:"bundles" is:"path"`
}

// DevIdentity is the development authority. It is not for production: its keys
// lie in a directory.
type DevIdentity struct {
	TrustDomain string `yaml:"trust_domain"`
	// ID is the SPIFFE ID this proxy gives itself; empty: that of the one workload that
	// uses it by Consul's convention, or else the path /larboard, with the identity's
	// name below it where it has one.
	ID string `yaml:"id"`
	// Socket, as a path, serves the Workload API to others; empty: not served.
	Socket string `yaml:"socket" is:"path"`
	// State is the directory of the authority's key, so that several processes and
	// restarts share it; empty: a new authority in memory.
	State string   `yaml:"state" is:"path"`
	TTL   Duration `yaml:"ttl"` // lifetime of the certificates it issues
}
