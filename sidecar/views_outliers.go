package sidecar

import (
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/policy/breaker"
	"github.com/larboard-proxy/larboard/policy/eject"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// The states of an endpoint to which nothing is sent for what it did.
const (
	stateOpen    = "open" // its breaker
	stateEjected = "ejected"
)

// outlierView adds what breaker and ejection know of an endpoint, and reports whether they
// leave it in.
func outlierView(v *admin.EndpointView, svc *upstream.Service, m *upstream.Member, now clock) (in bool) {
	in = true
	if b, ok := svc.Breaker(m.Endpoint, now.nanos); ok {
		v.Breaker = &admin.BreakerView{State: b.State.String(), Since: now.since(b.Since), Until: now.since(b.Until), Failures: b.Failures, Probes: b.Probes}
		if b.State == breaker.Open {
			v.State, v.Reason, v.Since, v.Health.From, in = stateOpen, "its breaker is open", v.Breaker.Since, "requests", false
		}
	}
	if e, ok := svc.Ejection(m.Endpoint, now.nanos); ok {
		v.Ejection = &admin.EjectionView{Ejected: e.Out, Since: now.since(e.Since), Until: now.since(e.Until), Count: e.Times,
			Share: svc.Returning(m.Endpoint, now.nanos)}
		if e.Until != 0 {
			v.Ejection.Cause = e.Cause.String()
		}
		if e.Out && in {
			v.State, v.Reason, v.Since, v.Health.From, in = stateEjected, whyEjected(v.Ejection), v.Ejection.Since, "requests", false
		}
	}
	return in
}

// since is at, but nothing for a time that there never was.
func (c clock) since(nanos int64) time.Time {
	if nanos == 0 {
		return time.Time{}
	}
	return c.at(nanos)
}

func clockTime(t time.Time) string { return t.UTC().Format(time.TimeOnly) }

func whyEjected(e *admin.EjectionView) string {
	why := "for failures in a row"
	if e.Cause == eject.ByRate.String() {
		why = "for its success rate"
	}
	if e.Count > 1 {
		why += fmt.Sprintf(", %d times in a row", e.Count)
	}
	return why
}

func failures(n uint32) string {
	if n == 1 {
		return "1 failure"
	}
	return fmt.Sprintf("%d failures", n)
}

// partly says that an endpoint in rotation does not get all that it could.
func partly(v *admin.EndpointView) string {
	switch {
	case v.Breaker != nil && v.Breaker.State == breaker.HalfOpen.String():
		return "; probes only, its breaker is half-open"
	case v.Ejection != nil && v.Ejection.Share < 1:
		return fmt.Sprintf("; it returns from ejection, with %.0f %% of its picks", 100*v.Ejection.Share)
	}
	return ""
}
