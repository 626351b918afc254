package config

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// rateLimits checks a list of limits. whose says why no caller has an identity; empty: callers may
// have one.
func (v *validator) rateLimits(path string, all []RateLimit, whose string) {
	if len(all) > maxLimits {
		v.report(path, fmt.Sprintf("holds more than %d limits", maxLimits))
		return
	}
	names := map[string]int{}
	for i := range all {
		l, at := &all[i], fmt.Sprintf("%s[%d]", path, i)
		if first, twice := names[l.Name]; twice {
			v.report(join(at, "name"), fmt.Sprintf("%q is already limit [%d]", l.Name, first))
		}
		names[l.Name] = i
		if v.given(join(at, "name")) {
			v.name(join(at, "name"), l.Name)
		}
		v.rateLimit(at, l, whose)
	}
}

func (v *validator) rateLimit(path string, l *RateLimit, whose string) {
	if v.given(join(path, "shared")) {
		v.exclusive(path, "shared", "rate")
		v.exclusive(path, "shared", "by")
		if l.Burst != 0 { // 0 is printed
			v.exclusive(path, "shared", "burst")
		}
		if l.Keys != 0 {
			v.exclusive(path, "shared", "keys")
		}
		v.sharedLimit(join(path, "shared"), l.Shared)
		return
	}
	if l.Rate == "" && !v.given(join(path, "rate")) {
		v.incomplete(path, "needs rate or shared")
		return
	}
	v.rate(path, l.Rate, l.Burst)
	v.between(join(path, "keys"), l.Keys, 1, maxLimitKeys)
	v.limitBy(join(path, "by"), l.By)
	if at := join(path, "by"); l.By != nil && l.By.Identity != nil && whose != "" {
		v.report(at, whose)
	}
}

// rate checks a rate and how much may come at once.
func (v *validator) rate(path string, r Rate, burst int) {
	at := join(path, "rate")
	if !v.given(at) && r != "" {
		at = path // written as a lone text
	}
	_, _, err := r.Per()
	if err != nil {
		v.propose(at, err.Error(), r.meant())
		return
	}
	v.between(join(path, "burst"), burst, 1, maxBurst)
	if fill := float64(burst) / r.PerSecond(); fill > maxDuration.D().Seconds() {
		v.report(join(path, "burst"), fmt.Sprintf("%d at %s take more than a year to come back", burst, string(r)))
	}
}

func (v *validator) limitBy(path string, b *LimitBy) {
	if b == nil {
		return
	}
	forms := [...]string{"all", "source", "identity", "header", "query"}
	for i, first := range forms {
		for _, second := range forms[i+1:] {
			v.exclusive(path, first, second)
		}
	}
	if b.All == nil && b.Source == nil && b.Identity == nil && b.Header == "" && b.Query == "" {
		v.incomplete(path, "needs all, source, identity, header or query")
	}
	if b.Source != nil {
		v.between(join(path, "source.v4"), b.Source.V4, 0, 32)
		v.between(join(path, "source.v6"), b.Source.V6, 0, 128)
	}
	if b.Header != "" {
		v.fieldName(join(path, "header"), b.Header)
	}
}

// fieldName checks the name of a header field that a request may have.
func (v *validator) fieldName(path, name string) {
	switch lower := strings.ToLower(name); {
	case strings.HasPrefix(name, ":"):
		v.report(path, fmt.Sprintf("%q is no header field", name))
	case strings.Trim(lower, "abcdefghijklmnopqrstuvwxyz0123456789-_.!#$%&'*+^`|~") != "":
		v.report(path, fmt.Sprintf("%q is not the name of a header", name))
	case lower == "host": // clients may write one in many ways
		v.report(path, `"host" is not looked at here; a route with match.host has limits of its own`)
	case slices.Contains([]string{"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "upgrade", "te", "trailer"}, lower):
		v.report(path, fmt.Sprintf("%q is about the connection or the body, and is not looked at here", name))
	}
}

func (v *validator) sharedLimit(path string, s *SharedLimit) {
	if s == nil {
		return
	}
	if v.config.RateLimitService == nil && !v.given("rate_limit_service") {
		v.report(path, "needs rate_limit_service: who is to be asked")
	}
	v.required(join(path, "domain"), s.Domain)
	v.between(join(path, "hits"), s.Hits, 1, 1_000_000)
	if len(s.Descriptors) == 0 {
		v.report(join(path, "descriptors"), "is missing: say what the service is told, as in [path] or [[method, path]]")
	}
	for i, d := range s.Descriptors {
		at := fmt.Sprintf("%s.descriptors[%d]", path, i)
		if len(d) == 0 {
			v.report(at, "the list is empty")
		}
		for j, e := range d {
			one := fmt.Sprintf("%s[%d]", at, j)
			if len(d) == 1 && !v.given(one) {
				one = at
			}
			v.descriptorEntry(one, e)
		}
	}
}

func (v *validator) descriptorEntry(path string, e DescriptorEntry) {
	if e.Key == "" {
		if !v.broken(join(path, "key")) {
			v.report(path, "needs a key")
		}
		return
	}
	forms := [...]string{"value", "from", "header", "query"}
	for i, first := range forms {
		for _, second := range forms[i+1:] {
			v.exclusive(path, first, second)
		}
	}
	if e.Value == "" && e.From == "" && e.Header == "" && e.Query == "" {
		v.incomplete(path, fmt.Sprintf("%q needs value, from, header or query; only %s stand for themselves", e.Key, strings.Join(DescriptorSources(), ", ")))
		return
	}
	if e.From != "" {
		v.oneOf(join(path, "from"), e.From, DescriptorSources()...)
	}
	if e.Header != "" {
		v.fieldName(join(path, "header"), e.Header)
	}
}

// connectionRate checks a bound on connections; nil is none.
func (v *validator) connectionRate(path string, c *ConnectionRate) {
	if c == nil {
		return
	}
	if c.Rate == "" && !v.given(join(path, "rate")) {
		v.incomplete(path, "needs rate")
		return
	}
	v.rate(path, c.Rate, c.Burst)
	v.between(join(path, "keys"), c.Keys, 1, maxLimitKeys)
	by := join(path, "by")
	v.limitBy(by, c.By)
	if c.By != nil && (c.By.Identity != nil || c.By.Header != "" || c.By.Query != "") {
		v.report(by, fmt.Sprintf("%s is not known yet when a connection comes; all and source are", c.By.kind()))
	}
}

func (v *validator) rateLimitFields(f RateLimitFields) {
	at := func(field string) string {
		if v.given("rate_limit_fields." + field) {
			return "rate_limit_fields." + field
		}
		return "rate_limit_fields"
	}
	v.spelled(at("answers"), f.Answers, map[string]string{"all": LimitFieldsAlways, "on": LimitFieldsAlways, "true": LimitFieldsAlways, "off": LimitFieldsNever, "false": LimitFieldsNever},
		LimitFieldsDenied, LimitFieldsAlways, LimitFieldsNever)
	v.spelled(at("form"), f.Form, map[string]string{"draft": RateLimitForm, "x-ratelimit": XRateLimitForm}, RateLimitForm, TrioForm, XRateLimitForm)
}

func (v *validator) rateLimitService(s *RateLimitService) {
	if s == nil {
		return
	}
	const path = "rate_limit_service"
	at := join(path, "address")
	if !v.given(at) && s.Address != "" {
		at = path
	}
	if v.required(at, s.Address) {
		if socket, ok := strings.CutPrefix(s.Address, "unix://"); ok {
			if !strings.HasPrefix(socket, "/") {
				v.report(at, fmt.Sprintf("%q is not unix:///PATH", s.Address))
			}
		} else if scheme, rest, ok := strings.Cut(s.Address, "://"); ok {
			v.propose(at, fmt.Sprintf("%q begins with %s://; write HOST:PORT or unix:///PATH", s.Address, scheme), rest)
		} else {
			v.hostAndPort(at, s.Address)
		}
	}
	v.positive(join(path, "timeout"), s.Timeout)
	if s.Timeout > Duration(10*time.Second) {
		v.report(join(path, "timeout"), fmt.Sprintf("%s is more than 10s, for which every request may wait", s.Timeout))
	}
	v.spelled(join(path, "on_failure"), s.OnFailure, map[string]string{"open": QuotaAllow, "pass": QuotaAllow, "closed": QuotaDeny, "close": QuotaDeny, "reject": QuotaDeny},
		QuotaAllow, QuotaDeny)
	v.between(join(path, "calls"), s.Calls, 1, maxCalls)
	v.clientTLS(join(path, "tls"), s.TLS)
}

// limitsOf checks the limits of a listener and its routes.
func (v *validator) limitsOf(path string, l *Listener) {
	v.connectionRate(join(path, "connection_rate"), l.ConnectionRate)
	if at := join(path, "limits"); v.given(at) && l.Protocol == TCP && !v.broken(join(path, "protocol")) {
		v.report(at, "are of requests, for protocol http or auto; connection_rate bounds connections")
		return
	}
	whose := ""
	if l.TLS == nil || l.TLS.SPIFFE == nil {
		whose = "identity needs tls.spiffe: without it no caller has one"
	}
	v.rateLimits(join(path, "limits"), l.Limits, whose)
	for i := range l.Routes {
		v.rateLimits(fmt.Sprintf("%s.routes[%d].limits", path, i), l.Routes[i].Limits, whose)
	}
}
