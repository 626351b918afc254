package config

import (
	"fmt"
	"math"
	"net/http"
	"strings"
)

func (v *validator) service(path string, s *Service) {
	v.name(join(path, "name"), s.Name)
	if !v.given(join(path, "endpoints")) && !v.given(join(path, "discovery")) && !v.broken(join(path, "discovery")) {
		v.report(join(path, "endpoints"), "is missing; give endpoints or discovery")
	}
	v.endpoints(join(path, "endpoints"), s.Endpoints)
	v.discovery(join(path, "discovery"), s.Discovery)
	v.balance(join(path, "balance"), s.Balance)
	v.health(join(path, "health"), s.Health)
	if s.TLS != nil {
		v.serviceTLS(join(path, "tls"), s)
	}
	v.httpVersion(join(path, "protocol"), s.Protocol)
	v.http2(join(path, "http2"), s.HTTP2)
	var usual HTTP2Settings
	if usual.setDefaults(); s.Protocol == HTTP1 && s.HTTP2 != usual { // that is printed for every service
		v.report(join(path, "http2"), "is for protocol http2 or auto")
	}
	v.between(join(path, "max_connections"), s.MaxConnections, 0, MaxConnections)
	v.rateLimits(join(path, "limits"), s.Limits, "")
	v.breaker(join(path, "breaker"), s.Breaker)
	v.ejection(join(path, "ejection"), s.Ejection)
	if s.SendProxy != "" {
		v.spelled(join(path, "send_proxy"), string(s.SendProxy),
			map[string]string{"1": "v1", "2": "v2", "true": "v2", "v3": "v2"}, string(ProxyV1), string(ProxyV2))
	}
	v.retries(join(path, "retries"), &s.Retries)
	v.serviceTimeouts(path, s.Timeouts)
}

func (v *validator) endpoints(path string, list []Endpoint) {
	seen := map[string]int{}
	for i, e := range list {
		at := fmt.Sprintf("%s[%d]", path, i)
		where := at
		if v.given(join(at, "address")) || e.Address == "" {
			where = join(at, "address")
		}
		if !v.required(where, e.Address) {
			continue
		}
		v.address(where, e.Address, false)
		v.between(join(at, "weight"), e.Weight, 0, 65535)
		v.spiffeID(join(at, "spiffe_id"), e.SPIFFEID)
		id := e.ID
		if id == "" {
			id = e.Address
		}
		if first, twice := seen[id]; twice {
			v.report(where, fmt.Sprintf("%q is already endpoint [%d]", id, first))
			continue
		}
		seen[id] = i
	}
}

// laterBalances are known and not built.
var laterBalances = []string{"static_rr", "least_request", "first", "ewma", "hash"}

func (v *validator) balance(path string, b Balance) {
	v.choice(path, string(b), laterBalances, string(RoundRobin), string(Random), string(P2C))
}

func (v *validator) health(path string, h *Health) {
	if h == nil {
		return
	}
	v.exclusive(path, "tcp", "http")
	v.exclusive(path, "tcp", "grpc")
	v.exclusive(path, "http", "grpc")
	if h.TCP == nil && h.HTTP == nil && h.GRPC == nil {
		v.incomplete(path, "needs tcp, http or grpc")
	}
	v.positive(join(path, "interval"), h.Interval)
	v.positive(join(path, "timeout"), h.Timeout)
	if h.Timeout > h.Interval {
		v.report(join(path, "timeout"), fmt.Sprintf("%s is more than the interval, %s", h.Timeout, h.Interval))
	}
	v.between(join(path, "rise"), h.Rise, 1, 1000)
	v.between(join(path, "fall"), h.Fall, 1, 1000)
	if math.IsNaN(h.Jitter) || h.Jitter < 0 || h.Jitter > 1 {
		v.report(join(path, "jitter"), fmt.Sprintf("%v is not between 0 and 1", h.Jitter))
	}
	if h.HTTP != nil {
		v.httpCheck(join(path, "http"), h.HTTP)
	}
	if h.GRPC != nil && !printable(h.GRPC.Service) {
		v.report(join(path, "grpc.service"), fmt.Sprintf("%q is no name of a gRPC service, like shop.v1.Stock", h.GRPC.Service))
	}
}

// printable reports whether text is ASCII without spaces and controls.
func printable(text string) bool {
	return !strings.ContainsFunc(text, func(c rune) bool { return c <= ' ' || c > '~' })
}

func (v *validator) httpCheck(path string, h *HTTPCheck) {
	methods := []string{http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPost, http.MethodPut}
	v.oneOf(join(path, "method"), h.Method, methods...)
	target, _, _ := strings.Cut(h.Path, "?")
	v.urlPath(join(path, "path"), target)
	if h.Host != "" {
		v.hostPort(join(path, "host"), h.Host)
	}
	if len(h.ExpectStatus) == 0 {
		v.report(join(path, "expect_status"), "the list is empty")
	}
}

func (v *validator) serviceTLS(path string, s *Service) {
	if s.TLS.SPIFFE == nil {
		v.incomplete(path, "needs spiffe")
		return
	}
	path = join(path, "spiffe")
	if s.TLS.SPIFFE.Identity != "" || !v.config.pattern(s.Name) {
		v.ownIdentity(path, s.TLS.SPIFFE.Identity)
	}
	if v.given(join(path, "service")) {
		v.name(join(path, "service"), s.TLS.SPIFFE.Service)
	}
	v.patterns(join(path, "ids"), s.TLS.SPIFFE.IDs)
	for i, domain := range s.TLS.SPIFFE.TrustDomains {
		v.trustDomain(fmt.Sprintf("%s.trust_domains[%d]", path, i), domain)
	}
}

func (v *validator) serviceTimeouts(path string, t ServiceTimeouts) {
	v.positive(join(path, "timeouts.connect"), t.Connect)
	v.positive(join(path, "timeouts.idle"), t.Idle)
}
