package template

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Field is a value that a template can name.
type Field struct {
	Name     string
	Args     string // as the manual shows them; empty: none
	Required bool   // of the arguments
	Meaning  string
	// check judges arguments; an empty message: nothing is wrong. word and known are as
	// in Problem.
	check func(*Part) (message, word string, known []string)
}

// The forms of `time`, and of `req.captures`, `resp.captures` and `tries`.
const (
	TimeRFC3339 = "rfc3339"
	TimeCLF     = "clf"
	TimeHAProxy = "haproxy"
	TimeUnix    = "unix"
	TimeUnixMS  = "unix_ms"

	FormJSON    = "json"
	FormHAProxy = "haproxy"
	FormText    = "text"
)

// MaxFieldLength bounds what a line holds of one value, in bytes.
const MaxFieldLength = 8 << 10

var fields = [...]Field{
	{Name: "time", Args: "form", Meaning: "when the exchange began: `rfc3339` (the default: UTC, milliseconds), `clf` and `haproxy` (local time, as in those formats), `unix` (seconds with milliseconds), `unix_ms`",
		check: oneOf(TimeRFC3339, TimeCLF, TimeHAProxy, TimeUnix, TimeUnixMS)},
	{Name: "direction", Meaning: "`inbound` or `outbound`"},
	{Name: "protocol", Meaning: "`http` (1.0 and 1.1), `http2` or `tcp`"},
	{Name: "version", Meaning: "of HTTP, such as `HTTP/1.1`"},
	{Name: "listener", Meaning: "name of the listener"},
	{Name: "tls", Args: "text", Meaning: "the text (`tls` where none is given) if the client came over TLS", check: anything},
	{Name: "detected", Meaning: "what a listener of protocol `auto` has found where it was no HTTP"},
	{Name: "route", Meaning: "name of the route"},
	{Name: "service", Args: "listener", Meaning: "name of the service; with `listener`, the listener's name where there was none", check: oneOf("listener")},
	{Name: "endpoint", Meaning: "address of the endpoint used last"},
	{Name: "method", Meaning: "of the request"},
	{Name: "authority", Meaning: "host and port that the client asked for, without user information"},
	{Name: "path", Meaning: "path and query, secrets redacted"},
	{Name: "path.bare", Meaning: "path without query"},
	{Name: "target", Meaning: "authority, path and query; the protocol where there was no request"},
	{Name: "request", Meaning: "method, path and query, version"},
	{Name: "status", Meaning: "HTTP status sent to the client; empty where none was"},
	{Name: "grpc_status", Meaning: "gRPC status that the client has seen"},
	{Name: "reason", Meaning: "code from the table of reasons; empty where the exchange ran to its end"},
	{Name: "side", Meaning: "whose failure: `downstream`, `upstream` or `internal`"},
	{Name: "error", Meaning: "the cause behind the reason"},
	{Name: "termination", Meaning: "HAProxy's two letters: who ended it, and in which phase; `--` where it ran to its end"},
	{Name: "ms.request_head", Meaning: "milliseconds with three decimals until the request head was read; 0 where a phase was not reached"},
	{Name: "ms.queue", Meaning: "the same, spent in queues"},
	{Name: "ms.connect", Meaning: "the same, until there was a connection to the endpoint"},
	{Name: "ms.response_head", Meaning: "the same, from the choice of the endpoint to its response head"},
	{Name: "ms.total", Meaning: "the same, from the first byte of the request to the last byte of the answer"},
	{Name: "timer.request", Meaning: "HAProxy's TR: whole milliseconds until the request head was read; -1 where it never was"},
	{Name: "timer.queue", Meaning: "Tw: in queues; -1 where the exchange never came so far"},
	{Name: "timer.connect", Meaning: "Tc: until the endpoint accepted the connection; -1 where it never did"},
	{Name: "timer.response", Meaning: "Tr: from there to the response head; -1 where there was none"},
	{Name: "timer.total", Meaning: "Ta, Tt: the whole exchange"},
	{Name: "bytes_in", Meaning: "bytes from the client"},
	{Name: "bytes_out", Meaning: "bytes to the client"},
	{Name: "attempts", Meaning: "endpoints tried"},
	{Name: "retries", Args: "mark", Meaning: "attempts after the first; the mark stands before them where the last one went to another endpoint than the first", check: anything},
	{Name: "tries", Args: "form", Meaning: "each attempt with its endpoint, reason and milliseconds, where there was more than one: `text` (the default) or `json`, a list of objects", check: oneOf(FormText, FormJSON)},
	{Name: "client", Meaning: "address and port of the client, or `unix`"},
	{Name: "client.ip", Meaning: "address of the client, or `unix`"},
	{Name: "client.port", Meaning: "port of the client"},
	{Name: "peer_id", Meaning: "SPIFFE ID that the client has proven"},
	{Name: "endpoint_id", Meaning: "SPIFFE ID that the endpoint has proven"},
	{Name: "request_id", Meaning: "X-Request-ID"},
	{Name: "user_agent", Meaning: "User-Agent"},
	{Name: "trace_id", Meaning: "the trace's ID, 32 hexadecimal digits"},
	{Name: "span_id", Meaning: "the ID of this proxy's server span"},
	{Name: "active.process", Meaning: "connections of clients open in the process, this one included"},
	{Name: "active.listener", Meaning: "of these, those of the listener"},
	{Name: "active.service", Args: "others", Meaning: "exchanges of the service under way, this one included; with `others`, without it", check: oneOf("others")},
	{Name: "active.endpoint", Args: "others", Meaning: "the same at the endpoint", check: oneOf("others")},
	{Name: "req.header", Args: "name, length", Required: true, Meaning: "a field of the request's head, cut at so many bytes (256); credentials need `redact` or `reveal`", check: headerField},
	{Name: "resp.header", Args: "name, length", Required: true, Meaning: "the same of the response's head", check: headerField},
	{Name: "req.captures", Args: "form", Required: true, Meaning: "the fields of `capture.request`: `haproxy` (`{a|b}`) or `json` (an object); empty where none are configured", check: oneOf(FormHAProxy, FormJSON)},
	{Name: "resp.captures", Args: "form", Required: true, Meaning: "the same of `capture.response`", check: oneOf(FormHAProxy, FormJSON)},
	{Name: "host", Meaning: "name of the machine"},
	{Name: "pid", Meaning: "number of the process"},
}

// Fields lists what a template can name, in the order of the manual.
func Fields() []Field { return slices.Clone(fields[:]) }

// Change is a modifier as the manual lists it.
type Change struct {
	Name, Arg, Meaning string
	check              func(p *Part, arg string) (message string)
}

var modifiers = [...]Change{
	{"or", "text", "the text where the value is empty; the default is `-`, and within groups that the group is left out", nil},
	{"max", "bytes", "cuts the value there and ends it with `…`", numberUpTo(MaxFieldLength)},
	{"pad", "width", "fills up with blanks on the right", numberUpTo(200)},
	{"right", "width", "fills up with blanks on the left", numberUpTo(200)},
	{"above", "number", "empty unless the value is a number above this one", number},
	{"only", "text", "empty unless the value is this text", nil},
	{"redact", "", "`[redacted]` in place of a field's value", headersOnly},
	{"reveal", "", "shows a field that is a credential, or the secrets in its URL", headersOnly},
}

// Modifiers lists the modifiers in the order of the manual.
func Modifiers() []Change { return slices.Clone(modifiers[:]) }

func anything(*Part) (message, word string, known []string) { return "", "", nil }

func oneOf(words ...string) func(*Part) (string, string, []string) {
	return func(p *Part) (string, string, []string) {
		if len(p.Args) == 1 && slices.Contains(words, p.Args[0]) {
			return "", "", nil
		}
		given := strings.Join(p.Args, ", ")
		return fmt.Sprintf("%s takes %s, not %q", p.Name, strings.Join(words, " or "), given), given, words
	}
}

// headerField checks the name and the length of a field, and that no credential is shown by
// oversight.
func headerField(p *Part) (message, word string, known []string) {
	name := strings.ToLower(p.Args[0])
	p.Args[0] = name
	switch {
	case !IsFieldName(name):
		return fmt.Sprintf("%q is not the name of a field", name), "", nil
	case len(p.Args) > 2:
		return fmt.Sprintf("%s takes a name and a length", p.Name), "", nil
	case len(p.Args) == 2:
		return numberUpTo(MaxFieldLength)(p, p.Args[1]), "", nil
	}
	return "", "", nil
}

// IsFieldName reports whether name is a token (RFC 9110 section 5.6.2), which names of fields are.
func IsFieldName(name string) bool {
	for _, c := range []byte(name) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"(),/:;<=>?@[\]{}`, c) >= 0 {
			return false
		}
	}
	return name != ""
}

func number(_ *Part, arg string) string {
	if _, err := strconv.ParseUint(arg, 10, 31); err != nil {
		return fmt.Sprintf("%q is not a number", arg)
	}
	return ""
}

func numberUpTo(most int) func(*Part, string) string {
	return func(_ *Part, arg string) string {
		if n, err := strconv.ParseUint(arg, 10, 31); err != nil || n < 1 || int(n) > most {
			return fmt.Sprintf("%q is not a number from 1 to %d", arg, most)
		}
		return ""
	}
}

func headersOnly(p *Part, _ string) string {
	if strings.HasSuffix(p.Name, ".header") {
		return ""
	}
	return "this modifier is for req.header and resp.header"
}
