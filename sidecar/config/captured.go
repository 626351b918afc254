package config

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Interception says where connections come in that the kernel has redirected to us (`larboard
// capture` sets up its rules), and what becomes of those that are for nobody we know.
type Interception struct {
	// Outbound takes what the workload calls; nil: nothing of it is captured.
	Outbound *InterceptOutbound `yaml:"outbound"`
	// Inbound takes what calls the workload; nil: nothing of it is captured.
	Inbound *InterceptInbound `yaml:"inbound"`
}

// InterceptOutbound is where the workload's own connections come in.
type InterceptOutbound struct {
	Address Addresses `yaml:"address"` // IP:port
	// Unknown is what becomes of connections to addresses that no listener captures.
	Unknown Unknown `yaml:"unknown"`
}

// InterceptInbound is where connections to the workload come in.
type InterceptInbound struct {
	Address Addresses `yaml:"address"` // IP:port
	// Plain is what becomes of plain text for a port that a mesh listener stands for.
	Plain Unknown `yaml:"plain"`
	// Unknown is what becomes of connections to other ports.
	Unknown Unknown `yaml:"unknown"`
}

// Unknown is what becomes of a captured connection that no listener is there for.
type Unknown string

// What becomes of them.
const (
	// PassUnknown carries them on to where they were going, as they are.
	PassUnknown Unknown = "pass"
	// RefuseUnknown resets them.
	RefuseUnknown Unknown = "refuse"
)

// The names of what is made of Config.Capture: its listeners, the service that what passes is
// counted for, and what the name of an inbound listener ends in where it is given plain text.
const (
	CapturedOutbound = "captured-outbound"
	CapturedInbound  = "captured-inbound"
	Passthrough      = "passthrough"
	PlainSuffix      = "-plain" // as proxy.PlainSuffix
)

// ConsulCaptures among the captures of a listener stands for the addresses that Consul knows of
// the service.
const ConsulCaptures = "@consul"

// Captures are the addresses whose captured connections a listener takes; a lone one in the file
// will do. See ParseCaptured.
type Captures []string

// decodeNode takes a lone value as a list of one.
func (a *Captures) decodeNode(d *decoder, n *yaml.Node, path string) {
	*a = d.loneOrList(n, path)
}

// Captured is one of Captures, parsed. Exactly one of Prefix (valid), Name, Any and Consul is set.
type Captured struct {
	Prefix netip.Prefix
	Name   string // to be resolved
	Any    bool   // every address
	Consul bool   // what Consul knows
	Port   uint16 // 0: any port
}

// ParseCaptured reads IP[:PORT], CIDR[:PORT] (those of IPv6 in brackets where a port follows),
// NAME[:PORT], *:PORT and @consul.
func ParseCaptured(text string) (Captured, error) {
	if text == ConsulCaptures {
		return Captured{Consul: true}, nil
	}
	if strings.HasPrefix(text, "@") {
		return Captured{}, fmt.Errorf("%q: %s is the only word", text, ConsulCaptures)
	}
	host, port, err := splitCaptured(text)
	c := Captured{Port: port}
	switch {
	case err != nil:
		return Captured{}, err
	case host == "*" && port == 0:
		return Captured{}, fmt.Errorf("%q needs a port: everything else is what unknown is for", text)
	case host == "*":
		c.Any = true
	case strings.Contains(host, "/"):
		block, err := netip.ParsePrefix(host)
		if err != nil || block.Addr().Is4In6() {
			return Captured{}, fmt.Errorf("%q is not a block like 240.0.0.0/24", host)
		}
		if block != block.Masked() {
			return Captured{}, fmt.Errorf("%q has bits beyond its length; write %s", host, block.Masked())
		}
		c.Prefix = block
	default:
		return c.named(host)
	}
	return c, nil
}

func (c Captured) named(host string) (Captured, error) {
	ip, err := netip.ParseAddr(host)
	switch {
	case err == nil && (ip.Zone() != "" || ip.Is4In6() || ip.IsUnspecified()):
		return Captured{}, fmt.Errorf("%q is not an address that can be called by", host)
	case err == nil:
		c.Prefix = netip.PrefixFrom(ip, ip.BitLen())
	case !validHost(strings.TrimSuffix(host, ".")) || lastLabelIsNumber(host):
		return Captured{}, fmt.Errorf("%q is neither an IP address, nor a block like 240.0.0.0/24, nor a name", host)
	default:
		c.Name = host
	}
	return c, nil
}

// lastLabelIsNumber: no name ends so, but every misspelt IPv4 address does.
func lastLabelIsNumber(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return last != "" && strings.Trim(last, "0123456789") == ""
}

// splitCaptured takes the port off, 0 where there is none.
func splitCaptured(text string) (host string, port uint16, err error) {
	number := ""
	if inner, ok := strings.CutPrefix(text, "["); ok {
		rest := ""
		if host, rest, ok = strings.Cut(inner, "]"); !ok {
			return "", 0, fmt.Errorf("%q has no closing bracket", text)
		}
		if rest == "" {
			return host, 0, nil
		}
		if number, ok = strings.CutPrefix(rest, ":"); !ok {
			return "", 0, fmt.Errorf("%q: a port is expected behind the bracket", text)
		}
	} else if strings.Count(text, ":") != 1 {
		return text, 0, nil // a bare IPv6 address, or no port
	} else {
		host, number, _ = strings.Cut(text, ":")
	}
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q: %q is not a port, which is a number up to 65535", text, number)
	}
	if host == "" {
		return "", 0, errors.New("there is no address before the port; *:" + number + " is that port of every address")
	}
	return host, uint16(n), nil
}

// decodeNode takes true for the defaults.
func (o *InterceptOutbound) decodeNode(d *decoder, n *yaml.Node, path string) {
	o.setDefaults()
	if !d.simply(n, path) {
		d.structure(n, reflect.ValueOf(o).Elem(), path)
	}
}

// decodeNode takes true for the defaults.
func (i *InterceptInbound) decodeNode(d *decoder, n *yaml.Node, path string) {
	i.setDefaults()
	if !d.simply(n, path) {
		d.structure(n, reflect.ValueOf(i).Elem(), path)
	}
}

// simply reports whether n is a word, which has to be true, in place of a mapping.
func (d *decoder) simply(n *yaml.Node, path string) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		return false
	}
	if n.Value != "true" {
		d.report(n, path, "is true or a mapping; leave it out where nothing is captured", "")
	}
	return true
}

func (c *Config) capturesOutbound() bool { return c.Capture.Outbound != nil }

func (c *Config) capturesInbound() bool { return c.Capture.Inbound != nil }

// foundByConsul reports whether u's service has addresses in Consul.
func (c *Config) foundByConsul(u *Upstream) bool {
	if s := c.service(u.Service); s != nil {
		return s.Discovery.FirstConsul() != nil
	}
	return len(u.Endpoints) == 0 && len(u.Discovery) == 0 || u.Discovery.FirstConsul() != nil
}

// captured is what u's listener captures.
func (c *Config) captured(u *Upstream) Captures {
	if len(u.Captures) == 0 && c.capturesOutbound() && c.foundByConsul(u) {
		return Captures{ConsulCaptures}
	}
	return u.Captures
}

// capturedFor is what w's listener captures: its port, on every address of the host.
func (c *Config) capturedFor(w *Workload) Captures {
	at, err := netip.ParseAddrPort(w.Address)
	if err != nil || !c.capturesInbound() {
		return nil
	}
	return Captures{fmt.Sprintf("*:%d", at.Port())}
}
