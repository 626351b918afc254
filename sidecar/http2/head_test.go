package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/policy"
	ours "github.com/larboard-proxy/larboard/sidecar/http2/hpack"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// blockOf encodes "name: value" lines with the encoder of golang.org/x/net.
func blockOf(t testing.TB, lines ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	for _, line := range lines {
		name, value, ok := strings.Cut(line[1:], ": ")
		if !ok {
			t.Fatalf("not a field: %q", line)
		}
		if err := e.WriteField(hpack.HeaderField{Name: line[:1] + name, Value: value}); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

// linesOf decodes a block with the decoder of golang.org/x/net.
func linesOf(t testing.TB, block []byte) []string {
	t.Helper()
	fields, err := hpack.NewDecoder(4096, nil).DecodeFull(block)
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range fields {
		line := f.Name + ": " + f.Value
		if f.Sensitive {
			line += " (never indexed)"
		}
		lines = append(lines, line)
	}
	return lines
}

// shown is a head in words.
func shown(h *message.Head) string {
	var s strings.Builder
	if h.IsRequest() {
		fmt.Fprintf(&s, "%s %s %s %s", h.MethodBytes(), h.AuthorityBytes(), h.PathBytes(), h.TargetBytes())
	} else {
		fmt.Fprint(&s, h.Status)
	}
	f := &h.Framing
	fmt.Fprintf(&s, " kind=%d length=%d", f.Kind, f.Length)
	if f.Continue {
		s.WriteString(" continue")
	}
	if f.Trailers {
		s.WriteString(" trailers")
	}
	if up := h.UpgradeBytes(); len(up) > 0 {
		fmt.Fprintf(&s, " upgrade=%s", up)
	}
	for _, field := range h.Fields() {
		if !field.Deleted() {
			fmt.Fprintf(&s, "|%s=%s", h.Name(field), h.Value(field))
			if field.ID != message.IDOf(h.Name(field)) {
				s.WriteString(" (wrong id)")
			}
			if field.Flags&message.Sensitive != 0 {
				s.WriteString(" (sensitive)")
			}
		}
	}
	return s.String()
}

func testRules() *headRules { return &headRules{list: 4096, fields: 20, trailers: 512} }

func newDecoder() *headDecoder {
	d := &headDecoder{}
	d.init(testRules(), nil)
	return d
}

// withGet puts a plain request's pseudo-headers before lines.
func withGet(lines ...string) []string {
	return append([]string{":method: GET", ":scheme: http", ":path: /", ":authority: a"}, lines...)
}

func TestRequestHead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		end   bool
		want  string
	}{
		{"plain", withGet(), true, "GET a / / kind=0 length=0"},
		{"fields", withGet("x-a: 1", "accept: */*", "x-empty: "), true, "GET a / / kind=0 length=0|x-a=1|accept=*/*|x-empty="},
		{"authority last", []string{":path: /x?y", ":method: PUT", ":scheme: https", ":authority: b:80"}, true, "PUT b:80 /x?y /x?y kind=0 length=0"},
		{"host alone", []string{":method: GET", ":scheme: http", ":path: /", "host: a:1"}, true, "GET a:1 / / kind=0 length=0"},
		{"host agrees", withGet("host: A"), true, "GET a / / kind=0 length=0"},
		{"body without length", withGet("trailer: x"), false, "GET a / / kind=2 length=0|trailer=x"},
		{"no body, so no trailer", withGet("trailer: x"), true, "GET a / / kind=0 length=0"},
		{"length", withGet("content-length: 12"), false, "GET a / / kind=1 length=12"},
		{"length zero", withGet("content-length: 0"), true, "GET a / / kind=1 length=0"},
		{"length zero, end to come", withGet("content-length: 0"), false, "GET a / / kind=1 length=0"},
		{"expect", withGet("expect: 100-continue"), false, "GET a / / kind=2 length=0 continue"},
		{"expect without body", withGet("expect: 100-continue"), true, "GET a / / kind=0 length=0"},
		{"te", withGet("te: trailers", "x: y"), true, "GET a / / kind=0 length=0 trailers|x=y"},
		{"crumbs", withGet("cookie: a=1", "cookie: b=2", "x: y", "cookie: c=3", "z: z"), true, "GET a / / kind=0 length=0|cookie=a=1; b=2; c=3|x=y|z=z"},
		{"one crumb", withGet("cookie: a=1; b=2"), true, "GET a / / kind=0 length=0|cookie=a=1; b=2"},
		{"proxy's own fields", withGet("proxy-authorization: x", "proxy-authenticate: x", "http2-settings: x"), true, "GET a / / kind=0 length=0"},
		{"options of a server", []string{":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a"}, true, "OPTIONS a * * kind=0 length=0"},
		{"obs-text", withGet("x: \xe9"), true, "GET a / / kind=0 length=0|x=\xe9"},
		{"websocket", []string{":method: CONNECT", ":protocol: websocket", ":scheme: https", ":path: /chat", ":authority: a",
			"sec-websocket-version: 13", "sec-websocket-key: theirs"}, false,
			"GET a /chat /chat kind=0 length=0 upgrade=websocket|sec-websocket-version=13|sec-websocket-key=KEY"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h message.Head
			h.AddString(message.NameVia, "", "left over")
			if f := newDecoder().request(blockOf(t, tc.lines...), tc.end, &h); f.bad() {
				t.Fatal(f)
			}
			got := shown(&h)
			if key, ok := h.Get(message.NameSecWebSocketKey); ok && len(key) == 24 && string(key[22:]) == "==" {
				got = strings.Replace(got, string(key), "KEY", 1)
			}
			if got != tc.want {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
			if h.Framing.Minor != 1 {
				t.Error("not like HTTP/1.1")
			}
		})
	}
}

func TestRequestHeadRefused(t *testing.T) {
	stream, answer := faultStream, faultAnswer
	many := func(n int, line string) (all []string) {
		for range n {
			all = append(all, line)
		}
		return all
	}
	for _, tc := range []struct {
		name   string
		lines  []string
		kind   faultKind
		reason policy.Reason
	}{
		{"upper case", withGet("X-a: 1"), stream, policy.HTTP2Protocol},
		{"name with a space", withGet("x a: 1"), stream, policy.HTTP2Protocol},
		{"name with a colon", withGet("x:a: 1"), stream, policy.HTTP2Protocol},
		{"name above ASCII", withGet("x\xe9: 1"), stream, policy.HTTP2Protocol},
		{"value with NUL", withGet("x: a\x00b"), stream, policy.HTTP2Protocol},
		{"value with CR", withGet("x: a\rb"), stream, policy.HTTP2Protocol},
		{"value with LF", withGet("x: a\nb"), stream, policy.HTTP2Protocol},
		{"value with DEL", withGet("x: a\x7fb"), stream, policy.HTTP2Protocol},
		{"space before", withGet("x:  a"), stream, policy.HTTP2Protocol},
		{"tab behind", withGet("x: a\t"), stream, policy.HTTP2Protocol},
		{"unknown pseudo-header", withGet(":x: a"), stream, policy.HTTP2Protocol},
		{"status in a request", withGet(":status: 200"), stream, policy.HTTP2Protocol},
		{"pseudo-header twice", withGet(":path: /"), stream, policy.HTTP2Protocol},
		{"authority twice", withGet(":authority: a"), stream, policy.HTTP2Protocol},
		{"pseudo-header after a field", []string{":method: GET", ":scheme: http", "x: y", ":path: /"}, stream, policy.HTTP2Protocol},
		{"no method", []string{":scheme: http", ":path: /", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"no scheme", []string{":method: GET", ":path: /", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"no path", []string{":method: GET", ":scheme: http", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"empty path", []string{":method: GET", ":scheme: http", ":path: ", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"no authority", []string{":method: GET", ":scheme: http", ":path: /"}, answer, policy.BadHost},
		{"empty authority", []string{":method: GET", ":scheme: http", ":path: /", ":authority: "}, answer, policy.BadHost},
		{"user information", []string{":method: GET", ":scheme: http", ":path: /", ":authority: u@a"}, answer, policy.BadHost},
		{"host differs", withGet("host: b"), answer, policy.BadHost},
		{"host twice", withGet("host: a", "host: a"), answer, policy.BadHost},
		{"host malformed", []string{":method: GET", ":scheme: http", ":path: /", "host: a/b"}, answer, policy.BadHost},
		{"method with a space", []string{":method: GE T", ":scheme: http", ":path: /", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"method empty", []string{":method: ", ":scheme: http", ":path: /", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"absolute path", []string{":method: GET", ":scheme: http", ":path: http://a/", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"asterisk of GET", []string{":method: GET", ":scheme: http", ":path: *", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"path with a space", []string{":method: GET", ":scheme: http", ":path: /a b", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"path with CRLF", []string{":method: GET", ":scheme: http", ":path: /\r\nx: y", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"path with a fragment", []string{":method: GET", ":scheme: http", ":path: /#a", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"scheme", []string{":method: GET", ":scheme: ftp", ":path: /", ":authority: a"}, answer, policy.BadRequest},
		{"scheme with LF", []string{":method: GET", ":scheme: a\nb", ":path: /", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"connection", withGet("connection: close"), stream, policy.HTTP2Protocol},
		{"proxy-connection", withGet("proxy-connection: close"), stream, policy.HTTP2Protocol},
		{"keep-alive", withGet("keep-alive: 1"), stream, policy.HTTP2Protocol},
		{"transfer-encoding", withGet("transfer-encoding: chunked"), stream, policy.HTTP2Protocol},
		{"upgrade", withGet("upgrade: websocket"), stream, policy.HTTP2Protocol},
		{"te other than trailers", withGet("te: trailers, gzip"), stream, policy.HTTP2Protocol},
		{"length twice", withGet("content-length: 1", "content-length: 1"), stream, policy.HTTP2Protocol},
		{"length malformed", withGet("content-length: 1a"), stream, policy.HTTP2Protocol},
		{"length empty", withGet("content-length: "), stream, policy.HTTP2Protocol},
		{"length with a sign", withGet("content-length: +1"), stream, policy.HTTP2Protocol},
		{"length too large", withGet("content-length: 9223372036854775808"), stream, policy.HTTP2Protocol},
		{"length without a body", withGet("content-length: 1"), stream, policy.HTTP2Protocol},
		{"expectation", withGet("expect: more"), answer, policy.BadRequest},
		{"connect", []string{":method: CONNECT", ":authority: a:1"}, answer, policy.MethodRefused},
		{"connect with a path", []string{":method: CONNECT", ":authority: a:1", ":scheme: http", ":path: /"}, stream, policy.HTTP2Protocol},
		{"connect without authority", []string{":method: CONNECT"}, stream, policy.HTTP2Protocol},
		{"connect without port", []string{":method: CONNECT", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"connect with a length", []string{":method: CONNECT", ":authority: a:1", "content-length: 1"}, stream, policy.HTTP2Protocol},
		{"protocol without connect", withGet(":protocol: websocket"), stream, policy.HTTP2Protocol},
		{"extended connect without path", []string{":method: CONNECT", ":protocol: websocket", ":scheme: http", ":authority: a"}, stream, policy.HTTP2Protocol},
		{"another protocol", []string{":method: CONNECT", ":protocol: connect-udp", ":scheme: http", ":path: /", ":authority: a"}, answer, policy.MethodRefused},
		{"too many fields", withGet(many(21, "x: y")...), answer, policy.HeadTooLarge},
		{"too large", withGet("x: " + strings.Repeat("y", 4096)), answer, policy.HeadTooLarge},
		{"too many fields that are dropped", withGet(many(21, "te: trailers")...), answer, policy.HeadTooLarge},
		{"too many small crumbs", withGet(many(200, "cookie: a")...), answer, policy.HeadTooLarge},
		{"nothing", nil, stream, policy.HTTP2Protocol},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h message.Head
			d := newDecoder()
			block := append(blockOf(t, tc.lines...), 0x40, 1, 'k', 1, 'v')
			f := d.request(block, true, &h)
			if f.kind != tc.kind || f.reason != tc.reason || f.text == "" {
				t.Errorf("%+v, want kind %d, %s", f, tc.kind, tc.reason)
			}
			// The whole block was decoded: its last field is in the table.
			if f := d.request(append(blockOf(t, withGet()...), 0xbf), true, &h); f.bad() || !strings.HasSuffix(shown(&h), "|k=v") {
				t.Errorf("afterwards %+v %s", f, shown(&h))
			}
		})
	}
}

func TestManyCrumbsAreRefused(t *testing.T) {
	d := newDecoder()
	d.rules.list = 1 << 20
	lines := withGet()
	for range crumbsAtMost {
		lines = append(lines, "cookie: a=1")
	}
	var h message.Head
	if f := d.request(blockOf(t, lines...), true, &h); f.bad() || h.Len() != 1 {
		t.Errorf("%+v, %d fields", f, h.Len())
	}
	if f := d.request(blockOf(t, append(lines, "cookie: a=1")...), true, &h); f.reason != policy.HeadTooLarge {
		t.Errorf("%+v", f)
	}
}

func TestBrokenBlock(t *testing.T) {
	var h message.Head
	if f := newDecoder().request([]byte{0xbe}, true, &h); f.kind != faultConnection || f.reason != policy.HTTP2Compression {
		t.Errorf("%+v", f)
	}
	if f := newDecoder().skip([]byte{0x82, 0xbe}); f.kind != faultConnection {
		t.Errorf("%+v", f)
	}
	if f := newDecoder().skip([]byte{0x82, 0x82}); f.bad() {
		t.Errorf("%+v", f)
	}
}

// TestVerdictsStayWithTheTable: a field that was stored is judged by its entry, also
// where it was refused.
func TestVerdictsStayWithTheTable(t *testing.T) {
	d := newDecoder()
	var b bytes.Buffer
	e := hpack.NewEncoder(&b)
	var h message.Head
	send := func(fields ...string) fault {
		b.Reset()
		for _, f := range append(withGet(), fields...) {
			name, value, _ := strings.Cut(f[1:], ": ")
			_ = e.WriteField(hpack.HeaderField{Name: f[:1] + name, Value: value})
		}
		return d.request(b.Bytes(), true, &h)
	}
	for range 3 {
		if f := send("x: good", "cookie: a=1", "accept: x"); f.bad() || shown(&h) != "GET a / / kind=0 length=0|x=good|cookie=a=1|accept=x" {
			t.Errorf("%+v %s", f, shown(&h))
		}
		for _, line := range []string{"x: a\nb", "X: a", ":status: 200", "connection: close", "content-length: x", ":path: /"} {
			if f := send(line); f.kind != faultStream {
				t.Errorf("%q: %+v", line, f)
			}
		}
	}
}

func TestResponseHead(t *testing.T) {
	for _, tc := range []struct {
		name  string
		lines []string
		end   bool
		asked asked
		want  string
	}{
		{"plain", []string{":status: 200", "server: x"}, false, asked{}, "200 kind=2 length=0|server=x"},
		{"length", []string{":status: 200", "content-length: 3"}, false, asked{}, "200 kind=1 length=3"},
		{"nothing follows", []string{":status: 500"}, true, asked{}, "500 kind=0 length=0"},
		{"trailers only", []string{":status: 200", "content-type: application/grpc", "grpc-status: 5"}, true, asked{}, "200 kind=0 length=0|content-type=application/grpc|grpc-status=5"},
		{"head", []string{":status: 200", "content-length: 3"}, true, asked{head: true}, "200 kind=0 length=3"},
		{"head, its end to come", []string{":status: 200", "content-length: 3"}, false, asked{head: true}, "200 kind=0 length=3"},
		{"head without length", []string{":status: 200"}, true, asked{head: true}, "200 kind=0 length=-1"},
		{"no content", []string{":status: 204"}, true, asked{}, "204 kind=0 length=-1"},
		{"not modified", []string{":status: 304", "content-length: 3"}, true, asked{}, "304 kind=0 length=3"},
		{"continue", []string{":status: 100"}, false, asked{}, "100 kind=0 length=-1"},
		{"early hints", []string{":status: 103", "link: x"}, false, asked{}, "103 kind=0 length=-1|link=x"},
		{"connect", []string{":status: 200"}, false, asked{connect: true}, "200 kind=4 length=0"},
		{"connect refused", []string{":status: 403"}, true, asked{connect: true}, "403 kind=0 length=0"},
		{"websocket", []string{":status: 200", "sec-websocket-protocol: p"}, false, asked{tunnel: acceptOf([]byte("dGhlIHNhbXBsZSBub25jZQ=="))},
			"101 kind=4 length=0 upgrade=websocket|sec-websocket-protocol=p|sec-websocket-accept=s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
		{"websocket refused", []string{":status: 403", "content-length: 1"}, false, asked{tunnel: acceptOf(nil)}, "403 kind=1 length=1"},
		{"cookies", []string{":status: 200", "set-cookie: a", "set-cookie: b"}, true, asked{}, "200 kind=0 length=0|set-cookie=a|set-cookie=b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var h message.Head
			if f := newDecoder().response(blockOf(t, tc.lines...), tc.end, tc.asked, &h); f.bad() {
				t.Fatal(f)
			}
			if got := shown(&h); got != tc.want {
				t.Errorf("%s\nwant %s", got, tc.want)
			}
		})
	}
	for _, lines := range [][]string{
		nil, {"x: y"}, {":status: 20"}, {":status: 2000"}, {":status: 2x0"}, {":status: 099"}, {":status: 200", ":status: 200"},
		{":status: 101"}, {":status: 100"}, {":status: 200", ":path: /"}, {"x: y", ":status: 200"}, {":status: 204", "content-length: 1"},
		{":status: 200", "te: trailers"}, {":status: 200", "connection: close"}, {":status: 200", "content-length: 1"},
	} {
		var h message.Head
		if f := newDecoder().response(blockOf(t, lines...), true, asked{}, &h); f.kind != faultStream {
			t.Errorf("%q: %+v", lines, f)
		}
	}
}

func TestTrailers(t *testing.T) {
	var h message.Head
	d := newDecoder()
	f := d.trailers(blockOf(t, "grpc-status: 0", "grpc-message: ok", "x-more: 1", "host: a", "content-length: 1",
		"authorization: x", "x-forwarded-for: y", "x-larboard-reason: z", "cookie: c", "grpc-status-details-bin: AA"), &h)
	if got := shown(&h); f.bad() || got != "    kind=0 length=0|grpc-status=0|grpc-message=ok|x-more=1|grpc-status-details-bin=AA" {
		t.Errorf("%+v %s", f, got)
	}
	for _, lines := range [][]string{{":status: 200"}, {":path: /"}, {"connection: close"}, {"X: y"}, {"x: a\nb"}, {"te: trailers"}} {
		if f := newDecoder().trailers(blockOf(t, lines...), &h); f.kind != faultStream {
			t.Errorf("%q: %+v", lines, f)
		}
	}
	if f := d.trailers(blockOf(t, "x: "+strings.Repeat("y", 512)), &h); f.reason != policy.HeadTooLarge {
		t.Errorf("%+v", f)
	}
}

func newEncoder() *ours.Encoder {
	e := &ours.Encoder{}
	e.Init(1)
	return e
}
