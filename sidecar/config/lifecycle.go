package config

import (
	"fmt"
	"strings"
	"time"
)

// Drain says what a stop waits for, beside Timeouts.Drain, which bounds it.
type Drain struct {
	// Outbound is until when outbound listeners serve: UntilWorkload or UntilInbound.
	Outbound string `yaml:"outbound"`
}

// The values of Drain.Outbound.
const (
	// UntilWorkload: until the workload has gone. Without one workload to look at it is
	// UntilInbound.
	UntilWorkload = "workload"
	// UntilInbound: until the inbound side has ended.
	UntilInbound = "inbound"
)

// Probes is a plain HTTP listener for those who ask whether the proxy and its workload
// are well, and cannot do so over mutual TLS: the kubelet.
type Probes struct {
	Address string  `yaml:"address"` // IP:port
	Checks  []Probe `yaml:"checks"`
}

// Probe asks the workload when Path is asked for; exactly one of HTTP, TCP and GRPC is set.
type Probe struct {
	Path    string     `yaml:"path"`
	HTTP    *HTTPProbe `yaml:"http"`
	TCP     *TCPProbe  `yaml:"tcp"`
	GRPC    *GRPCProbe `yaml:"grpc"`
	Timeout Duration   `yaml:"timeout"`
}

// HTTPProbe succeeds when the answer has a status from 200 to 399, as the kubelet's do.
type HTTPProbe struct {
	Port    *int              `yaml:"port"`
	Path    string            `yaml:"path"` // with its query
	Scheme  string            `yaml:"scheme"`
	Host    string            `yaml:"host"` // the field Host; empty: the address that was asked
	Headers map[string]string `yaml:"headers"`
}

// TCPProbe succeeds when a connection is accepted.
type TCPProbe struct {
	Port *int `yaml:"port"`
}

// GRPCProbe succeeds when gRPC's health service says SERVING.
type GRPCProbe struct {
	Port    *int   `yaml:"port"`
	Service string `yaml:"service"` // that is asked about; empty: the server as a whole
}

// The values of HTTPProbe.Scheme.
const (
	SchemeHTTP  = "http"
	SchemeHTTPS = "https"
)

// The paths that probes answer themselves.
const (
	ReadyPath = "/ready"
	LivePath  = "/live"
)

// The bounds of probes.
const (
	maxChecks       = 256
	maxCheckTimeout = Duration(10 * time.Minute)
)

func (d *Drain) setDefaults() { *d = Drain{Outbound: UntilWorkload} }

func (p *Probe) setDefaults() { p.Timeout = Duration(time.Second) }

func (p *HTTPProbe) setDefaults() { *p = HTTPProbe{Path: "/", Scheme: SchemeHTTP} }

func (v *validator) drain(d Drain) {
	v.oneOf("drain.outbound", d.Outbound, UntilWorkload, UntilInbound)
}

func (v *validator) probes(p *Probes) {
	if p == nil {
		return
	}
	if v.required("probes.address", p.Address) {
		if strings.HasPrefix(p.Address, "unix:") || strings.HasPrefix(p.Address, "/") {
			v.report("probes.address", fmt.Sprintf("%q is a Unix socket, which nobody probes; write IP:port", p.Address))
		} else {
			v.address("probes.address", p.Address, true)
		}
	}
	if len(p.Checks) > maxChecks {
		v.report("probes.checks", fmt.Sprintf("are %d, more than %d", len(p.Checks), maxChecks))
	}
	seen := map[string]string{ReadyPath: "the proxy itself", LivePath: "the proxy itself"}
	for i := range p.Checks {
		path := fmt.Sprintf("probes.checks[%d]", i)
		v.probe(path, &p.Checks[i])
		if first, twice := seen[p.Checks[i].Path]; twice {
			v.report(join(path, "path"), fmt.Sprintf("%s is already answered by %s", p.Checks[i].Path, first))
			continue
		}
		seen[p.Checks[i].Path] = path
	}
}

func (v *validator) probe(path string, c *Probe) {
	if v.required(join(path, "path"), c.Path) {
		v.urlPath(join(path, "path"), c.Path)
	}
	v.exclusive(path, "http", "tcp")
	v.exclusive(path, "http", "grpc")
	v.exclusive(path, "tcp", "grpc")
	if c.Timeout <= 0 || c.Timeout > maxCheckTimeout {
		v.report(join(path, "timeout"), fmt.Sprintf("%s is not more than zero and at most %s", c.Timeout, maxCheckTimeout))
	}
	switch {
	case c.HTTP != nil:
		v.httpProbe(join(path, "http"), c.HTTP)
	case c.TCP != nil:
		v.probePort(join(path, "tcp"), c.TCP.Port)
	case c.GRPC != nil:
		v.probePort(join(path, "grpc"), c.GRPC.Port)
		if !printable(c.GRPC.Service) {
			v.report(join(path, "grpc.service"), fmt.Sprintf("%q is no name of a gRPC service, like shop.v1.Stock", c.GRPC.Service))
		}
	default:
		v.incomplete(path, "needs http, tcp or grpc")
	}
}

func (v *validator) httpProbe(path string, p *HTTPProbe) {
	v.probePort(path, p.Port)
	target, _, _ := strings.Cut(p.Path, "?")
	v.urlPath(join(path, "path"), target)
	v.spelled(join(path, "scheme"), p.Scheme, map[string]string{}, SchemeHTTP, SchemeHTTPS)
	if p.Host != "" {
		v.hostPort(join(path, "host"), p.Host)
	}
	for name, value := range p.Headers {
		v.header(join(join(path, "headers"), shown(name)), name, Secret(value))
	}
}

func (v *validator) probePort(path string, port *int) {
	if port == nil {
		v.report(join(path, "port"), "is missing")
		return
	}
	v.between(join(path, "port"), *port, 1, 65535)
}
