package config

import "fmt"

func (v *validator) workload() {
	w := v.config.Workload
	if w == nil {
		return
	}
	v.name("workload.service", w.Service)
	if v.required("workload.address", w.Address) {
		v.address("workload.address", w.Address, false)
	}
	if v.required("workload.listen", w.Listen) {
		v.address("workload.listen", w.Listen, true)
	}
	if w.Address != "" && w.Address == w.Listen {
		v.report("workload.listen", fmt.Sprintf("%s is the workload itself, workload.address", w.Listen))
	}
	v.protocol("workload.protocol", w.Protocol)
	v.allow("workload.allow", w.Allow)
	v.health("workload.health", w.Health)
	v.needsIdentity("workload")
}

func (v *validator) upstream(path string, u *Upstream) {
	v.name(join(path, "service"), u.Service)
	if v.required(join(path, "bind"), u.Bind) {
		v.address(join(path, "bind"), u.Bind, true)
	}
	v.protocol(join(path, "protocol"), u.Protocol)
	if u.Service != "" && v.config.service(u.Service) != nil {
		v.reference(path, u)
		return
	}
	if u.Balance != "" {
		v.balance(join(path, "balance"), u.Balance)
	}
	v.exclusive(path, "endpoints", "discovery")
	v.endpoints(join(path, "endpoints"), u.Endpoints)
	v.discovery(join(path, "discovery"), u.Discovery)
	v.patterns(join(path, "ids"), u.IDs)
	v.needsIdentity(path)
}

// reference checks an upstream whose service the file describes itself: what
// describes a service belongs there.
func (v *validator) reference(path string, u *Upstream) {
	for _, field := range [...]string{"balance", "discovery", "endpoints", "ids"} {
		if at := join(path, field); v.given(at) {
			v.report(at, fmt.Sprintf("belongs to the service %q, which services already describes", u.Service))
		}
	}
}
