package consul

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
)

// metaIdentity is the key of a service's metadata that holds its SPIFFE ID.
const metaIdentity = "spiffe_id"

// endpoints turns an answer into a set, sorted by ID. Problems are registrations
// that are left out, or taken without their invalid part.
func (s *health) endpoints(entries []*api.ServiceEntry) (set []discovery.Endpoint, problems []error) {
	set = make([]discovery.Endpoint, 0, len(entries))
	for _, entry := range entries {
		if entry == nil || entry.Node == nil || entry.Service == nil || !s.wanted(entry) {
			continue
		}
		e, err := endpoint(entry)
		if err != nil {
			problems = append(problems, fmt.Errorf("instance %q: %w", e.ID, err))
		}
		if e.Address != "" {
			set = append(set, e)
		}
	}
	slices.SortStableFunc(set, func(a, b discovery.Endpoint) int { return strings.Compare(a.ID, b.ID) })
	return set, problems
}

// wanted checks the state once more: Consul filters only for "passing".
func (s *health) wanted(entry *api.ServiceEntry) bool {
	switch entry.Checks.AggregatedStatus() {
	case api.HealthPassing:
		return true
	case api.HealthWarning:
		return s.want.Warning
	default:
		return false
	}
}

// endpoint turns one instance into an endpoint. One that cannot be used at all has
// no address.
func endpoint(entry *api.ServiceEntry) (discovery.Endpoint, error) {
	node, service := entry.Node, entry.Service
	e := discovery.Endpoint{
		ID:           node.Node + "/" + service.ID,
		Weight:       weight(entry),
		Tags:         service.Tags,
		Meta:         service.Meta,
		IdentityPath: identityPath(entry),
		Node:         node.Node,
		Zone:         zone(entry),
		Source:       "consul:" + node.Datacenter,
		Status:       entry.Checks.AggregatedStatus(),
		CalledAt:     calledAt(entry),
	}
	address, err := address(entry)
	if err != nil {
		return e, fmt.Errorf("left out: %w", err)
	}
	e.Address = address
	if text := service.Meta[metaIdentity]; text != "" {
		id, err := spiffeid.FromString(text)
		if err != nil {
			return e, fmt.Errorf("metadata %s %q ignored: %w", metaIdentity, text, err)
		}
		e.Identity = id
	}
	return e, nil
}

// address is the service's socket, or its address and port; a service without
// address listens on its node's.
func address(entry *api.ServiceEntry) (string, error) {
	service := entry.Service
	if service.SocketPath != "" {
		if !strings.HasPrefix(service.SocketPath, "/") {
			return "", fmt.Errorf("socket path %q is not absolute", service.SocketPath)
		}
		return "unix://" + service.SocketPath, nil
	}
	host := firstOf(service.Address, entry.Node.Address)
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if err != nil {
		return "", fmt.Errorf("address %q is not an IP address", host)
	}
	port := service.Port
	if port == 0 {
		port = service.DefaultPort()
	}
	if port < 1 || port > 65535 {
		return "", fmt.Errorf("port %d is not between 1 and 65535", port)
	}
	return net.JoinHostPort(ip.String(), strconv.Itoa(port)), nil
}

// weight is the one registered for the instance's state. Consul refuses a passing
// weight below 1, so that 0 means none was sent.
func weight(entry *api.ServiceEntry) int {
	w := entry.Service.Weights
	if w.Passing <= 0 {
		return 1
	}
	if entry.Checks.AggregatedStatus() == api.HealthWarning {
		return max(0, w.Warning)
	}
	return w.Passing
}

// identityPath is the path of the SPIFFE ID that Consul gives to what stands
// behind a mesh instance: [/ap/<partition>]/ns/<namespace>/dc/<dc>/svc/<service>.
// Other instances have no certificate of Consul's.
func identityPath(entry *api.ServiceEntry) string {
	service := entry.Service
	name := service.Service
	switch {
	case service.Kind == api.ServiceKindConnectProxy:
		if service.Proxy != nil && service.Proxy.DestinationServiceName != "" {
			name = service.Proxy.DestinationServiceName
		}
	case service.Connect != nil && service.Connect.Native:
	default:
		return ""
	}
	path := "/ns/" + firstOf(service.Namespace, "default") + "/dc/" + entry.Node.Datacenter + "/svc/" + name
	if p := firstOf(service.Partition, entry.Node.Partition); p != "" && p != "default" {
		path = "/ap/" + p + path
	}
	if spiffeid.ValidatePath(path) != nil {
		return ""
	}
	return path
}

// zone is the locality registered for the instance or its node, else what the
// node's metadata says.
func zone(entry *api.ServiceEntry) string {
	for _, l := range []*api.Locality{entry.Service.Locality, entry.Node.Locality} {
		if l != nil && l.Zone != "" {
			return l.Zone
		}
	}
	for _, key := range []string{"zone", "topology.kubernetes.io/zone", "availability-zone"} {
		if z := entry.Node.Meta[key]; z != "" {
			return z
		}
	}
	return ""
}
