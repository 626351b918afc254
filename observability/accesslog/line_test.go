package accesslog

import (
	"encoding/json"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/accesslog/template"
	"github.com/larboard-proxy/larboard/policy"
)

// full returns a record with every field set.
func full() *observability.Record {
	return &observability.Record{
		Listener: "web", Route: "v1", Service: "api", Endpoint: "10.0.0.1:80", Protocol: "http2", Detected: "tls", Inbound: true,
		Reason: policy.UpstreamClosed, Side: policy.Upstream, Err: errors.New("read: end of file"),
		Start:       time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.FixedZone("", 3600)),
		RequestHead: 12 * time.Microsecond, Connect: 1500 * time.Microsecond, ResponseHead: 20 * time.Millisecond, Total: 1234567 * time.Microsecond,
		Method: []byte("GET"), Authority: []byte("api.example.com"), Path: []byte("/v1/x?a=b&token=abc"), UserAgent: []byte("curl/8"),
		RequestID: []byte("id-1"), Status: 502, GRPC: policy.GRPCUnavailable, BytesIn: 5, BytesOut: 600, Attempts: 2,
		Version: "2", TLS: true, Queue: 3 * time.Millisecond,
		Tries: []observability.Try{
			{Endpoint: "10.0.0.2:80", Reason: policy.ConnectFailed, Side: policy.Upstream, Phase: policy.PhaseConnect, Start: 3 * time.Millisecond, Connect: time.Millisecond, Total: time.Millisecond},
			{Endpoint: "10.0.0.1:80", EndpointID: "spiffe://example.org/api", Reason: policy.UpstreamClosed, Side: policy.Upstream, Phase: policy.PhaseBody, Status: 200,
				Start: 5 * time.Millisecond, Connect: 1500 * time.Microsecond, Head: 20 * time.Millisecond, Total: 1200 * time.Millisecond},
		},
		Trace: observability.SpanContext{TraceID: [16]byte{0: 0x4b, 15: 0x36}, SpanID: [8]byte{7: 1}, Sampled: true},
		Fields: heads{"user-agent": []byte("curl/8"), "referer": []byte("https://user:secret@example.org/?token=abc&x=1"), "authorization": []byte("Bearer abc"),
			"x-tenant": []byte(`a|"b"`), "content-type": []byte("text/html")},
		Active: observability.Active{Process: 9, Listener: 5, Service: 4, Endpoint: 2},
		Client: netip.MustParseAddrPort("192.0.2.1:5000"), PeerID: "spiffe://example.org/web", EndpointID: "spiffe://example.org/api",
	}
}

// heads are the fields of a request's and a response's head.
type heads map[string][]byte

func (h heads) RequestField(name string) ([]byte, bool) {
	v, ok := h[name]
	return v, ok
}

func (h heads) ResponseField(name string) ([]byte, bool) { return h.RequestField(name) }

func lineOf(f *Format, r *observability.Record) string {
	return string(newProducer(minRing, f, nil, 0).appendLine(nil, r))
}

func line(t testing.TB, name string, r *observability.Record) string {
	t.Helper()
	return lineOf(preset(t, name), r)
}

// capturing is a preset that captures fields of both heads.
func capturing(t testing.TB, name string) *Format {
	t.Helper()
	f, err := Preset(name, Captures{
		Request:  []Capture{NewCapture("X-Tenant", 64), NewCapture("x-none", 64), NewCapture("User-Agent", 4)},
		Response: []Capture{NewCapture("Content-Type", 64)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestCaptures(t *testing.T) {
	for name, want := range map[string]string{
		"httplog": ` 0/0 {a#7C#22b#22||curl} {text/html} "GET `,
		"json":    `,"request_fields":{"x-tenant":"a|\"b\"","user-agent":"curl…"},"response_fields":{"content-type":"text/html"}}`,
		"text":    ` request_fields={"x-tenant":"a|\"b\"","user-agent":"curl…"} response_fields={"content-type":"text/html"}`,
	} {
		if got := lineOf(capturing(t, name), full()); !strings.Contains(got, want) {
			t.Errorf("%s\ngot  %swant %s", name, got, want)
		}
	}
	r := full()
	r.Fields = nil
	if got := lineOf(capturing(t, "httplog"), r); !strings.Contains(got, ` 0/0 "GET `) {
		t.Error(got)
	}
	if got := lineOf(capturing(t, "json"), r); strings.Contains(got, "fields") {
		t.Error(got)
	}
}

// TestMain has local time be UTC, so that lines are the same everywhere.
func TestMain(m *testing.M) {
	time.Local = time.UTC
	m.Run()
}

func TestLines(t *testing.T) {
	plain := &observability.Record{Listener: "redis", Service: "redis", Endpoint: "127.0.0.1:6379", Protocol: "tcp",
		Start: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Total: time.Second, Attempts: 1,
		Tries:  []observability.Try{{Endpoint: "127.0.0.1:6379", Connect: 2 * time.Millisecond, Total: time.Second}},
		Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:5000")}
	refused := &observability.Record{Listener: "web", Protocol: "http", Reason: policy.BadRequest, Side: policy.Downstream, Status: 400, BytesOut: 187,
		Start: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Total: 5 * time.Millisecond, Active: observability.Active{Process: 1, Listener: 1},
		Client: netip.MustParseAddrPort("192.0.2.1:5000")}
	for _, tc := range []struct {
		name   string
		format string
		record *observability.Record
		want   string
	}{
		{"json full", "json", full(), `{"time":"2026-03-04T04:06:07.089Z","direction":"inbound","protocol":"http2","listener":"web","detected":"tls","route":"v1",` +
			`"service":"api","endpoint":"10.0.0.1:80","method":"GET","authority":"api.example.com","path":"/v1/x?a=b&token=[redacted]","status":502,` +
			`"grpc_status":"UNAVAILABLE","reason":"upstream_closed","side":"upstream","error":"read: end of file",` +
			`"duration_ms":{"request_head":0.012,"connect":1.500,"response_head":20.000,"total":1234.567},"bytes_in":5,"bytes_out":600,"attempts":2,"retries":1,` +
			`"tries":[{"endpoint":"10.0.0.2:80","reason":"connect_failed","start_ms":3.000,"connect_ms":1.000,"head_ms":0.000,"total_ms":1.000},` +
			`{"endpoint":"10.0.0.1:80","reason":"upstream_closed","status":200,"start_ms":5.000,"connect_ms":1.500,"head_ms":20.000,"total_ms":1200.000}],` +
			`"client":"192.0.2.1:5000","peer_id":"spiffe://example.org/web","endpoint_id":"spiffe://example.org/api","request_id":"id-1","user_agent":"curl/8",` +
			`"trace_id":"4b000000000000000000000000000036"}` + "\n"},
		{"json plain", "json", plain, `{"time":"2026-03-04T05:06:07.000Z","direction":"outbound","protocol":"tcp","listener":"redis",` +
			`"service":"redis","endpoint":"127.0.0.1:6379","status":0,"duration_ms":{"request_head":0.000,"connect":0.000,"response_head":0.000,"total":1000.000},` +
			`"bytes_in":0,"bytes_out":0,"attempts":1,"client":"192.0.2.1:5000"}` + "\n"},
		{"text full", "text", full(), `2026-03-04T04:06:07.089Z web          502   1234.567ms GET     api.example.com/v1/x?a=b&token=[redacted] -> api 10.0.0.1:80 ` +
			`protocol=http2 grpc_status="UNAVAILABLE" detected="tls" reason="upstream_closed" side="upstream" error="read: end of file" in=5 out=600 attempts=2 ` +
			`tries="10.0.0.2:80 connect_failed 1.000ms, 10.0.0.1:80 upstream_closed 1200.000ms" client=192.0.2.1:5000 ` +
			`peer="spiffe://example.org/web" endpoint_id="spiffe://example.org/api" id="id-1" trace=4b000000000000000000000000000036` + "\n"},
		{"text plain", "text", plain, `2026-03-04T05:06:07.000Z redis        ---   1000.000ms -       tcp -> redis 127.0.0.1:6379 in=0 out=0 client=192.0.2.1:5000` + "\n"},
		{"httplog full", "httplog", full(), `192.0.2.1:5000 [04/Mar/2026:04:06:07.089] web~ api/10.0.0.1:80 0/3/3/18/1234 502 600 - - SH-- 9/5/3/1/+1 0/0 "GET /v1/x?a=b&token=[redacted] HTTP/2.0"` + "\n"},
		{"httplog refused", "httplog", refused, `192.0.2.1:5000 [04/Mar/2026:05:06:07.000] web web/<NOSRV> -1/-1/-1/-1/5 400 187 - - PR-- 1/1/0/0/0 0/0 "<BADREQ>"` + "\n"},
		{"tcplog full", "tcplog", full(), `192.0.2.1:5000 [04/Mar/2026:04:06:07.089] web~ api/10.0.0.1:80 3/3/1234 600 SH 9/5/3/1/+1 0/0` + "\n"},
		{"tcplog plain", "tcplog", plain, `192.0.2.1:5000 [04/Mar/2026:05:06:07.000] redis redis/127.0.0.1:6379 0/2/1000 0 -- 0/0/0/0/0 0/0` + "\n"},
		{"combined full", "combined", full(), `192.0.2.1 - spiffe://example.org/web [04/Mar/2026:04:06:07 +0000] "GET /v1/x?a=b&token=[redacted] HTTP/2.0" 502 600 ` +
			`"https://[redacted]@example.org/?token=[redacted]&x=1" "curl/8"` + "\n"},
		{"combined refused", "combined", refused, `192.0.2.1 - - [04/Mar/2026:05:06:07 +0000] "-" 400 187 "-" "-"` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := line(t, tc.format, tc.record); got != tc.want {
				t.Errorf("\ngot  %swant %s", got, tc.want)
			}
		})
	}
}

// Every value that a template can name is made, with each of its forms.
func TestEveryNameHasItsMaker(t *testing.T) {
	for _, f := range template.Fields() {
		text := "%{" + f.Name + "}"
		switch f.Args {
		case "name, length":
			text = "%{" + f.Name + "(user-agent, 3)}"
		case "form":
			if f.Required {
				text = "%{" + f.Name + "(json)}"
			}
		}
		format, err := Compile(text, template.EscapeJSON, Captures{})
		if err != nil {
			t.Errorf("%s: %v", f.Name, err)
			continue
		}
		if got := lineOf(format, &observability.Record{}); got == "" || got == "\n" {
			t.Errorf("%s: an empty record gives %q", f.Name, got)
		}
	}
	if len(makers) != len(template.Fields()) {
		t.Errorf("%d makers, %d names", len(makers), len(template.Fields()))
	}
}

func TestTemplates(t *testing.T) {
	for _, tc := range []struct{ text, want string }{
		{"%{time(unix)} %{time(unix_ms)} %{time(clf)} %{time(haproxy)}", "1772597167.089 1772597167089 04/Mar/2026:04:06:07 +0000 04/Mar/2026:04:06:07.089"},
		{"%{path.bare} %{version} %{tls} %{tls(ssl)} %{span_id}", "/v1/x HTTP/2.0 tls ssl 0000000000000001"},
		{"%{req.header(x-none)} %{req.header(x-none)|or(none)}", "- none"},
		{"[%{req.header(authorization)|redact}] [%{req.header(cookie)|redact}]", "[[redacted]] [-]"},
		{"%{req.header(authorization)|reveal} %{req.header(referer)|reveal}", "Bearer abc https://user:secret@example.org/?token=abc&x=1"},
		{"%{req.header(user-agent, 2)} %{method|max(1)}", "cu… G…"},
		{"[%{status|pad(5)}] [%{status|right(5)}] [%{route|right(1)}]", "[502  ] [  502] [v1]"},
		{"[%{detected|only(opaque)}] [%{detected|only(tls)}] [%{bytes_out|above(599)}] [%{bytes_out|above(600)|or()}]", "[-] [tls] [600] []"},
		{"%( a=%{route} b=%{detected|only(x)}%)%( c=%{route}%).", " c=v1."},
		{"%( a=%{detected|only(x)|or(0)}%)", " a=0"},
		{"%{timer.request} %{timer.queue} %{timer.connect} %{timer.response} %{timer.total} %{ms.queue}", "0 3 3 18 1234 3.000"},
		{"%{tries(text)}", "10.0.0.2:80 connect_failed 1.000ms, 10.0.0.1:80 upstream_closed 1200.000ms"},
		{"%{client} %{client.ip} %{client.port}", "192.0.2.1:5000 192.0.2.1 5000"},
		{"%{ms.total|above(1000)}", "1234.567"},
	} {
		f, err := Compile(tc.text, template.EscapeJSON, Captures{})
		if err != nil {
			t.Error(err)
			continue
		}
		if got := lineOf(f, full()); got != tc.want+"\n" {
			t.Errorf("%s\ngot  %swant %s", tc.text, got, tc.want)
		}
	}
	if _, err := Compile("%{x}", template.EscapeJSON, Captures{}); err == nil {
		t.Error("a bad template was compiled")
	}
}

func TestInjection(t *testing.T) {
	attacks := []string{
		"/\n{\"status\":200}", "/\r\nx", `/" , "status":200`, `/\"`, `/\`, "/\x1b[2J", "/\x00", "/\x7f", "/\u009b31m", "/\u202e", "/\u2028", "/\xff\xfe", "/\xe2\x80", "/\U000e0001",
	}
	for _, attack := range attacks {
		r := full()
		r.Path, r.Authority, r.Method, r.UserAgent, r.RequestID = []byte(attack), []byte(attack), []byte(attack), []byte(attack), []byte(attack)
		r.Err = errors.New(attack)
		r.Listener, r.Route, r.Service, r.Endpoint, r.PeerID, r.EndpointID = attack, attack, attack, attack, attack, attack
		r.Client = netip.AddrPortFrom(netip.MustParseAddr("fe80::1").WithZone(attack), 1)
		checkLine(t, "json", r)
		checkLine(t, "text", r)
	}
}

// checkLine checks that a line is one line, prints, and is JSON where it should be.
func checkLine(t *testing.T, f string, r *observability.Record) {
	t.Helper()
	got := line(t, f, r)
	checkOneLine(t, got)
	if f == "json" {
		var v map[string]any
		if err := json.Unmarshal([]byte(got), &v); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if v["status"] != float64(r.Status) {
			t.Fatalf("status %v: %s", v["status"], got)
		}
	}
}

// checkOneLine checks that a line is one line and prints.
func checkOneLine(t *testing.T, got string) {
	t.Helper()
	if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
		t.Fatalf("not one line: %q", got)
	}
	if !utf8.ValidString(got) {
		t.Fatalf("not UTF-8: %q", got)
	}
	for _, c := range strings.TrimSuffix(got, "\n") {
		if !unicode.IsPrint(c) {
			t.Fatalf("%U does not print: %q", c, got)
		}
	}
}

func TestEscapedTextReadsBack(t *testing.T) {
	for _, s := range []string{"plain", `a"b\c`, "tab\tnl\n", "ä€😀", "\x01\x7f", "\u202e", "\U000e0001"} {
		var back string
		if err := json.Unmarshal([]byte(`"`+string(appendEscaped(nil, s, template.EscapeJSON))+`"`), &back); err != nil || back != s {
			t.Errorf("%q became %q, %v", s, back, err)
		}
	}
}

func TestLongValuesAreCut(t *testing.T) {
	r := full()
	r.Path = []byte("/" + strings.Repeat("x", 1<<20))
	got := line(t, "json", r)
	if len(got) > 4096 || !strings.Contains(got, `x…"`) {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
	// A cut within a character leaves no broken one.
	r.Path = []byte("/" + strings.Repeat("ä", targetLimit))
	checkLine(t, "json", r)
}

func TestRedaction(t *testing.T) {
	for _, tc := range []struct{ target, want string }{
		{"/a?b=c", "/a?b=c"},
		{"/token=abc", "/token=abc"},
		{"/a?token=abc", "/a?token=[redacted]"},
		{"/a?TOKEN=abc&x=1", "/a?TOKEN=[redacted]&x=1"},
		{"/a?x=1&access_token=abc&y=2", "/a?x=1&access_token=[redacted]&y=2"},
		{"/a?access-token=abc", "/a?access-token=[redacted]"},
		{"/a?accessToken=abc", "/a?accessToken=[redacted]"},
		{"/a?api_key=1&api.key=2&apikey=3&key=4", "/a?api_key=[redacted]&api.key=[redacted]&apikey=[redacted]&key=[redacted]"},
		{"/a?X-Amz-Signature=1&X-Amz-Security-Token=2&X-Amz-Date=3", "/a?X-Amz-Signature=[redacted]&X-Amz-Security-Token=[redacted]&X-Amz-Date=3"},
		{"/a?user[password]=1&user%5Bpassword%5D=2", "/a?user[password]=[redacted]&user%5Bpassword%5D=[redacted]"},
		{"/a?%74oken=abc", "/a?%74oken=[redacted]"},
		{"/a?to%6ben=abc", "/a?to%6ben=[redacted]"},
		{"/a?token=", "/a?token=[redacted]"},
		{"/a?token", "/a?token"},
		{"/a?token&x=1", "/a?token&x=1"},
		{"/a?token==a=b", "/a?token=[redacted]"},
		{"/a?token=a?b;c/d&e=f", "/a?token=[redacted]&e=f"},
		{"/a?b=c?token=d", "/a?b=c?token=[redacted]"},
		{"/a?b=c;token=d", "/a?b=c;token=[redacted]"},
		{"/a;jsessionid=abc/b?c=d", "/a;jsessionid=[redacted]/b?c=d"},
		{"/a;jsessionid=abc?token=d", "/a;jsessionid=[redacted]?token=[redacted]"},
		{"/a?monkey=1&tokens=2&keyboard=3&author=4", "/a?monkey=1&tokens=2&keyboard=3&author=4"},
		{"/a?%=1&%7=2&%zz=3", "/a?%=1&%7=2&%zz=3"},
		{"/a?_____token_=1", "/a?_____token_=[redacted]"},
		{"/a?" + strings.Repeat("x", 100) + "_token=1", "/a?" + strings.Repeat("x", 100) + "_token=[redacted]"},
		{"", ""},
		{"*", "*"},
		{"?&;=", "?&;="},
	} {
		if got := string(appendTarget(nil, []byte(tc.target), targetLimit, template.EscapeJSON)); got != tc.want {
			t.Errorf("%s\ngot  %s\nwant %s", tc.target, got, tc.want)
		}
	}
}

func TestUserInformationIsRedacted(t *testing.T) {
	if got := string(appendAuthority(nil, []byte("user:pass@host:80"), authorityLimit, template.EscapeJSON)); got != "[redacted]@host:80" {
		t.Error(got)
	}
}
