package template

import "slices"

// Escape is how bytes that would break a line or a quotation are written in values.
type Escape uint8

// The ways to escape.
const (
	// EscapeJSON: \" \\ \n \u00XX, as in JSON strings; text that prints stays as it is.
	EscapeJSON Escape = iota
	// EscapeCLF: \" \\ \n \xXX, as Apache writes them; everything beyond ASCII, too.
	EscapeCLF
	// EscapeHAProxy: #XX, as HAProxy writes them; everything beyond ASCII, too.
	EscapeHAProxy
)

var escapes = [...]string{"json", "clf", "haproxy"}

func (e Escape) String() string { return escapes[e] }

// Escapes lists the names of the ways to escape.
func Escapes() []string { return slices.Clone(escapes[:]) }

// ParseEscape returns the way to escape of that name.
func ParseEscape(name string) (Escape, bool) {
	i := slices.Index(escapes[:], name)
	return Escape(max(i, 0)), i >= 0
}

// Preset is a template with a name.
type Preset struct {
	Name, Meaning string
	Template      string
	Escape        Escape
}

// The presets in HAProxy's forms name their values in HAProxy's order: a listener stands where it
// has the frontend, a service where it has the backend, an endpoint for the server. There is
// no cookie to capture, and no queue, hence "- -", "--" and "0/0".
var presets = [...]Preset{
	{"text", "one line for human readers, in columns",
		`%{time} %{listener|pad(12)} %{status|or(---)} %{ms.total|right(10)}ms %{method|pad(7)} %{target} -> %{service} %{endpoint}` +
			`%( protocol=%{protocol|only(http2)}%)%( grpc_status="%{grpc_status}"%)%( detected="%{detected}"%)` +
			`%( reason="%{reason}"%)%( side="%{side}"%)%( error="%{error}"%) in=%{bytes_in} out=%{bytes_out}` +
			`%( attempts=%{attempts|above(1)}%)%( tries="%{tries}"%)%( client=%{client}%)%( peer="%{peer_id}"%)%( endpoint_id="%{endpoint_id}"%)` +
			`%( id="%{request_id}"%)%( trace=%{trace_id}%)%( request_fields=%{req.captures(json)}%)%( response_fields=%{resp.captures(json)}%)`,
		EscapeJSON},
	{"json", "one JSON object a line; text that is empty is left out",
		`{"time":"%{time}","direction":"%{direction}","protocol":"%{protocol}","listener":"%{listener}"%(,"detected":"%{detected}"%)` +
			`%(,"route":"%{route}"%)%(,"service":"%{service}"%)%(,"endpoint":"%{endpoint}"%)` +
			`%(,"method":"%{method}"%)%(,"authority":"%{authority}"%)%(,"path":"%{path}"%),"status":%{status|or(0)}%(,"grpc_status":"%{grpc_status}"%)` +
			`%(,"reason":"%{reason}"%)%(,"side":"%{side}"%)%(,"error":"%{error}"%)` +
			`,"duration_ms":{"request_head":%{ms.request_head},"connect":%{ms.connect},"response_head":%{ms.response_head},"total":%{ms.total}}` +
			`,"bytes_in":%{bytes_in},"bytes_out":%{bytes_out},"attempts":%{attempts}%(,"retries":%{retries|above(0)}%)%(,"tries":%{tries(json)}%)` +
			`%(,"client":"%{client}"%)%(,"peer_id":"%{peer_id}"%)%(,"endpoint_id":"%{endpoint_id}"%)%(,"request_id":"%{request_id}"%)` +
			`%(,"user_agent":"%{user_agent}"%)%(,"trace_id":"%{trace_id}"%)` +
			`%(,"request_fields":%{req.captures(json)}%)%(,"response_fields":%{resp.captures(json)}%)}`,
		EscapeJSON},
	{"httplog", "HAProxy's `option httplog`",
		`%{client.ip}:%{client.port|or(0)} [%{time(haproxy)}] %{listener}%{tls(~)|or()} %{service(listener)}/%{endpoint|or(<NOSRV>)} ` +
			`%{timer.request}/%{timer.queue}/%{timer.connect}/%{timer.response}/%{timer.total} %{status|or(-1)} %{bytes_out} - - %{termination}-- ` +
			`%{active.process}/%{active.listener}/%{active.service(others)}/%{active.endpoint(others)}/%{retries(+)} 0/0` +
			`%( %{req.captures(haproxy)}%)%( %{resp.captures(haproxy)}%) "%{request|or(<BADREQ>)}"`,
		EscapeHAProxy},
	{"tcplog", "HAProxy's `option tcplog`",
		`%{client.ip}:%{client.port|or(0)} [%{time(haproxy)}] %{listener}%{tls(~)|or()} %{service(listener)}/%{endpoint|or(<NOSRV>)} ` +
			`%{timer.queue}/%{timer.connect}/%{timer.total} %{bytes_out} %{termination} ` +
			`%{active.process}/%{active.listener}/%{active.service(others)}/%{active.endpoint(others)}/%{retries(+)} 0/0`,
		EscapeHAProxy},
	{"combined", "the combined format of Apache and NCSA; the user is the caller's SPIFFE ID",
		`%{client.ip} - %{peer_id} [%{time(clf)}] "%{request}" %{status} %{bytes_out} "%{req.header(referer, 1024)}" "%{user_agent}"`,
		EscapeCLF},
}

// Presets lists the presets.
func Presets() []Preset { return slices.Clone(presets[:]) }

// PresetNames lists the names of the presets.
func PresetNames() []string {
	names := make([]string, len(presets))
	for i, p := range presets {
		names[i] = p.Name
	}
	return names
}

// PresetOf returns the preset of that name.
func PresetOf(name string) (Preset, bool) {
	for _, p := range presets {
		if p.Name == name {
			return p, true
		}
	}
	return Preset{}, false
}
