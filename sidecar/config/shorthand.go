package config

// Workload is the sidecar shorthand for the inbound side: a mutual TLS listener
// in front of one local application.
type Workload struct {
	// Service is the name under which others know the workload.
	Service  string      `yaml:"service"`
	Address  string      `yaml:"address"` // IP:port of the application
	Listen   string      `yaml:"listen"`  // IP:port of the mesh listener
	Protocol Protocol    `yaml:"protocol"`
	Allow    []IDPattern `yaml:"allow"`  // as Listener.Allow
	Health   *Health     `yaml:"health"` // of the application
}

// Upstream is the sidecar shorthand for the outbound side: a local plain listener
// whose traffic goes to a service over mutual TLS. Where Services holds one of
// that name, that one is used as it stands; otherwise the rest of the fields say
// what it is.
type Upstream struct {
	Service  string   `yaml:"service"`
	Bind     string   `yaml:"bind"` // IP:port
	Protocol Protocol `yaml:"protocol"`
	Balance  Balance  `yaml:"balance"`
	// Discovery and Endpoints exclude each other; with neither, the mesh proxies
	// that Consul knows for the service.
	Discovery *Discovery `yaml:"discovery"`
	Endpoints []Endpoint `yaml:"endpoints"`
	// IDs are the SPIFFE IDs to accept; empty: those that discovery tells.
	IDs []IDPattern `yaml:"ids"`
}
