package sidecar

import (
	"fmt"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/admin"
	"github.com/larboard-proxy/larboard/sidecar/health"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// clock relates the engine's time to that of people.
type clock struct {
	now   time.Time
	nanos int64
}

func (c clock) at(nanos int64) time.Time { return c.now.Add(time.Duration(nanos - c.nanos)) }

// endpointViews tell of each endpoint where it comes from, what is known of its
// health and from whom, and whether it takes traffic.
func (s *Sidecar) endpointViews() []admin.EndpointView {
	checks := map[string]health.Status{}
	for _, c := range s.checker.Status() {
		checks[c.Key] = c
	}
	now := clock{time.Now(), s.engine.Nanos()}
	var all []admin.EndpointView
	for _, svc := range s.snapshotServices() {
		totals := map[string]metrics.EndpointTotals{}
		for _, t := range s.metrics.EndpointTotals(svc.Name) {
			totals[t.Endpoint] = t
		}
		origins := s.set.Origins(svc.Name)
		members := svc.Set().Members
		sum := weightInRotation(svc, members, now.nanos)
		for i := range members {
			m := &members[i]
			v := endpointView(svc, m, now)
			v.Requests, v.Failures = totals[m.Address].Requests, totals[m.Address].Failures
			if o, ok := origins[m.Key()]; ok {
				v.Origin = originView(&o, now.now)
			}
			if c, ok := checks[checkKey(svc.Name, m.ID, m.Address)]; ok {
				checkedView(&v, &c)
			}
			rotation(&v, sum)
			all = append(all, v)
		}
	}
	return all
}

func endpointView(svc *upstream.Service, m *upstream.Member, now clock) admin.EndpointView {
	v := admin.EndpointView{
		Service: svc.Name, Address: m.Address, ID: m.ID, Weight: m.Weight, State: "up",
		InFlight: m.Inflight(), InUse: m.InUse(), Limit: svc.Settings().MaxConnections, Idle: m.Idle(), Shared: m.Muxes(), Streams: m.Streams(),
		Source: m.Source, Node: m.Node, Zone: m.Zone, Tags: m.Tags, Meta: m.Meta,
		Health: admin.HealthView{From: "nothing", Source: m.Status},
	}
	if m.Status != "" {
		v.Health.From = "discovery"
	}
	held := m.Suspicion()
	if held.Failures > 0 {
		v.Health.Suspicion = &admin.SuspicionView{Failures: held.Failures, Since: now.at(held.Since), Until: now.at(held.Until), Reason: held.Reason.String()}
	}
	switch {
	case m.Down():
		v.State, v.Reason = "down", "active check"
	case !outlierView(&v, svc, m, now):
	case held.Until > now.nanos:
		v.State, v.Reason, v.Since = "suspect", "connections to it failed", v.Health.Suspicion.Since
		v.Health.From = "connections"
	}
	if peers := svc.Expected(m); peers != "" {
		v.SPIFFEIDs = []string{peers}
	}
	return v
}

// checkedView adds what the active check knows.
func checkedView(v *admin.EndpointView, c *health.Status) {
	if c.At.IsZero() {
		return
	}
	v.Check = &admin.CheckView{At: c.At, OK: c.OK, Detail: c.Result, DurationSeconds: c.Duration.Seconds()}
	if v.State == "up" || v.State == "down" {
		v.Since, v.Health.From = c.Since, "check"
	}
}

func originView(o *discovery.Origin, now time.Time) *admin.OriginView {
	st := &o.Source
	v := &admin.OriginView{
		Source: st.From, Position: o.Position, Via: st.Via, Index: st.Index,
		Since: o.Since, AgeSeconds: now.Sub(o.Since).Round(time.Millisecond).Seconds(), ConfirmedAt: st.Success,
		Stale: st.Err != nil, StaleSince: st.ErrSince, Error: errorText(st.Err), Also: o.Also,
	}
	return v
}

func sourceViews(sources []discovery.SourceStatus) []admin.SourceView {
	var all []admin.SourceView
	for _, st := range sources {
		all = append(all, admin.SourceView{
			Source: st.From, Via: st.Via, Known: st.Known, Endpoints: st.Endpoints, Index: st.Index,
			ChangedAt: st.Changed, ConfirmedAt: st.Success,
			StaleSince: st.ErrSince, Failures: st.Failures, Error: errorText(st.Err), Ended: st.Ended,
		})
	}
	return all
}

// weightInRotation is the sum of those that take new traffic.
func weightInRotation(svc *upstream.Service, members []upstream.Member, now int64) (sum int) {
	for i := range members {
		if m := &members[i]; !m.Down() && !m.Suspect(now) && !svc.Passed(m.Endpoint, now) {
			sum += m.Weight
		}
	}
	return sum
}

// rotation says whether new traffic goes to the endpoint, and why.
func rotation(v *admin.EndpointView, sum int) {
	switch {
	case v.State == "down":
		v.Rotation = "out: the active check fails"
		if v.Check != nil {
			v.Rotation += ": " + v.Check.Detail
		}
	case v.Weight == 0:
		v.Rotation = "out: its weight is 0"
	case v.State == stateOpen:
		v.Rotation = fmt.Sprintf("out: its breaker is open until %s, after %s in a row", clockTime(v.Breaker.Until), failures(v.Breaker.Failures))
	case v.State == stateEjected:
		v.Rotation = fmt.Sprintf("out: ejected until %s, %s", clockTime(v.Ejection.Until), whyEjected(v.Ejection))
	case v.State == "suspect":
		held := v.Health.Suspicion
		v.Rotation = fmt.Sprintf("passed over until %s while another is left: %s, %d in a row",
			clockTime(held.Until), held.Reason, held.Failures)
	case v.Limit > 0 && v.InUse >= v.Limit && v.Shared == 0:
		v.Rotation = fmt.Sprintf("full: %d of %d connections are in use", v.InUse, v.Limit)
	case v.Limit > 0 && v.InUse >= v.Limit:
		v.InRotation, v.Rotation = true, fmt.Sprintf("in, for streams of shared connections: %d of %d connections are in use", v.InUse, v.Limit)
	default:
		v.InRotation, v.Rotation = true, fmt.Sprintf("in: weight %d of %d", v.Weight, sum)
	}
	if v.InRotation {
		v.Rotation += partly(v)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
