package config

import (
	"cmp"
	"strings"
)

// stem is what a listener or a service of an expansion was made of.
type stem struct {
	path     string // in the file
	made     madeOf // empty: it stands in the file as it is
	workload string // path of the workload that it belongs to; empty: none
	like     string // path of the service that describes an upstream's; empty: none
}

// madeOf is what the expansion makes of a shorthand.
type madeOf string

const (
	workloadListener madeOf = "listener of a workload"
	workloadService  madeOf = "service of a workload"
	upstreamListener madeOf = "listener of an upstream"
	upstreamService  madeOf = "service of an upstream"
)

// sources are the fields of a shorthand that become fields of what is made of it, and all
// below them. An empty one is derived from the shorthand as a whole.
var sources = map[madeOf]map[string]string{
	workloadListener: {
		"name": "", "address[0]": "listen", "protocol": "protocol", "detect": "detect", "tls": "", "tls.spiffe.identity": "identity",
		"allow": "allow", "intentions": "", "intentions.service": "service", "routes": "", "service": "",
		"captures": "", "register": "register", "limits": "limits", "connection_rate": "connection_rate", "reason_header": "reason_header",
	},
	workloadService: {
		"name": "", "endpoints[0].address": "address", "protocol": "http", "health": "health", "timeouts": "timeouts",
		"retries": "retries",
	},
	upstreamListener: {
		"name": "service", "direction": "", "address[0]": "bind", "captures": "captures", "socket_mode": "socket_mode", "protocol": "protocol",
		"detect": "detect", "routes[0].service": "service", "service": "service", "reason_header": "reason_header",
	},
	upstreamService: {
		"name": "service", "endpoints": "endpoints", "discovery": "discovery", "timeouts": "timeouts", "retries": "retries",
		"protocol": "http", "balance": "balance", "limits": "limits", "breaker": "breaker", "ejection": "ejection", "tls": "", "tls.spiffe.ids": "ids",
	},
}

// source is the path in the file that field is taken from; set tells that the shorthand
// decides it, whether or not the file says so there.
func (of stem) source(field string) (path string, set bool) {
	if of.made == "" {
		return join(of.path, field), false
	}
	if of.workload != "" && field == "tls.spiffe.identity" {
		return join(of.workload, "identity"), true
	}
	if of.like != "" && field != "name" {
		return join(of.like, field), field == "tls.spiffe.service"
	}
	for head := field; head != ""; head = parentPath(head) {
		from, ok := sources[of.made][head]
		if ok && from == "" {
			return "", true
		}
		if ok {
			return join(of.path, from) + strings.TrimPrefix(field, head), true
		}
	}
	return "", false
}

// described is the path of what says what the service is like.
func (of stem) described() string { return cmp.Or(of.like, of.path) }

// nameField is the path of the name that discovery asks for unless it is told another.
func (of stem) nameField() string {
	if of.made == upstreamService && of.like == "" {
		return join(of.path, "service")
	}
	return join(of.described(), "name")
}

// derives reports whether the shorthand gives field a value of its own where the file says
// nothing of it; otherwise it is the default of the format.
func (of stem) derives(field string) bool {
	switch {
	case strings.HasPrefix(field, "discovery"):
		return strings.HasSuffix(field, ".service") || strings.HasSuffix(field, ".connect")
	case strings.HasPrefix(field, "register."):
		return strings.HasSuffix(field, ".service") || strings.HasSuffix(field, ".local") || strings.HasSuffix(field, ".adopt")
	case strings.HasPrefix(field, "health"), field == "protocol", strings.HasPrefix(field, "detect"), field == "balance", strings.HasPrefix(field, "endpoints"),
		strings.HasPrefix(field, "limits"), strings.HasPrefix(field, "connection_rate"), strings.HasPrefix(field, "breaker"), strings.HasPrefix(field, "retries"), strings.HasPrefix(field, "ejection"):
		return false
	}
	return true
}
