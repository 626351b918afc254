package discovery

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// CheckAddress says whether address has the form Endpoint asks for: an
// IP literal with a port from 1 to 65535, IPv6 in brackets, or unix:///path.
func CheckAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") || len(path) == 1 {
			return fmt.Errorf("address %q: a socket needs an absolute path (unix:///path)", address)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: want host:port or unix:///path", address)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("address %q: the host must be an IP address", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("address %q: the port must be a number from 1 to 65535", address)
	}
	return nil
}
