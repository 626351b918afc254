package manifest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// protocols are what ports and upstreams may be said to speak.
var protocols = []string{"auto", "http", "http2", "grpc", "tcp"}

// upstream is a service that an application calls at a port of 127.0.0.1.
type upstream struct {
	service  string
	port     int
	protocol string // empty: nothing is said
}

var serviceName = regexp.MustCompile(`^[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?$`)

// parseUpstreams reads NAME:PORT[/PROTOCOL], with commas between several.
func parseUpstreams(text string) (all []upstream, err error) {
	for _, one := range list(text) {
		u, err := parseUpstream(one)
		if err != nil {
			return nil, err
		}
		for _, other := range all {
			if other.port == u.port {
				return nil, fmt.Errorf("%q: port %d is already that of %s", one, u.port, other.service)
			}
		}
		all = append(all, u)
	}
	return all, nil
}

func parseUpstream(text string) (u upstream, err error) {
	name, rest, ok := strings.Cut(text, ":")
	if !ok {
		return u, fmt.Errorf("%q lacks the port at which the application calls it, like %s:9191", text, text)
	}
	if !serviceName.MatchString(name) {
		return u, fmt.Errorf("%q: %q is no name of a service", text, name)
	}
	u.service = name
	if u.port, u.protocol, err = parsePort(rest); err != nil {
		return u, fmt.Errorf("%q: %w", text, err)
	}
	return u, nil
}

// parsePort reads PORT[/PROTOCOL].
func parsePort(text string) (port int, protocol string, err error) {
	number, protocol, given := strings.Cut(text, "/")
	port, err = strconv.Atoi(strings.TrimSpace(number))
	if err != nil || port < 1 || port > 65535 {
		return 0, "", fmt.Errorf("%q is not a port, which is a number from 1 to 65535", number)
	}
	if given && !slices.Contains(protocols, protocol) {
		return 0, "", fmt.Errorf("%q is none of %s", protocol, strings.Join(protocols, ", "))
	}
	return port, protocol, nil
}
