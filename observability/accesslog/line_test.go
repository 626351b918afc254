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
	"github.com/larboard-proxy/larboard/policy"
)

// full returns a record with every field set.
func full() *observability.Record {
	return &observability.Record{
		Listener: "web", Route: "v1", Service: "api", Endpoint: "10.0.0.1:80", Protocol: "http", Inbound: true,
		Reason: policy.UpstreamClosed, Side: policy.Upstream, Err: errors.New("read: end of file"),
		Start:       time.Date(2026, 3, 4, 5, 6, 7, 89e6, time.FixedZone("", 3600)),
		RequestHead: 12 * time.Microsecond, Connect: 1500 * time.Microsecond, ResponseHead: 20 * time.Millisecond, Total: 1234567 * time.Microsecond,
		Method: []byte("GET"), Authority: []byte("api.example.com"), Path: []byte("/v1/x?a=b&token=abc"), UserAgent: []byte("curl/8"),
		RequestID: []byte("id-1"), Status: 502, BytesIn: 5, BytesOut: 600, Attempts: 2,
		Client: netip.MustParseAddrPort("192.0.2.1:5000"), PeerID: "spiffe://example.org/web", EndpointID: "spiffe://example.org/api",
	}
}

func line(f Format, r *observability.Record) string {
	return string(newProducer(minRing).appendLine(nil, f, r))
}

func TestLines(t *testing.T) {
	plain := &observability.Record{Listener: "redis", Service: "redis", Endpoint: "127.0.0.1:6379", Protocol: "tcp",
		Start: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Total: time.Second, Attempts: 1,
		Client: netip.MustParseAddrPort("[::ffff:192.0.2.1]:5000")}
	for _, tc := range []struct {
		name   string
		format Format
		record *observability.Record
		want   string
	}{
		{"json full", JSON, full(), `{"time":"2026-03-04T04:06:07.089Z","direction":"inbound","protocol":"http","listener":"web","route":"v1",` +
			`"service":"api","endpoint":"10.0.0.1:80","method":"GET","authority":"api.example.com","path":"/v1/x?a=b&token=[redacted]","status":502,` +
			`"reason":"upstream_closed","side":"upstream","error":"read: end of file",` +
			`"duration_ms":{"request_head":0.012,"connect":1.500,"response_head":20.000,"total":1234.567},"bytes_in":5,"bytes_out":600,"attempts":2,` +
			`"client":"192.0.2.1:5000","peer_id":"spiffe://example.org/web","endpoint_id":"spiffe://example.org/api","request_id":"id-1","user_agent":"curl/8"}` + "\n"},
		{"json plain", JSON, plain, `{"time":"2026-03-04T05:06:07.000Z","direction":"outbound","protocol":"tcp","listener":"redis",` +
			`"service":"redis","endpoint":"127.0.0.1:6379","status":0,"duration_ms":{"request_head":0.000,"connect":0.000,"response_head":0.000,"total":1000.000},` +
			`"bytes_in":0,"bytes_out":0,"attempts":1,"client":"192.0.2.1:5000"}` + "\n"},
		{"text full", Text, full(), `2026-03-04T04:06:07.089Z web          502   1234.567ms GET     api.example.com/v1/x?a=b&token=[redacted] -> api 10.0.0.1:80 ` +
			`reason="upstream_closed" side="upstream" error="read: end of file" in=5 out=600 attempts=2 client=192.0.2.1:5000 ` +
			`peer="spiffe://example.org/web" endpoint_id="spiffe://example.org/api" id="id-1"` + "\n"},
		{"text plain", Text, plain, `2026-03-04T05:06:07.000Z redis        ---   1000.000ms -       tcp -> redis 127.0.0.1:6379 in=0 out=0 client=192.0.2.1:5000` + "\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if got := line(tc.format, tc.record); got != tc.want {
				t.Errorf("\ngot  %swant %s", got, tc.want)
			}
		})
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
		checkLine(t, JSON, r)
		checkLine(t, Text, r)
	}
}

// checkLine checks that a line is one line, prints, and is JSON where it should be.
func checkLine(t *testing.T, f Format, r *observability.Record) {
	t.Helper()
	got := line(f, r)
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
	if f == JSON {
		var v map[string]any
		if err := json.Unmarshal([]byte(got), &v); err != nil {
			t.Fatalf("%v: %s", err, got)
		}
		if v["status"] != float64(r.Status) {
			t.Fatalf("status %v: %s", v["status"], got)
		}
	}
}

func TestEscapedTextReadsBack(t *testing.T) {
	for _, s := range []string{"plain", `a"b\c`, "tab\tnl\n", "ä€😀", "\x01\x7f", "\u202e", "\U000e0001"} {
		var back string
		if err := json.Unmarshal([]byte(`"`+string(appendEscaped(nil, s))+`"`), &back); err != nil || back != s {
			t.Errorf("%q became %q, %v", s, back, err)
		}
	}
}

func TestLongValuesAreCut(t *testing.T) {
	r := full()
	r.Path = []byte("/" + strings.Repeat("x", 1<<20))
	got := line(JSON, r)
	if len(got) > 4096 || !strings.Contains(got, `x…"`) {
		t.Errorf("%d bytes: %.100s", len(got), got)
	}
	// A cut within a character leaves no broken one.
	r.Path = []byte("/" + strings.Repeat("ä", targetLimit))
	checkLine(t, JSON, r)
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
		if got := string(appendTarget(nil, []byte(tc.target), targetLimit)); got != tc.want {
			t.Errorf("%s\ngot  %s\nwant %s", tc.target, got, tc.want)
		}
	}
}

func TestUserInformationIsRedacted(t *testing.T) {
	if got := string(appendAuthority(nil, []byte("user:pass@host:80"), authorityLimit)); got != "[redacted]@host:80" {
		t.Error(got)
	}
}

func FuzzLine(f *testing.F) {
	f.Add("/a?token=abc", "read: \n")
	f.Add("/;sid=1/?%74oken=2&%", "\u202e\xff")
	f.Fuzz(func(t *testing.T, target, cause string) {
		r := full()
		r.Path, r.Authority, r.Err = []byte(target), []byte(cause), errors.New(cause)
		checkLine(t, JSON, r)
		checkLine(t, Text, r)
		r.Path = append([]byte(target), "&password=hunter2hunter2"...)
		if i := strings.IndexAny(target, "?"); i >= 0 && len(target) < 1000 && strings.Contains(line(JSON, r), "hunter2hunter2") {
			t.Fatalf("secret shown: %s", line(JSON, r))
		}
	})
}
