package sim

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"

	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
)

// Some schedules capture: clients call services by an address that nobody has, sidecars call each
// other's mesh ports, and all of it is redirected to the sidecars' capture ports.

// capturing says whether a seed's sidecars capture; it is drawn by itself, so that schedules without
// are what they were.
func capturing(seed uint64) bool { return rand.New(rand.NewPCG(seed, 0x63617074)).IntN(3) == 0 }

const (
	captureOut, captureIn = 15001, 15006
	virtual               = "240.0.0.1" // of every service; the port tells which
)

// entrance is where n's programs call what its sidecar has behind a port.
func (n *node) entrance(port int) netip.AddrPort {
	address := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if n.mesh.plan.captures {
		n.mesh.count("clients", "captured")
		address = netip.MustParseAddr(virtual)
	}
	return netip.AddrPortFrom(address, uint16(port))
}

// capture is the section of n's configuration.
func (n *node) capture() string {
	if !n.mesh.plan.captures {
		return ""
	}
	return fmt.Sprintf("capture: {outbound: {address: \"127.0.0.1:%d\", unknown: refuse}, inbound: {address: \"%s:%d\", unknown: refuse}}\n",
		captureOut, n.ip, captureIn)
}

// place is where the listener of a port is, in n's configuration.
func (n *node) place(port int) string {
	if n.mesh.plan.captures {
		return fmt.Sprintf("captures: \"%s:%d\"", virtual, port)
	}
	return fmt.Sprintf("address: \"127.0.0.1:%d\"", port)
}

// redirect sets up the rules of n's host.
func (n *node) redirect() {
	if !n.mesh.plan.captures {
		return
	}
	n.host.RedirectOut(func(to netip.AddrPort) netip.AddrPort {
		if to.Addr().IsLoopback() {
			return netip.AddrPort{}
		}
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), captureOut)
	})
	n.host.RedirectIn(func(to netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(to.Addr(), captureIn) })
}

// tellCaptures tells the proxy whom captured connections are for, as package sidecar does it.
func (s *sidecar) tellCaptures(c *config.Config) {
	if !s.node.mesh.plan.captures {
		return
	}
	table := proxy.Captures{Local: []netip.Addr{netip.MustParseAddr(s.node.ip)}}
	for _, l := range c.Listeners {
		for _, text := range l.Captures {
			at := netip.MustParseAddrPort(strings.TrimSpace(text))
			table.Outbound = append(table.Outbound, proxy.CapturedAddress{
				Prefix: netip.PrefixFrom(at.Addr(), at.Addr().BitLen()), Port: at.Port(), Listener: l.Name})
		}
	}
	s.proxy.Capture(table)
}
