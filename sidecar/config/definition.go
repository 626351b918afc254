package config

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Definition is a sidecar proxy as somebody registered it in Consul.
type Definition struct {
	ID      string // of the proxy
	Service string // that it stands for
	// Address and Port are where others reach it; a port of 0 means not at all.
	Address string
	Port    int
	// LocalAddress and LocalPort are those of the application, LocalSocket is instead.
	LocalAddress string
	LocalPort    int
	LocalSocket  string
	// Mode is "" or "direct", else something that needs more than listeners.
	Mode string
	// Exposed is the number of paths to be served without TLS.
	Exposed int
	// Protocol is what Consul's other configuration says of Service; Config goes before.
	Protocol  string
	Config    map[string]any
	Upstreams []DefinedUpstream
}

// InjectedBy is the setting of a definition that tells who has put it there, which concerns
// `larboard inject` alone.
const InjectedBy = "injected_by"

// DefinedUpstream is one upstream of a Definition.
type DefinedUpstream struct {
	Type                                         string // "" or "service", else no service
	Name, Namespace, Partition, Peer, Datacenter string
	// Address and Port, or Socket, are where the application calls it.
	Address string
	Port    int
	Socket  string
	// SocketMode is that of Socket's file, octal.
	SocketMode string
	Protocol   string // as that of Definition
	Config     map[string]any
}

// AddTo adds to c, which a file may have begun, what the definition says: the
// workload, its identity and its upstreams. ignored names what has no effect here.
// Problems are with the definition, or with what c says of the same.
func (d *Definition) AddTo(c *Config) (ignored []string, problems Problems) {
	b := definitionReader{definition: d, config: c, taken: map[string]bool{InboundListener: true, LocalService: true}}
	for _, name := range [...]string{"workload", "workloads", "upstreams"} {
		if c.source.has(name) {
			b.problems = append(b.problems, c.ProblemAt(name, "comes from the definition in Consul: leave it out"))
		}
	}
	b.whole()
	b.workload()
	for i := range d.Upstreams {
		b.upstream(i, &d.Upstreams[i])
	}
	if c.Identity == nil && len(c.Identities) == 0 {
		c.Identity = &Identity{Consul: &ConsulIdentity{Service: d.Service}}
	}
	return b.ignored, b.problems
}

// definitionReader turns one definition into parts of a configuration.
type definitionReader struct {
	definition *Definition
	config     *Config
	taken      map[string]bool // names of services
	ignored    []string
	problems   Problems
}

func (b *definitionReader) report(path, format string, args ...any) {
	b.problems = append(b.problems, Problem{
		File: fmt.Sprintf("definition of %q in Consul", b.definition.ID), Path: path, Message: fmt.Sprintf(format, args...),
	})
}

func (b *definitionReader) whole() {
	d := b.definition
	if d.Service == "" {
		b.report("Proxy.DestinationServiceName", "is missing: this is no sidecar of a service")
	}
	if d.Mode != "" && d.Mode != "direct" {
		b.report("Proxy.Mode", "%q is not supported: give each upstream a LocalBindPort", d.Mode)
	}
	if d.Exposed > 0 {
		b.ignored = append(b.ignored, "Proxy.Expose")
	}
}

func (b *definitionReader) workload() {
	d := b.definition
	values := b.values("Proxy.Config", d.Config)
	address := cmp.Or(values.text("bind_address"), d.Address, "0.0.0.0")
	port := cmp.Or(values.number("bind_port", 65535), d.Port)
	w := &Workload{Service: d.Service, Intentions: true, Timeouts: inheritedTimeouts()}
	w.Protocol, w.HTTP = b.protocol(values, d.Protocol)
	w.HTTP = cmp.Or(w.HTTP, HTTPAuto)
	values.duration("local_connect_timeout_ms", &w.Timeouts.Connect)
	values.duration("local_request_timeout_ms", &w.Timeouts.Request)
	values.duration("local_idle_timeout_ms", &w.Timeouts.Tunnel)
	if !b.config.source.has("timeouts.request_head") {
		values.duration("handshake_timeout_ms", &b.config.Timeouts.RequestHead)
	}
	values.take(InjectedBy)
	values.rest()
	if port == 0 {
		return // outbound only
	}
	w.Listen = b.address("Address", address, port)
	switch {
	case d.LocalSocket != "":
		w.Address = "unix://" + d.LocalSocket
	case d.LocalPort == 0:
		b.report("Proxy.LocalServicePort", "is missing, and service %q has no port either", d.Service)
	default:
		w.Address = b.address("Proxy.LocalServiceAddress", cmp.Or(d.LocalAddress, "127.0.0.1"), d.LocalPort)
	}
	w.Register = &Register{}
	w.Register.setDefaults()
	w.Register.Adopt = d.ID
	b.config.Workload = w
}

func (b *definitionReader) upstream(i int, u *DefinedUpstream) {
	path := fmt.Sprintf("Proxy.Upstreams[%d]", i)
	values := b.values(path+".Config", u.Config)
	up := Upstream{Service: b.name(u), Timeouts: inheritedTimeouts()}
	up.Protocol, up.HTTP = b.protocol(values, u.Protocol)
	values.duration("connect_timeout_ms", &up.Timeouts.Connect)
	values.rest()
	switch {
	case u.Type != "" && u.Type != "service":
		b.report(path+".DestinationType", "%q is not supported: only services are", u.Type)
	case u.Peer != "":
		b.report(path+".DestinationPeer", "%q: services of other clusters are not supported", u.Peer)
	case u.Socket != "":
		up.Bind, up.SocketMode = "unix://"+u.Socket, SocketMode(u.SocketMode)
	case u.Port == 0:
		b.report(path+".LocalBindPort", "is missing: nothing says where %q is called", u.Name)
	default:
		up.Bind = b.address(path+".LocalBindAddress", cmp.Or(u.Address, "127.0.0.1"), u.Port)
	}
	up.Discovery = Discovery{{Consul: &ConsulDiscovery{
		Service: u.Name, Datacenter: u.Datacenter, Namespace: u.Namespace, Partition: u.Partition,
		Connect: true, PassingOnly: true, OnEmpty: ConfirmEmpty,
	}}}
	b.config.Upstreams = append(b.config.Upstreams, up)
}

// name is what an upstream is called here: the service, with more where there are two.
func (b *definitionReader) name(u *DefinedUpstream) string {
	name := u.Name
	for _, more := range [...]string{u.Datacenter, u.Namespace, strconv.Itoa(u.Port), u.Address} {
		if !b.taken[name] {
			break
		}
		if more != "" {
			name += "." + strings.ReplaceAll(more, ":", "-")
		}
	}
	b.taken[name] = true
	return name
}

func (b *definitionReader) address(path, host string, port int) string {
	ip, err := netip.ParseAddr(strings.Trim(host, "[]"))
	if err != nil {
		b.report(path, "%q is not an IP address", host)
		return ""
	}
	if port < 1 || port > 65535 {
		b.report(path, "port %d is not between 1 and 65535", port)
		return ""
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(port))
}

// protocol is what goes through: requests where Consul says so, else bytes.
func (b *definitionReader) protocol(values *definedValues, otherwise string) (Protocol, HTTPVersion) {
	switch text := cmp.Or(values.text("protocol"), otherwise, "tcp"); strings.ToLower(text) {
	case "http", "http1", "http1.1":
		return HTTP, ""
	case "http2", "grpc":
		return HTTP, HTTP2
	case "tcp":
		return TCP, ""
	default:
		b.report(values.path+".protocol", "%q is none of http, http2, grpc and tcp", text)
		return TCP, ""
	}
}

func (b *definitionReader) values(path string, all map[string]any) *definedValues {
	return &definedValues{reader: b, path: path, left: maps.Clone(all)}
}

// definedValues are the free settings of a definition. Consul takes numbers written as
// texts for numbers.
type definedValues struct {
	reader *definitionReader
	path   string
	left   map[string]any // not asked for yet
}

func (v *definedValues) take(key string) any {
	value := v.left[key]
	delete(v.left, key)
	return value
}

func (v *definedValues) text(key string) string {
	switch value := v.take(key).(type) {
	case nil:
		return ""
	case string:
		return value
	default:
		v.reader.report(v.path+"."+key, "must be a text, not %v", value)
		return ""
	}
}

// number returns a whole number up to most, and 0 where there is none.
func (v *definedValues) number(key string, most float64) int {
	value := v.take(key)
	var n float64
	var err error
	switch value := value.(type) {
	case nil:
		return 0
	case float64:
		n = value
	case int:
		n = float64(value)
	case string:
		n, err = strconv.ParseFloat(value, 64)
	default:
		err = strconv.ErrSyntax
	}
	if err != nil || n < 0 || n > most || n != float64(int(n)) {
		v.reader.report(v.path+"."+key, "must be a whole number up to %.0f, not %v", most, value)
		return 0
	}
	return int(n)
}

// duration sets d to a number of milliseconds, where there is one.
func (v *definedValues) duration(key string, d *Duration) {
	if n := v.number(key, float64(24*time.Hour/time.Millisecond)); n > 0 {
		*d = Duration(n) * Duration(time.Millisecond)
	}
}

// rest notes what nobody asked for.
func (v *definedValues) rest() {
	for _, key := range slices.Sorted(maps.Keys(v.left)) {
		v.reader.ignored = append(v.reader.ignored, v.path+"."+key)
	}
}

func inheritedTimeouts() *ServiceTimeouts {
	t := &ServiceTimeouts{}
	t.setDefaults()
	return t
}
