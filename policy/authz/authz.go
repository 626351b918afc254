// Package authz decides by SPIFFE ID who may call our workload: by an allow list of
// our own, or by the intentions that Consul holds. It answers with
// a typed Permit that nothing outside the package can make, so that "allowed" is
// proven by the type. It is asked after the identity has been verified, and must
// not know of certificates, connections or requests.
package authz

import (
	"github.com/larboard-proxy/larboard/policy"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

// Permit proves that a caller was allowed. The zero value is no permit.
type Permit struct {
	id   spiffeid.ID
	rule string
}

// ID is the caller.
func (p Permit) ID() spiffeid.ID { return p.id }

// Rule is the rule that allowed it, for log and explain.
func (p Permit) Rule() string { return p.rule }

// Valid reports whether p came from an Allow verdict.
func (p Permit) Valid() bool { return p.rule != "" }

// Verdict is Allow or Deny. The zero value denies.
type Verdict struct {
	permit Permit
	reason policy.Reason
	rule   string
}

// Permit returns the permit of an Allow; false: denied.
func (v Verdict) Permit() (Permit, bool) { return v.permit, v.permit.Valid() }

// Allowed reports whether v is an Allow.
func (v Verdict) Allowed() bool { return v.permit.Valid() }

// Reason is None for an Allow and why not for a Deny.
func (v Verdict) Reason() policy.Reason {
	if !v.Allowed() && v.reason == policy.None {
		return policy.NotAllowed
	}
	return v.reason
}

// Rule is the rule that decided, either way.
func (v Verdict) Rule() string {
	if v.Allowed() {
		return v.permit.rule
	}
	if v.rule == "" {
		return "default deny"
	}
	return v.rule
}

func deny(r policy.Reason, rule string) Verdict { return Verdict{reason: r, rule: rule} }
