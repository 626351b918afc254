package accesslog

import (
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/policy"
)

// How many bytes of a value a line holds at most; what is longer is cut and ends
// with an ellipsis.
const (
	targetLimit    = 2048
	authorityLimit = 256
	valueLimit     = 256
	errorLimit     = 512
)

// producer is what one loop needs to make its lines; all but the ring's far side is
// owned by the loop.
type producer struct {
	ring *ring
	line []byte // reused

	second int64 // Unix time that stamp was made of
	stamp  []byte
}

func newProducer(ringBytes int) *producer {
	return &producer{
		ring:   newRing(ringBytes),
		line:   make([]byte, 0, 2048),
		second: -1 << 63,
		stamp:  make([]byte, 0, 32),
	}
}

func (p *producer) appendLine(dst []byte, f Format, r *observability.Record) []byte {
	if f == Text {
		return p.appendText(dst, r)
	}
	return p.appendJSON(dst, r)
}

// appendTime appends t in UTC as RFC 3339 with milliseconds. The part up to the
// second is made once a second.
func (p *producer) appendTime(dst []byte, t time.Time) []byte {
	if s := t.Unix(); s != p.second {
		p.second = s
		p.stamp = t.UTC().AppendFormat(p.stamp[:0], "2006-01-02T15:04:05.")
	}
	ms := t.Nanosecond() / int(time.Millisecond)
	dst = append(dst, p.stamp...)
	return append(dst, byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10), 'Z')
}

// appendMillis appends d in milliseconds with three decimals.
func appendMillis(dst []byte, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	dst = strconv.AppendInt(dst, us/1000, 10)
	us %= 1000
	return append(dst, '.', byte('0'+us/100), byte('0'+us/10%10), byte('0'+us%10))
}

func directionOf(r *observability.Record) string {
	if r.Inbound {
		return "inbound"
	}
	return "outbound"
}

// failure returns what to say of an exchange that did not run to its end.
func failure(r *observability.Record) (reason, side, cause string) {
	if r.Reason == policy.None {
		return "", "", ""
	}
	if r.Err != nil {
		cause = r.Err.Error()
	}
	return r.Reason.String(), r.Side.String(), cause
}
