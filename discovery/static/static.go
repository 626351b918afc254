// Package static serves endpoints that are written down in the configuration or
// registered in memory by the process itself (the demo, tests). It must not know
// of files or networks.
package static

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
)

// Name is the Source of endpoints from this package that name none.
const Name = "static"

// source is a set that never changes.
type source struct{ endpoints []discovery.Endpoint }

// New returns a source that sends endpoints once, in the given order. It fails
// for an address that CheckAddress refuses, a negative weight or an ID used twice.
// The slice is copied. An endpoint without ID gets its address as one; a weight of
// 0 means "no new traffic", as everywhere.
func New(endpoints []discovery.Endpoint) (discovery.Source, error) {
	out := make([]discovery.Endpoint, len(endpoints))
	seen := make(map[string]struct{}, len(endpoints))
	for i, e := range endpoints {
		e, err := complete(e)
		if err != nil {
			return nil, err
		}
		if _, twice := seen[e.ID]; twice {
			return nil, fmt.Errorf("static: endpoint %q is given twice", e.ID)
		}
		seen[e.ID] = struct{}{}
		out[i] = e
	}
	return source{out}, nil
}

// Run implements discovery.Source.
func (s source) Run(ctx context.Context, out func(discovery.Update)) error {
	out(discovery.Update{Endpoints: s.endpoints, At: time.Now()})
	<-ctx.Done()
	return ctx.Err()
}

// complete checks an endpoint and fills in what it leaves out.
func complete(e discovery.Endpoint) (discovery.Endpoint, error) {
	if err := CheckAddress(e.Address); err != nil {
		return e, err
	}
	if e.Weight < 0 {
		return e, fmt.Errorf("static: endpoint %q: negative weight %d", e.Address, e.Weight)
	}
	if e.ID == "" {
		e.ID = e.Address
	}
	if e.Source == "" {
		e.Source = Name
	}
	return e, nil
}

// CheckAddress says whether address has the form discovery.Endpoint asks for: an
// IP literal with a port from 1 to 65535, IPv6 in brackets, or unix:///path.
func CheckAddress(address string) error {
	if path, ok := strings.CutPrefix(address, "unix://"); ok {
		if !strings.HasPrefix(path, "/") || len(path) == 1 {
			return fmt.Errorf("static: address %q: a socket needs an absolute path (unix:///path)", address)
		}
		return nil
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("static: address %q: want host:port or unix:///path", address)
	}
	if _, err := netip.ParseAddr(host); err != nil {
		return fmt.Errorf("static: address %q: the host must be an IP address", address)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return fmt.Errorf("static: address %q: the port must be a number from 1 to 65535", address)
	}
	return nil
}
