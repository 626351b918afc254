package accesslog

import (
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
	"github.com/larboard-proxy/larboard/policy"
)

// The timers are HAProxy's, section 8.4 of its manual: whole milliseconds, and -1 for what
// was not reached.

func wholeMillis(d time.Duration) int64 { return int64(max(d, 0) / time.Millisecond) }

// headRead reports whether the exchange came past its request's head.
func headRead(r *observability.Record) bool {
	if r.Protocol == "tcp" || r.Service != "" {
		return true
	}
	switch r.Reason {
	case policy.BadRequest, policy.NotHTTP, policy.BadHost, policy.RequestLineTooLong, policy.HeadTooLarge, policy.RequestTimeout,
		policy.ProxyHeader, policy.ClientAborted, policy.HTTP2HeadBomb:
		return false
	}
	return true
}

func requestTimer(r *observability.Record) int64 {
	if !headRead(r) {
		return -1
	}
	return wholeMillis(r.RequestHead)
}

func queueTimer(r *observability.Record) int64 {
	if len(r.Tries) == 0 {
		return -1
	}
	return wholeMillis(r.Queue)
}

// connectTimer runs from the first attempt to the connection of the last one.
func connectTimer(r *observability.Record) int64 {
	if len(r.Tries) == 0 {
		return -1
	}
	first, last := &r.Tries[0], &r.Tries[len(r.Tries)-1]
	if !connected(last) {
		return -1
	}
	return wholeMillis(last.Start + last.Connect - first.Start)
}

func responseTimer(r *observability.Record) int64 {
	if len(r.Tries) == 0 {
		return -1
	}
	if last := &r.Tries[len(r.Tries)-1]; answered(r) {
		return wholeMillis(last.Head - last.Connect)
	}
	return -1
}

// answered reports whether an endpoint's answer was passed on.
func answered(r *observability.Record) bool {
	if len(r.Tries) == 0 {
		return false
	}
	last := &r.Tries[len(r.Tries)-1]
	return connected(last) && last.Head > 0 && (last.Reason == policy.None || last.Phase > policy.PhaseWait)
}

// connected reports whether an attempt came as far as a connection.
func connected(t *observability.Try) bool {
	return t.Reason == policy.None || t.Phase > policy.PhaseConnect
}

func makeTries(c *compiler, p *template.Part) appender {
	if argument(p, template.FormText) == template.FormJSON {
		return appendTriesJSON
	}
	escape := c.escape
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		return appendTriesText(dst, r, escape)
	}
}

// appendTriesText appends "10.0.0.1:80 connect_failed 1.500ms, 10.0.0.2:80 200 3.000ms".
func appendTriesText(dst []byte, r *observability.Record, escape template.Escape) []byte {
	if len(r.Tries) < 2 {
		return dst
	}
	for i := range r.Tries {
		t := &r.Tries[i]
		if i > 0 {
			dst = append(dst, ", "...)
		}
		dst = append(appendClipped(dst, t.Endpoint, valueLimit, escape), ' ')
		switch {
		case t.Reason != policy.None:
			dst = append(dst, t.Reason.String()...)
		case t.Status > 0:
			dst = strconv.AppendInt(dst, int64(t.Status), 10)
		default:
			dst = append(dst, "ok"...)
		}
		dst = append(appendMillis(append(dst, ' '), t.Total), "ms"...)
	}
	return dst
}

// appendTriesJSON appends a list of objects.
func appendTriesJSON(dst []byte, _ *producer, r *observability.Record) []byte {
	if len(r.Tries) < 2 {
		return dst
	}
	separator := byte('[')
	for i := range r.Tries {
		t := &r.Tries[i]
		dst = append(append(dst, separator), `{"endpoint":"`...)
		dst = append(appendClipped(dst, t.Endpoint, valueLimit, template.EscapeJSON), '"')
		if t.Reason != policy.None {
			dst = append(append(append(dst, `,"reason":"`...), t.Reason.String()...), '"')
		}
		if t.Status > 0 {
			dst = strconv.AppendInt(append(dst, `,"status":`...), int64(t.Status), 10)
		}
		dst = appendMillis(append(dst, `,"start_ms":`...), t.Start)
		dst = appendMillis(append(dst, `,"connect_ms":`...), t.Connect)
		dst = appendMillis(append(dst, `,"head_ms":`...), t.Head)
		dst = append(appendMillis(append(dst, `,"total_ms":`...), t.Total), '}')
		separator = ','
	}
	return append(dst, ']')
}
