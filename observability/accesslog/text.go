package accesslog

import (
	"net/netip"
	"strconv"

	"github.com/larboard-proxy/larboard/observability"
)

// appendText appends one line for human readers:
//
//	time listener status total method authority+path -> service endpoint key=value...
//
// with the first columns aligned. Columns that have no value hold a dash.
func (p *producer) appendText(dst []byte, r *observability.Record) []byte {
	dst = p.appendTime(dst, r.Start)
	dst = appendColumn(dst, r.Listener, 12)
	dst = append(dst, ' ')
	if r.Status > 0 {
		dst = strconv.AppendInt(dst, int64(r.Status), 10)
	} else {
		dst = append(dst, "---"...)
	}
	dst = appendTotal(dst, r)
	dst = appendColumn(dst, r.Method, 7)
	dst = append(dst, ' ')
	dst = appendAuthority(dst, r.Authority, authorityLimit)
	dst = appendTarget(dst, r.Path, targetLimit)
	if len(r.Authority)+len(r.Path) == 0 {
		dst = append(dst, r.Protocol...)
	}
	dst = append(dst, " ->"...)
	dst = appendColumn(dst, r.Service, 0)
	dst = appendColumn(dst, r.Endpoint, 0)
	return append(appendPairs(dst, r), '\n')
}

// appendTotal appends the total duration, flush right in its column.
func appendTotal(dst []byte, r *observability.Record) []byte {
	const width = 10
	dst = append(dst, ' ')
	start := len(dst)
	dst = appendMillis(dst, r.Total)
	if pad := width - (len(dst) - start); pad > 0 {
		n := len(dst)
		dst = append(dst, "          "[:pad]...)
		copy(dst[start+pad:], dst[start:n])
		for i := range pad {
			dst[start+i] = ' '
		}
	}
	return append(dst, "ms"...)
}

func appendPairs(dst []byte, r *observability.Record) []byte {
	reason, side, cause := failure(r)
	dst = appendPair(dst, "reason", reason, valueLimit)
	dst = appendPair(dst, "side", side, valueLimit)
	dst = appendPair(dst, "error", cause, errorLimit)
	dst = append(dst, " in="...)
	dst = strconv.AppendInt(dst, r.BytesIn, 10)
	dst = append(dst, " out="...)
	dst = strconv.AppendInt(dst, r.BytesOut, 10)
	if r.Attempts > 1 {
		dst = append(dst, " attempts="...)
		dst = strconv.AppendInt(dst, int64(r.Attempts), 10)
	}
	if r.Client.IsValid() || r.Unix {
		dst = append(dst, " client="...)
		dst = appendAddr(dst, r)
	}
	dst = appendPair(dst, "peer", r.PeerID, targetLimit)
	dst = appendPair(dst, "endpoint_id", r.EndpointID, targetLimit)
	return appendPair(dst, "id", r.RequestID, valueLimit)
}

// appendColumn appends a blank and the value padded to width.
func appendColumn[S []byte | string](dst []byte, value S, width int) []byte {
	dst = append(dst, ' ')
	start := len(dst)
	if len(value) == 0 {
		dst = append(dst, '-')
	}
	dst = appendClipped(dst, value, valueLimit)
	for len(dst) < start+width {
		dst = append(dst, ' ')
	}
	return dst
}

// appendPair appends a blank and key="value" unless the value is empty.
func appendPair[S []byte | string](dst []byte, key string, value S, limit int) []byte {
	if len(value) == 0 {
		return dst
	}
	dst = append(dst, ' ')
	dst = append(dst, key...)
	dst = append(dst, '=', '"')
	dst = appendClipped(dst, value, limit)
	return append(dst, '"')
}

// appendAddr appends the client's address without its zone, or unix.
func appendAddr(dst []byte, r *observability.Record) []byte {
	if r.Unix {
		return append(dst, "unix"...)
	}
	return netip.AddrPortFrom(r.Client.Addr().WithZone("").Unmap(), r.Client.Port()).AppendTo(dst)
}
