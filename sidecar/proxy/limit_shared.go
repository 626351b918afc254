package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// Limits that several proxies share are a rate limit service's, which is asked over the network
// after this proxy's own limits have let the request pass.

// Quota asks such a service.
type Quota interface {
	// Known tells what is known of a question without asking: that it is over a limit until later.
	// Called on a loop; it must not block.
	Known(q *Question) (Answer, bool)
	// Ask asks. Called on a goroutine of its own; it returns when it has an answer, when its time
	// is over, or when ctx ends. Errors: ErrQuotaTime where the time was over, or any other.
	Ask(ctx context.Context, q *Question) (Answer, error)
	// Calls bounds how many are asked at once over all loops.
	Calls() *engine.Sem
	// FailOpen: a request passes where there is no answer.
	FailOpen() bool
}

// ErrQuotaTime: the rate limit service has not answered in time.
var ErrQuotaTime = errors.New("no answer in time")

// Question is what is asked about one request. It is not changed once it was asked.
type Question struct {
	Domain      string
	Descriptors []Descriptor
	Hits        uint32 // what the request counts for
}

// Descriptor says what the request is in one respect; the service may have a limit for it.
type Descriptor []Pair

// Pair is a key and its value.
type Pair struct{ Key, Value string }

// Answer is what the service says.
type Answer struct {
	OverLimit bool
	// Limit, Remaining and Reset tell of the limit that is nearest; Limit is 0 where it told none.
	Limit, Remaining int
	Reset            time.Duration
	// ToUpstream and ToClient are fields to be added to the request and to its answer.
	ToUpstream, ToClient []Pair
}

// Shared is one limit of the service.
type Shared struct {
	Name   string
	Quota  Quota
	Domain string
	Hits   uint32
	Ask    []SharedDescriptor
}

// SharedDescriptor is how one descriptor is made of a request. Where an entry has no value, for
// want of the field or the identity, the whole descriptor is left out.
type SharedDescriptor []SharedEntry

// SharedEntry is one pair of a descriptor.
type SharedEntry struct {
	Key   string
	Value string // with FromText
	From  EntryFrom
	Field string // of FromHeader and FromQuery
}

// EntryFrom is where the value of a pair comes from.
type EntryFrom uint8

// The origins.
const (
	FromText EntryFrom = iota
	FromPath           // without the query
	FromMethod
	FromAuthority
	FromSource // the client's address
	FromIdentity
	FromListener
	FromRoute
	FromService
	FromHeader
	FromQuery
)

// What became of a question, for metrics.
const (
	quotaOK        = "ok"
	quotaOverLimit = "over_limit"
	quotaKnown     = "known" // to be over a limit; not asked
	quotaError     = "error"
	quotaTimeout   = "timeout"
	quotaBusy      = "busy" // too many are asked already
)

// askShared asks the limits that are shared, one after the other. Parks.
func (s *Limits) askShared(x *Exchange) error {
	for i := range s.shared {
		if err := s.askOne(x, &s.shared[i]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Limits) askOne(x *Exchange, limit *Shared) error {
	q := limit.question(x)
	if q == nil {
		return nil
	}
	proxy, loop := x.loop.proxy, x.loop.index
	answer, known := limit.Quota.Known(q)
	result := quotaKnown
	if !known {
		var err error
		answer, err = engine.Offload(x.task, limit.Quota.Calls(), func(ctx context.Context) (Answer, error) { return limit.Quota.Ask(ctx, q) })
		if err != nil {
			if x.task.Err() != nil { // it was cancelled, which is no failure of the service
				return x.blame(err)
			}
			proxy.meter.Quota(loop, resultOf(err))
			if limit.Quota.FailOpen() {
				return nil
			}
			return &policy.Error{Reason: policy.QuotaUnavailable, Phase: policy.PhaseRoute, Err: err}
		}
		if result = quotaOK; answer.OverLimit {
			result = quotaOverLimit
		}
	}
	proxy.meter.Quota(loop, result)
	x.limited.hear(s, limit.Name, &answer)
	if answer.OverLimit {
		proxy.meter.Limited(loop, x.conf.Name, limit.Name)
		return &policy.Error{Reason: policy.RateLimited, Side: policy.Downstream, Phase: policy.PhaseRoute, Err: errLimited(limit.Name)}
	}
	for _, p := range answer.ToUpstream {
		x.Req.SetString(message.NameOther, p.Key, p.Value)
	}
	return nil
}

func resultOf(err error) string {
	switch {
	case errors.Is(err, ErrQuotaTime):
		return quotaTimeout
	case errors.Is(err, engine.ErrOverload):
		return quotaBusy
	}
	return quotaError
}

// hear takes up what the service says where it is nearer to refusing than what was known, or has
// refused.
func (l *limited) hear(s *Limits, name string, a *Answer) {
	l.toClient = append(l.toClient, a.ToClient...)
	if !a.OverLimit && (a.Limit == 0 || l.step != nil && l.remaining <= a.Remaining) {
		return
	}
	l.step, l.name, l.size, l.remaining, l.reset, l.wait = s, name, a.Limit, a.Remaining, a.Reset, 0
	if a.OverLimit {
		l.remaining, l.wait = 0, max(a.Reset, 1)
	}
}

// question is what is asked about x; nil: nothing.
func (s *Shared) question(x *Exchange) *Question {
	q := &Question{Domain: s.Domain, Hits: s.Hits}
	for _, entries := range s.Ask {
		d := make(Descriptor, 0, len(entries))
		for i := range entries {
			value, ok := entries[i].of(x)
			if !ok {
				break
			}
			d = append(d, Pair{entries[i].Key, value})
		}
		if len(d) == len(entries) {
			q.Descriptors = append(q.Descriptors, d)
		}
	}
	if len(q.Descriptors) == 0 {
		return nil
	}
	return q
}

// maxEntry bounds a value, so that what is asked stays small whatever a client sends.
const maxEntry = 1024

// of is the entry's value of x.
func (e *SharedEntry) of(x *Exchange) (string, bool) {
	var value []byte
	switch e.From {
	case FromText:
		return e.Value, true
	case FromPath:
		value = pathOf(x.Req.PathBytes())
	case FromMethod:
		value = x.Req.MethodBytes()
	case FromAuthority:
		value = x.Req.AuthorityBytes()
	case FromSource:
		if a := x.Down.client().Addr(); a.IsValid() {
			return a.Unmap().WithZone("").String(), true
		}
	case FromIdentity:
		id := x.Down.PeerID()
		return id, id != ""
	case FromListener:
		return x.conf.Name, true
	case FromRoute:
		return x.Route.Name, true
	case FromService:
		return x.Route.Service.Name, true
	case FromHeader:
		value = onlyField(&x.Req, e.Field)
	case FromQuery:
		value, x.text = onlyQuery(x.Req.PathBytes(), e.Field, x.text)
	}
	return string(value[:min(len(value), maxEntry)]), len(value) > 0
}

// pathOf is a path without its query.
func pathOf(target []byte) []byte {
	for i, c := range target {
		if c == '?' {
			return target[:i]
		}
	}
	return target
}
