package proxy

import (
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What answers say of rate limits: Retry-After (RFC 9110 section 10.2.3) on those that a limit
// has refused, and the fields that tell clients where they stand. Those are, by default,
// RateLimit and RateLimit-Policy as draft-ietf-httpapi-ratelimit-headers-10 has them. A bucket is
// told as a quota (q) of as many requests as it holds, in the time (w) in which it fills: a client
// that keeps to this is never refused.

// LimitFields says which answers have which fields.
type LimitFields struct {
	When LimitFieldsWhen
	Form LimitFieldsForm
}

// LimitFieldsWhen is which answers have them.
type LimitFieldsWhen uint8

// The answers.
const (
	LimitFieldsDenied LimitFieldsWhen = iota // those that a limit has refused
	LimitFieldsAlways                        // these, and those that it let pass
	LimitFieldsNever                         // none; Retry-After stays
)

// LimitFieldsForm is how they look.
type LimitFieldsForm uint8

// The forms.
const (
	RateLimitForm  LimitFieldsForm = iota // RateLimit-Policy: "name";q=50;w=1 and RateLimit: "name";r=49;t=1
	TrioForm                              // RateLimit-Limit, -Remaining and -Reset of the draft's versions up to 06
	XRateLimitForm                        // the same with X- before it
)

// limited is where the client of an exchange stands: what the limit says that is nearest to
// refusing it, or has. The zero value: nobody was asked.
type limited struct {
	step      *Limits
	name      string
	size      int // of the bucket
	remaining int
	reset     time.Duration // until it is full
	wait      time.Duration // until the next request may pass; 0: it was allowed

	toClient []Pair // what the rate limit service adds to the answer
}

// addRefused adds what an answer says that a limit has made.
func (l *limited) addRefused(h *message.Head) {
	var text [20]byte
	h.Add(message.NameRetryAfter, "", strconv.AppendInt(text[:0], max(wholeSeconds(l.wait), 1), 10))
	l.addTold(h)
	if l.step != nil && l.step.fields.When != LimitFieldsNever {
		l.add(h)
	}
}

// addTold adds what the rate limit service has told to add.
func (l *limited) addTold(h *message.Head) {
	for _, p := range l.toClient {
		h.SetString(message.NameOther, p.Key, p.Value)
	}
}

// add adds the fields.
func (l *limited) add(h *message.Head) {
	if l.step == nil {
		return
	}
	var text [192]byte
	switch l.step.fields.Form {
	case RateLimitForm:
		if policy := l.step.policy; policy != "" {
			h.Append(message.NameOther, "ratelimit-policy", append(text[:0], policy...))
		}
		t := append(text[:0], '"')
		t = append(t, l.name...)
		t = append(t, `";r=`...)
		t = strconv.AppendInt(t, int64(l.remaining), 10)
		t = append(t, ";t="...)
		h.Append(message.NameOther, "ratelimit", strconv.AppendInt(t, l.next(), 10))
	case TrioForm:
		l.addTrio(h, "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset")
	default:
		l.addTrio(h, "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset")
	}
}

// addTrio leaves alone what the endpoint says of limits of its own: there is place for one.
func (l *limited) addTrio(h *message.Head, size, remaining, reset string) {
	if _, there := h.Lookup(size); there {
		return
	}
	var text [20]byte
	h.Add(message.NameOther, size, strconv.AppendInt(text[:0], int64(l.size), 10))
	h.Add(message.NameOther, remaining, strconv.AppendInt(text[:0], int64(l.remaining), 10))
	h.Add(message.NameOther, reset, strconv.AppendInt(text[:0], l.next(), 10))
}

// next is when there will be more, in seconds: something where there is nothing left, else all.
func (l *limited) next() int64 {
	if l.wait > 0 {
		return wholeSeconds(l.wait)
	}
	return wholeSeconds(l.reset)
}

// wholeSeconds rounds up.
func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// policyOf is RateLimit-Policy of some limits.
func policyOf(all []RateLimit) string {
	var text []byte
	for i, r := range all {
		if i > 0 {
			text = append(text, ", "...)
		}
		d := r.Limit.Definition()
		text = append(text, '"')
		text = append(text, r.Limit.Name()...)
		text = append(text, `";q=`...)
		text = strconv.AppendInt(text, int64(d.Burst), 10)
		text = append(text, ";w="...)
		text = strconv.AppendInt(text, wholeSeconds(d.Fill()), 10)
	}
	return string(text)
}
