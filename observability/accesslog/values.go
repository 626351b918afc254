package accesslog

import (
	"net/netip"
	"os"
	"strconv"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
	"github.com/larboard-proxy/larboard/policy"
)

// How many bytes of a value a line holds at most unless the template says otherwise; what is
// longer is cut and, where the format is not ASCII alone, ends with an ellipsis.
const (
	targetLimit    = 2048
	authorityLimit = 256
	valueLimit     = 256
	errorLimit     = 512
)

// maker makes the appender of a value for a template.
type maker func(*compiler, *template.Part) appender

// makers are those of template.Fields, by name.
var makers = map[string]maker{
	"time":             makeTime,
	"direction":        text(valueLimit, directionOf),
	"protocol":         text(valueLimit, func(r *observability.Record) string { return r.Protocol }),
	"version":          text(valueLimit, versionOf),
	"listener":         text(valueLimit, func(r *observability.Record) string { return r.Listener }),
	"tls":              makeTLS,
	"detected":         text(valueLimit, func(r *observability.Record) string { return r.Detected }),
	"route":            text(valueLimit, func(r *observability.Record) string { return r.Route }),
	"service":          makeService,
	"endpoint":         text(valueLimit, func(r *observability.Record) string { return r.Endpoint }),
	"method":           text(valueLimit, func(r *observability.Record) []byte { return r.Method }),
	"authority":        makeAuthority,
	"path":             makePath,
	"path.bare":        makeBarePath,
	"target":           makeTarget,
	"request":          makeRequest,
	"status":           unlessZero(func(r *observability.Record) int64 { return int64(r.Status) }),
	"grpc_status":      text(valueLimit, func(r *observability.Record) string { return r.GRPC.String() }),
	"reason":           text(valueLimit, reasonOf),
	"side":             text(valueLimit, sideOf),
	"error":            text(errorLimit, causeOf),
	"termination":      text(valueLimit, func(r *observability.Record) string { return r.Reason.Info().Termination }),
	"ms.request_head":  millis(func(r *observability.Record) time.Duration { return r.RequestHead }),
	"ms.queue":         millis(func(r *observability.Record) time.Duration { return r.Queue }),
	"ms.connect":       millis(func(r *observability.Record) time.Duration { return r.Connect }),
	"ms.response_head": millis(func(r *observability.Record) time.Duration { return r.ResponseHead }),
	"ms.total":         millis(func(r *observability.Record) time.Duration { return r.Total }),
	"timer.request":    integer(requestTimer),
	"timer.queue":      integer(queueTimer),
	"timer.connect":    integer(connectTimer),
	"timer.response":   integer(responseTimer),
	"timer.total":      integer(func(r *observability.Record) int64 { return wholeMillis(r.Total) }),
	"bytes_in":         integer(func(r *observability.Record) int64 { return r.BytesIn }),
	"bytes_out":        integer(func(r *observability.Record) int64 { return r.BytesOut }),
	"attempts":         integer(func(r *observability.Record) int64 { return int64(r.Attempts) }),
	"retries":          makeRetries,
	"tries":            makeTries,
	"client":           makeClient,
	"client.ip":        makeClientIP,
	"client.port":      makeClientPort,
	"peer_id":          text(targetLimit, func(r *observability.Record) string { return r.PeerID }),
	"endpoint_id":      text(targetLimit, func(r *observability.Record) string { return r.EndpointID }),
	"request_id":       text(valueLimit, func(r *observability.Record) []byte { return r.RequestID }),
	"user_agent":       text(valueLimit, func(r *observability.Record) []byte { return r.UserAgent }),
	"trace_id":         hexadecimal(func(r *observability.Record) []byte { return r.Trace.TraceID[:] }),
	"span_id":          hexadecimal(func(r *observability.Record) []byte { return r.Trace.SpanID[:] }),
	"active.process":   integer(func(r *observability.Record) int64 { return r.Active.Process }),
	"active.listener":  integer(func(r *observability.Record) int64 { return r.Active.Listener }),
	"active.service":   makeActive(func(r *observability.Record) int64 { return r.Active.Service }),
	"active.endpoint":  makeActive(func(r *observability.Record) int64 { return r.Active.Endpoint }),
	"req.header":       makeHeader(observability.Fields.RequestField),
	"resp.header":      makeHeader(observability.Fields.ResponseField),
	"req.captures":     makeCaptures(observability.Fields.RequestField, func(c *Captures) []Capture { return c.Request }),
	"resp.captures":    makeCaptures(observability.Fields.ResponseField, func(c *Captures) []Capture { return c.Response }),
	"host":             fixed(hostName),
	"pid":              fixed(func() string { return strconv.Itoa(os.Getpid()) }),
}

// text makes the maker of a text of the record, which is escaped and cut.
func text[S []byte | string](limit int, get func(*observability.Record) S) maker {
	return func(c *compiler, p *template.Part) appender {
		escape, limit := c.escape, limitOf(p, limit)
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			return appendClipped(dst, get(r), limit, escape)
		}
	}
}

// limitOf is the length that the template gives the value, or its own.
func limitOf(p *template.Part, standard int) int {
	if arg, ok := p.Modifier("max"); ok {
		return number(arg)
	}
	return standard
}

func integer(get func(*observability.Record) int64) maker {
	return func(*compiler, *template.Part) appender {
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			return strconv.AppendInt(dst, get(r), 10)
		}
	}
}

// makeActive makes counts of exchanges, without the record's own where the template says so.
func makeActive(get func(*observability.Record) int64) maker {
	return func(_ *compiler, p *template.Part) appender {
		own := int64(len(p.Args))
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			return strconv.AppendInt(dst, max(get(r)-own, 0), 10)
		}
	}
}

// unlessZero is integer with an empty value for zero.
func unlessZero(get func(*observability.Record) int64) maker {
	return func(*compiler, *template.Part) appender {
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			if n := get(r); n != 0 {
				return strconv.AppendInt(dst, n, 10)
			}
			return dst
		}
	}
}

func millis(get func(*observability.Record) time.Duration) maker {
	return func(*compiler, *template.Part) appender {
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			return appendMillis(dst, get(r))
		}
	}
}

// hexadecimal is empty where all bytes are zero.
func hexadecimal(get func(*observability.Record) []byte) maker {
	return func(*compiler, *template.Part) appender {
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			id := get(r)
			for _, b := range id {
				if b != 0 {
					return appendHex(dst, id)
				}
			}
			return dst
		}
	}
}

func appendHex(dst, id []byte) []byte {
	for _, b := range id {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}

// fixed is a value that does not change while the process lives.
func fixed(get func() string) maker {
	return func(c *compiler, p *template.Part) appender {
		value := string(appendClipped(nil, get(), limitOf(p, valueLimit), c.escape))
		return func(dst []byte, _ *producer, _ *observability.Record) []byte { return append(dst, value...) }
	}
}

func hostName() string {
	name, _ := os.Hostname() // empty: shown as a dash
	return name
}

// argument returns the first argument of a value.
func argument(p *template.Part, standard string) string {
	if len(p.Args) == 0 {
		return standard
	}
	return p.Args[0]
}

func makeTime(c *compiler, p *template.Part) appender {
	form := argument(p, template.TimeRFC3339)
	switch form {
	case template.TimeUnix, template.TimeUnixMS:
		return func(dst []byte, _ *producer, r *observability.Record) []byte {
			ms := r.Start.UnixMilli()
			if form == template.TimeUnixMS {
				return strconv.AppendInt(dst, ms, 10)
			}
			return appendThousandths(append(strconv.AppendInt(dst, ms/1000, 10), '.'), int(ms%1000))
		}
	case template.TimeCLF:
		stamp := c.stamp("02/Jan/2006:15:04:05 -0700", true)
		return func(dst []byte, p *producer, r *observability.Record) []byte {
			return p.appendStamp(dst, stamp, r.Start)
		}
	case template.TimeHAProxy:
		stamp := c.stamp("02/Jan/2006:15:04:05.", true)
		return func(dst []byte, p *producer, r *observability.Record) []byte {
			return appendThousandths(p.appendStamp(dst, stamp, r.Start), r.Start.Nanosecond()/1e6)
		}
	}
	stamp := c.stamp("2006-01-02T15:04:05.", false)
	return func(dst []byte, p *producer, r *observability.Record) []byte {
		return append(appendThousandths(p.appendStamp(dst, stamp, r.Start), r.Start.Nanosecond()/1e6), 'Z')
	}
}

// stamp makes room for a time in each producer.
func (c *compiler) stamp(layout string, local bool) int {
	c.format.stamps = append(c.format.stamps, stampForm{layout, local})
	return len(c.format.stamps) - 1
}

func appendThousandths(dst []byte, n int) []byte {
	return append(dst, byte('0'+n/100), byte('0'+n/10%10), byte('0'+n%10))
}

// appendMillis appends d in milliseconds with three decimals.
func appendMillis(dst []byte, d time.Duration) []byte {
	us := max(d, 0).Microseconds()
	dst = strconv.AppendInt(dst, us/1000, 10)
	return appendThousandths(append(dst, '.'), int(us%1000))
}

func makeTLS(_ *compiler, p *template.Part) appender {
	mark := argument(p, "tls")
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if r.TLS {
			return append(dst, mark...)
		}
		return dst
	}
}

func makeService(c *compiler, p *template.Part) appender {
	escape, limit, orListener := c.escape, limitOf(p, valueLimit), len(p.Args) > 0
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		name := r.Service
		if name == "" && orListener {
			name = r.Listener
		}
		return appendClipped(dst, name, limit, escape)
	}
}

func makeRetries(_ *compiler, p *template.Part) appender {
	mark := argument(p, "")
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if n := len(r.Tries); n > 1 && r.Tries[0].Endpoint != r.Tries[n-1].Endpoint {
			dst = append(dst, mark...)
		}
		return strconv.AppendInt(dst, int64(max(r.Attempts-1, 0)), 10)
	}
}

func makeClient(*compiler, *template.Part) appender {
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		switch {
		case r.Unix:
			return append(dst, "unix"...)
		case !r.Client.IsValid():
			return dst
		}
		return netip.AddrPortFrom(plainAddr(r), r.Client.Port()).AppendTo(dst)
	}
}

func makeClientIP(*compiler, *template.Part) appender {
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		switch {
		case r.Unix:
			return append(dst, "unix"...)
		case !r.Client.IsValid():
			return dst
		}
		return plainAddr(r).AppendTo(dst)
	}
}

func makeClientPort(*compiler, *template.Part) appender {
	return func(dst []byte, _ *producer, r *observability.Record) []byte {
		if r.Unix || !r.Client.IsValid() {
			return dst
		}
		return strconv.AppendInt(dst, int64(r.Client.Port()), 10)
	}
}

// plainAddr is the client's address without its zone, which could hold anything.
func plainAddr(r *observability.Record) netip.Addr { return r.Client.Addr().WithZone("").Unmap() }

func directionOf(r *observability.Record) string {
	if r.Inbound {
		return "inbound"
	}
	return "outbound"
}

func versionOf(r *observability.Record) string {
	switch r.Version {
	case "1.0":
		return "HTTP/1.0"
	case "1.1":
		return "HTTP/1.1"
	case "2":
		return "HTTP/2.0"
	}
	return ""
}

func reasonOf(r *observability.Record) string {
	if r.Reason == policy.None {
		return ""
	}
	return r.Reason.String()
}

func sideOf(r *observability.Record) string {
	if r.Reason == policy.None {
		return ""
	}
	return r.Side.String()
}

func causeOf(r *observability.Record) string {
	if r.Reason == policy.None || r.Err == nil {
		return ""
	}
	return r.Err.Error()
}

// failed reports whether an exchange did not end well: the proxy gave a reason, or the answer
// was a 5xx or a gRPC status that speaks against the server.
func failed(r *observability.Record) bool {
	return r.Reason != policy.None || r.Status >= 500 || r.GRPC.Failed()
}
