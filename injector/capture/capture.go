// Package capture makes the kernel's rules that redirect a workload's connections to its
// proxy: which ones is a Plan, pure and the same for nftables and iptables; applying it is one
// step of the kernel's. It must not know what the proxy does with what it is given.
package capture

import (
	"fmt"
	"net/netip"
)

// DefaultUser is the user and group id that a sidecar has.
const DefaultUser = 1337

// The ports at which a proxy takes what is redirected to it.
const (
	DefaultOutboundPort = 15001
	DefaultInboundPort  = 15006
)

// Options say what is redirected, and what is left alone. The zero value of a list is an
// empty one.
type Options struct {
	// OutboundPort gets what processes here begin, InboundPort what comes from elsewhere; 0: that
	// direction is left alone.
	OutboundPort, InboundPort uint16
	// Users and Groups, by id, are those of the proxy and of whoever else may connect past it.
	Users, Groups []uint32
	// ProxyPorts are where the proxy itself listens, beside the two above. Nothing that comes
	// for them is redirected.
	ProxyPorts []Ports
	// OnlyOutbound, OnlyOutboundTo and OnlyInbound, where they are given, are all that is redirected;
	// with ports and addresses given, what is for both.
	OnlyOutbound, OnlyInbound []Ports
	OnlyOutboundTo            []netip.Prefix
	// What is excluded passes, whatever else holds.
	ExcludeOutbound, ExcludeInbound []Ports
	ExcludeOutboundTo               []netip.Prefix
	// ExcludeInterfaces are left alone in both directions.
	ExcludeInterfaces []string
	// IPv4 and IPv6 are redirected where they are true.
	IPv4, IPv6 bool
}

// Ports is a range of TCP ports, both ends included.
type Ports struct{ From, To uint16 }

func (p Ports) String() string {
	if p.From == p.To {
		return fmt.Sprint(p.From)
	}
	return fmt.Sprintf("%d-%d", p.From, p.To)
}
