package accesslog

import (
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/observability"
)

// appendJSON appends one object and a line end. Members of text that is empty are
// left out; numbers, time, direction, protocol and listener always stand.
func (p *producer) appendJSON(dst []byte, r *observability.Record) []byte {
	dst = append(dst, `{"time":"`...)
	dst = p.appendTime(dst, r.Start)
	dst = append(dst, `","direction":"`...)
	dst = append(dst, directionOf(r)...)
	dst = append(dst, `","protocol":"`...)
	dst = appendEscaped(dst, r.Protocol)
	dst = append(dst, `","listener":"`...)
	dst = appendClipped(dst, r.Listener, valueLimit)
	dst = append(dst, '"')
	dst = appendMember(dst, "route", r.Route, valueLimit)
	dst = appendMember(dst, "service", r.Service, valueLimit)
	dst = appendMember(dst, "endpoint", r.Endpoint, valueLimit)
	dst = appendRequest(dst, r)
	dst = appendNumber(dst, "status", int64(r.Status))
	dst = appendFailure(dst, r)
	dst = appendPhases(dst, r)
	dst = appendNumber(dst, "bytes_in", r.BytesIn)
	dst = appendNumber(dst, "bytes_out", r.BytesOut)
	dst = appendNumber(dst, "attempts", int64(r.Attempts))
	if r.Client.IsValid() || r.Unix {
		dst = append(dst, `,"client":"`...)
		dst = appendAddr(dst, r)
		dst = append(dst, '"')
	}
	dst = appendMember(dst, "peer_id", r.PeerID, targetLimit)
	dst = appendMember(dst, "endpoint_id", r.EndpointID, targetLimit)
	dst = appendMember(dst, "request_id", r.RequestID, valueLimit)
	dst = appendMember(dst, "user_agent", r.UserAgent, valueLimit)
	return append(dst, "}\n"...)
}

func appendRequest(dst []byte, r *observability.Record) []byte {
	dst = appendMember(dst, "method", r.Method, valueLimit)
	if len(r.Authority) > 0 {
		dst = append(dst, `,"authority":"`...)
		dst = appendAuthority(dst, r.Authority, authorityLimit)
		dst = append(dst, '"')
	}
	if len(r.Path) > 0 {
		dst = append(dst, `,"path":"`...)
		dst = appendTarget(dst, r.Path, targetLimit)
		dst = append(dst, '"')
	}
	return dst
}

func appendFailure(dst []byte, r *observability.Record) []byte {
	reason, side, cause := failure(r)
	dst = appendMember(dst, "reason", reason, valueLimit)
	dst = appendMember(dst, "side", side, valueLimit)
	return appendMember(dst, "error", cause, errorLimit)
}

func appendPhases(dst []byte, r *observability.Record) []byte {
	dst = append(dst, `,"duration_ms":{"request_head":`...)
	dst = appendMillis(dst, r.RequestHead)
	dst = appendPhase(dst, "connect", r.Connect)
	dst = appendPhase(dst, "response_head", r.ResponseHead)
	dst = appendPhase(dst, "total", r.Total)
	return append(dst, '}')
}

func appendPhase(dst []byte, name string, d time.Duration) []byte {
	return appendMillis(appendName(dst, name), d)
}

func appendNumber(dst []byte, name string, n int64) []byte {
	return strconv.AppendInt(appendName(dst, name), n, 10)
}

// appendMember appends a text member unless it is empty.
func appendMember[S []byte | string](dst []byte, name string, value S, limit int) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(appendName(dst, name), '"')
	dst = appendClipped(dst, value, limit)
	return append(dst, '"')
}

func appendName(dst []byte, name string) []byte {
	dst = append(dst, ',', '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}
