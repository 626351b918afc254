package engine

import (
	"net"
	"net/netip"
	"strconv"
)

// zoneID is the number of an IPv6 zone, which is how a Conn keeps it; 0 for none.
func zoneID(zone string) uint32 {
	if zone == "" {
		return 0
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n)
	}
	if ifi, err := net.InterfaceByName(zone); err == nil {
		return uint32(ifi.Index)
	}
	return 0
}

func withZone(a netip.Addr, zone uint32) netip.Addr {
	if zone == 0 || a.Is4() {
		return a
	}
	return a.WithZone(strconv.FormatUint(uint64(zone), 10))
}
