package config

// Discovery lists the sources of a service's endpoints, in the order of their
// precedence; a lone mapping in the file is a list of one.
type Discovery []DiscoverySource

// DiscoverySource is one source; exactly one field is set.
type DiscoverySource struct {
	Consul *ConsulDiscovery `yaml:"consul"`
	DNS    *DNSDiscovery    `yaml:"dns"`
	File   *FileDiscovery   `yaml:"file"`
}

// FirstConsul is the first source that asks Consul, or nil.
func (d Discovery) FirstConsul() *ConsulDiscovery {
	for i := range d {
		if d[i].Consul != nil {
			return d[i].Consul
		}
	}
	return nil
}

// ConsulDiscovery is a query for the healthy instances of a service.
type ConsulDiscovery struct {
	Service string `yaml:"service"`
	// Tags must all be present on an instance.
	Tags       []string `yaml:"tags"`
	Datacenter string   `yaml:"datacenter"` // empty: that of Consul.Datacenter
	Namespace  string   `yaml:"namespace"`  // empty: that of Consul.Namespace
	Partition  string   `yaml:"partition"`  // empty: that of Consul.Partition
	Filter     string   `yaml:"filter"`     // Consul's filter expression
	// Connect asks for the instances' mesh proxies instead of the instances.
	Connect bool `yaml:"connect"`
	// PassingOnly leaves out instances with a warning, too; failing ones are never
	// taken.
	PassingOnly bool `yaml:"passing_only"`
	// OnEmpty says what an answer without a single endpoint is worth.
	OnEmpty OnEmpty `yaml:"on_empty"`
}

// DNSDiscovery is a name whose records are the endpoints. A lone string in the file
// is Name.
type DNSDiscovery struct {
	Name string `yaml:"name"` // complete: no search domain is added
	// Type is DNSA, DNSAAAA or DNSSRV.
	Type string `yaml:"type"`
	// Port of the endpoints; SRV records bring their own.
	Port int `yaml:"port"`
	// Resolvers are IP or IP:port, asked in this order; empty: those of
	// /etc/resolv.conf.
	Resolvers []string `yaml:"resolvers"`
	// MinTTL and MaxTTL bound how long an answer counts, whatever its records say.
	MinTTL  Duration `yaml:"min_ttl"`
	MaxTTL  Duration `yaml:"max_ttl"`
	OnEmpty OnEmpty  `yaml:"on_empty"`
}

// The values of DNSDiscovery.Type.
const (
	DNSA    = "a"
	DNSAAAA = "aaaa"
	DNSSRV  = "srv"
)

// FileDiscovery is a file that lists endpoints. A lone string in the file is Path.
type FileDiscovery struct {
	Path string `yaml:"path" is:"path"`
}

// OnEmpty guards against losing every endpoint at once.
type OnEmpty string

// What an empty answer is worth.
const (
	ConfirmEmpty OnEmpty = "confirm" // once it has been confirmed
	KeepEmpty    OnEmpty = "keep"    // nothing: the last set that was not empty stays
	AcceptEmpty  OnEmpty = "accept"  // as much as any other
)
