package config

import "fmt"

func (v *validator) workload() {
	w := v.config.Workload
	if w == nil {
		return
	}
	if w.Name != "" {
		v.report("workload.name", "is for one of several workloads")
	}
	if v.given("workload.upstreams") {
		v.report("workload.upstreams", "stand beside a lone workload, as upstreams of the file")
	}
	v.oneWorkload("workload", w)
}

// workloads checks those of a whole host. Their upstreams and the file's would both be
// meant for "the" workload.
func (v *validator) workloads() {
	c := v.config
	v.exclusive("", "workload", "workloads")
	if len(c.Workloads) > 0 && v.given("upstreams") {
		v.report("upstreams", "belong to one of the workloads: give them there, so that they are called as its identity")
	}
	for i := range c.Workloads {
		w, path := &c.Workloads[i], workloadPath(i)
		if v.given(join(path, "name")) {
			v.name(join(path, "name"), w.Name)
		}
		v.oneWorkload(path, w)
		for j := range w.Upstreams {
			u, at := &w.Upstreams[j], join(path, upstreamPath(j))
			v.upstream(at, u)
			v.sameIdentity(at, w, u)
		}
	}
}

func (v *validator) oneWorkload(path string, w *Workload) {
	v.name(join(path, "service"), w.Service)
	if v.required(join(path, "address"), w.Address) {
		v.address(join(path, "address"), w.Address, false)
	}
	if v.required(join(path, "listen"), w.Listen) {
		v.address(join(path, "listen"), w.Listen, true)
	}
	if w.Address != "" && w.Address == w.Listen {
		v.report(join(path, "listen"), fmt.Sprintf("%s is the workload itself, %s", w.Listen, join(path, "address")))
	}
	v.protocol(join(path, "protocol"), w.Protocol)
	v.httpVersion(join(path, "http"), w.HTTP)
	if w.HTTP != HTTPAuto {
		v.needsHTTP(join(path, "http"), join(path, "protocol"), w.Protocol)
	}
	v.needsHTTP(join(path, "reason_header"), join(path, "protocol"), w.Protocol)
	v.detect(path, w.Protocol)
	v.allow(join(path, "allow"), w.Allow)
	if w.Intentions {
		v.exclusive(path, "allow", "intentions")
	}
	v.register(join(path, "register"), w.Register)
	v.health(join(path, "health"), w.Health)
	v.retries(join(path, "retries"), w.Retries)
	v.connectionRate(join(path, "connection_rate"), w.ConnectionRate)
	v.needsHTTP(join(path, "limits"), join(path, "protocol"), w.Protocol)
	v.rateLimits(join(path, "limits"), w.Limits, "")
	if w.Timeouts != nil {
		v.serviceTimeouts(path, *w.Timeouts)
	}
	v.ownIdentity(path, w.Identity)
}

// sameIdentity reports a workload's upstream whose service belongs to another
// identity than the workload's.
func (v *validator) sameIdentity(path string, w *Workload, u *Upstream) {
	s := v.config.service(u.Service)
	if s == nil || s.TLS == nil || s.TLS.SPIFFE == nil || s.TLS.SPIFFE.Identity == "" || s.TLS.SPIFFE.Identity == w.Identity {
		return
	}
	v.report(join(path, "service"), fmt.Sprintf("%q is called as %q by its tls.spiffe.identity, and the workload is %q; leave out the former",
		u.Service, s.TLS.SPIFFE.Identity, w.Identity))
}

func (v *validator) upstream(path string, u *Upstream) {
	v.name(join(path, "service"), u.Service)
	v.upstreamPlaces(path, u)
	v.protocol(join(path, "protocol"), u.Protocol)
	v.detect(path, u.Protocol)
	v.needsHTTP(join(path, "http"), join(path, "protocol"), u.Protocol)
	v.needsHTTP(join(path, "reason_header"), join(path, "protocol"), u.Protocol)
	if u.Service != "" && v.config.service(u.Service) != nil {
		v.reference(path, u)
		return
	}
	if u.HTTP != "" {
		v.httpVersion(join(path, "http"), u.HTTP)
	}
	if u.Balance != "" {
		v.balance(join(path, "balance"), u.Balance)
	}
	v.rateLimits(join(path, "limits"), u.Limits, "")
	v.breaker(join(path, "breaker"), u.Breaker)
	v.ejection(join(path, "ejection"), u.Ejection)
	v.endpoints(join(path, "endpoints"), u.Endpoints)
	v.discovery(join(path, "discovery"), u.Discovery)
	v.patterns(join(path, "ids"), u.IDs)
	v.retries(join(path, "retries"), u.Retries)
	if u.Timeouts != nil {
		v.serviceTimeouts(path, *u.Timeouts)
	}
}

// lonelyUpstream checks an upstream that belongs to no workload of several.
func (v *validator) lonelyUpstream(path string, u *Upstream) {
	v.upstream(path, u)
	switch {
	case u.Service != "" && v.config.service(u.Service) != nil:
	case len(v.config.Identities) > 1:
		v.report(path, "does not say as which of the identities it calls: give it to one of workloads, or describe the service with tls.spiffe.identity")
	default:
		v.needsIdentity(path)
	}
}

// reference checks an upstream whose service the file describes itself: what
// describes a service belongs there.
func (v *validator) reference(path string, u *Upstream) {
	for _, field := range [...]string{"balance", "breaker", "discovery", "ejection", "endpoints", "http", "ids", "limits", "retries", "timeouts"} {
		if at := join(path, field); v.given(at) {
			v.report(at, fmt.Sprintf("belongs to the service %q, which services already describes", u.Service))
		}
	}
}
