package consul

import (
	"net/netip"

	"github.com/hashicorp/consul/api"
)

// The keys of a service's tagged addresses that hold virtual ones: Consul's own, which
// SERVICE.virtual.consul resolves to, and that of Consul on Kubernetes: the address of a Kubernetes Service.
const (
	taggedConsul  = "consul-virtual"
	taggedService = "virtual"
)

// calledAt are the virtual addresses of the instance's service, which have no port of their own, and
// the address of the workload itself where the registration tells it.
func calledAt(entry *api.ServiceEntry) (all []netip.AddrPort) {
	service := entry.Service
	if service.Kind == api.ServiceKindTerminatingGateway {
		return nil // its addresses are those of many services
	}
	for _, tag := range [...]string{taggedConsul, taggedService} {
		if ip, err := netip.ParseAddr(service.TaggedAddresses[tag].Address); err == nil && !ip.IsUnspecified() {
			all = append(all, netip.AddrPortFrom(ip.Unmap(), 0))
		}
	}
	port := service.Port
	if service.Kind == api.ServiceKindConnectProxy {
		port = 0
		if service.Proxy != nil {
			port = service.Proxy.LocalServicePort
		}
	}
	ip, err := netip.ParseAddr(firstOf(service.Address, entry.Node.Address))
	if err == nil && port > 0 && port <= 65535 && !ip.IsLoopback() && !ip.IsUnspecified() {
		all = append(all, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return all
}
