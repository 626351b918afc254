package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Rate limits: a request is asked for once, however many attempts it takes, by the limits of its
// listener, its route and its service together. All have to allow it, and where one does not, none
// of the others has lost anything.
//
// Cost: without limits nothing; with them what limit.Take costs, and no allocation
// (TestLimitsAllocateNothing).

// RateLimit is one limit of requests or of connections.
type RateLimit struct {
	Limit *limit.Limit
	By    By
	// V4 and V6 are how many bits of an address count, with BySource.
	V4, V6 int
	// Field is the name of the header or of the query's key.
	Field string

	denied *policy.Error
}

// By is what has a bucket of its own.
type By uint8

// The keys. Where there is none (no address, no identity, no such field, or several of it)
// the request takes from the one bucket of all those that have none.
const (
	ByAll By = iota
	BySource
	ByIdentity
	ByHeader
	ByQuery
)

// errLimited names the limit in logs.
type errLimited string

func (e errLimited) Error() string { return fmt.Sprintf("limit %q", string(e)) }

// NewRateLimit returns r ready for use.
func NewRateLimit(r RateLimit) RateLimit {
	r.denied = &policy.Error{Reason: policy.RateLimited, Side: policy.Downstream, Phase: policy.PhaseRoute, Err: errLimited(r.Limit.Name())}
	return r
}

// Limits is the step that asks them.
type Limits struct {
	limits []RateLimit // in the order of limit.Sort, which is that of their claims
	shared []Shared
	fields LimitFields
	policy string // what the fields say of all limits, once and for all
}

// NewLimits returns the step of one route. No limit is given twice.
func NewLimits(limits []RateLimit, shared []Shared, fields LimitFields) *Limits {
	s := &Limits{shared: shared, fields: fields, policy: policyOf(limits)}
	var order []*limit.Limit
	for _, r := range limits {
		order = append(order, r.Limit)
	}
	for _, l := range limit.Sort(order) {
		for _, r := range limits {
			if r.Limit == l {
				s.limits = append(s.limits, NewRateLimit(r))
			}
		}
	}
	return s
}

// String lists the limits with their keys.
func (s *Limits) String() string {
	var all []string
	for _, r := range s.limits {
		by := [...]string{"all", fmt.Sprintf("source/%d/%d", r.V4, r.V6), "identity", "header " + r.Field, "query " + r.Field}[r.By]
		all = append(all, r.Limit.Name()+" by "+by)
	}
	for _, q := range s.shared {
		all = append(all, q.Name+" shared")
	}
	return strings.Join(all, ", ")
}

// Request implements Step.
func (s *Limits) Request(x *Exchange) error {
	x.limited = limited{}
	if len(s.limits) > 0 {
		if err := s.take(x); err != nil {
			return err
		}
	}
	if len(s.shared) == 0 {
		return nil
	}
	err := s.askShared(x)
	if err != nil && len(s.limits) > 0 {
		limit.GiveBack(x.loop.loop.Nanos(), x.claims)
	}
	return err
}

// take asks the limits that are this proxy's own.
func (s *Limits) take(x *Exchange) error {
	x.claims = x.claims[:0]
	for i := range s.limits {
		r := &s.limits[i]
		x.claims = append(x.claims, limit.Claim{Limit: r.Limit, Key: r.key(x)})
	}
	v := limit.Take(x.loop.loop.Nanos(), x.claims)
	r := &s.limits[v.Claim]
	x.limited = limited{step: s, name: r.Limit.Name(), size: v.Limit, remaining: v.Remaining, reset: v.Reset, wait: v.Wait}
	if v.Allowed {
		return nil
	}
	x.loop.proxy.meter.Limited(x.loop.index, x.conf.Name, r.Limit.Name())
	return r.denied
}

// Response implements Step.
func (s *Limits) Response(x *Exchange) error {
	x.limited.addTold(&x.Resp)
	if s.fields.When == LimitFieldsAlways {
		x.limited.add(&x.Resp)
	}
	return nil
}

// key is whose bucket a request takes from.
func (r *RateLimit) key(x *Exchange) limit.Key {
	switch r.By {
	case BySource:
		return r.source(x.Down.client().Addr())
	case ByIdentity:
		if id := x.Down.PeerID(); id != "" {
			return r.Limit.HashString(id)
		}
	case ByHeader:
		if value := onlyField(&x.Req, r.Field); len(value) > 0 {
			return r.Limit.Hash(value)
		}
	case ByQuery:
		var value []byte
		if value, x.text = onlyQuery(x.Req.PathBytes(), r.Field, x.text); len(value) > 0 {
			return r.Limit.Hash(value)
		}
	default:
		return limit.Everybody
	}
	return limit.Nobody
}

func (r *RateLimit) source(a netip.Addr) limit.Key { return r.Limit.Source(a, r.V4, r.V6) }

// onlyField is the value of a field that is there once. Of several one would have to be the one
// that the endpoint believes, and a client could turn it as it likes.
func onlyField(h *message.Head, name string) []byte {
	var value []byte
	id, fields, n := message.IDOf(name), h.Fields(), 0
	for i := range fields {
		f := &fields[i]
		if f.ID != id || f.Deleted() || id == message.NameOther && !message.EqualFold(h.Bytes(f.Name), name) {
			continue
		}
		value = h.Bytes(f.Value)
		n++
	}
	if n != 1 {
		return nil
	}
	return value
}

// mayConnect asks the listener's connection rate about a client.
func (l *Listener) mayConnect(s *loopState, conf *ListenerConfig, client netip.Addr) bool {
	r := conf.ConnectionRate
	if r == nil {
		return true
	}
	k := limit.Everybody
	if r.By == BySource {
		k = r.source(client)
	}
	if limit.Take(s.loop.Nanos(), []limit.Claim{{Limit: r.Limit, Key: k}}).Allowed {
		return true
	}
	l.proxy.meter.Limited(s.index, l.name, r.Limit.Name())
	return false
}

var errConnectionRate = errors.New("connections come too fast")

// errTooFast is the error of a connection that may not be.
func errTooFast() error {
	return &policy.Error{Reason: policy.ConnectionRate, Side: policy.Downstream, Phase: policy.PhaseAccept, Err: errConnectionRate}
}

// tooFast ends a connection for which nothing has been done yet.
func (l *Listener) tooFast(s *loopState, c *engine.Conn) {
	err := errTooFast()
	l.proxy.meter.Refused(s.index, l.name, policy.ConnectionRate)
	l.proxy.refusals.log("connection refused", l.name, err, "listener", l.name, "client", c.RemoteName())
	s.witness(l, err, c.Remote(), c.Unix(), "")
	c.Close()
}
