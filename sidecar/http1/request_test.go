package http1

import (
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// requestCase: last is the verdict on the last thing read: "eof" (all taken and
// answered, connection kept), "close" (taken, and the last), or a reason.
type requestCase struct {
	name, data, last string
	want             string // start of the transcript, if given
}

const hosted = "\r\nHost: a\r\n"

func get(fields ...string) string {
	return "GET / HTTP/1.1" + hosted + strings.Join(append(fields, "", ""), "\r\n")
}

func post(fields, body string) string {
	return "POST / HTTP/1.1" + hosted + fields + "\r\n\r\n" + body
}

func chunked(body string) string { return post("Transfer-Encoding: chunked", body) }

var requestCases = []requestCase{
	{"plain get", "GET /x?y=1 HTTP/1.1\r\nHost: a.example:80\r\nAccept: */*\r\n\r\n", "eof",
		`GET "/x?y=1" at "a.example:80" 1.1 kind 0 length 0 Accept="*/*"`},
	{"nothing", "", "eof", ""},
	{"pipelined", get() + get("X: 1"), "eof", "GET \"/\" at \"a\" 1.1 kind 0 length 0\nbody \"\"\nGET \"/\" at \"a\" 1.1 kind 0 length 0 X=\"1\""},
	{"pipelined after a body", post("Content-Length: 3", "abc") + chunked("1\r\nx\r\n0\r\n\r\n") + get(), "eof", ""},
	{"empty line before", "\r\n" + get(), "eof", `GET "/" at "a"`},
	{"empty line between", get() + "\r\n" + get(), "eof", ""},
	{"two empty lines before", "\r\n\r\n" + get(), "bad_request", ""},
	{"only an empty line", "\r\n", "client_aborted", ""},
	{"cut in the request line", "GET / HT", "client_aborted", ""},
	{"cut in the fields", "GET / HTTP/1.1\r\nHost: a\r\n", "client_aborted", ""},
	{"close asked", get("Connection: close"), "close", ""},
	{"close in a list", get("Connection: keep-alive, CLOSE"), "close", ""},
	{"old", "GET / HTTP/1.0\r\n\r\n", "close", `GET "/" at "" 1.0 kind 0 length 0 close`},
	{"old, kept", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Keep-Alive\r\n\r\n", "eof", `GET "/" at "a" 1.0 kind 0 length 0` + "\n"},
	{"old with a body", "POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nab", "close", ""},
	{"obs-text in a value", get("X: caf\xc3\xa9\xff"), "eof", ""},
	{"tab in a value", get("X: a\tb"), "eof", ""},
	{"white space around a value", get("X: \t a \t"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 X="a"`},
	{"empty value", get("X:"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 X=""`},
	{"odd method", "M-SEARCH * HTTP/1.1\r\nHost: a\r\n\r\n", "bad_request", ""},
	{"options of the server", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "eof", `OPTIONS "*" at "a"`},

	// Request line.
	{"no method", " / HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"method not a token", "G(T / HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"lower case method is another method", "get / HTTP/1.1" + hosted + "\r\n", "eof", `get "/"`},
	{"no target", "GET  HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"no HTTP", "INVALID CONNECTION PREFACE\r\n\r\n", "not_http", ""},
	{"a word", "QUIT\r\n\r\n", "not_http", ""},
	{"a version and no path", "a HTTP/1.1\r\n\r\n", "bad_request", ""},
	{"no version", "GET /" + hosted + "\r\n", "bad_request", ""},
	{"two spaces", "GET  / HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"two spaces before the version", "GET /  HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"tab for a space", "GET\t/ HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"space after the version", "GET / HTTP/1.1 " + hosted + "\r\n", "bad_request", ""},
	{"space in the target", "GET /a b HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"version 0.9", "GET / HTTP/0.9" + hosted + "\r\n", "bad_request", ""},
	{"version 1.2", "GET / HTTP/1.2" + hosted + "\r\n", "bad_request", ""},
	{"version 2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "bad_request", ""},
	{"version 1.10", "GET / HTTP/1.10" + hosted + "\r\n", "bad_request", ""},
	{"version in lower case", "GET / http/1.1" + hosted + "\r\n", "bad_request", ""},
	{"version 1,1", "GET / HTTP/1,1" + hosted + "\r\n", "bad_request", ""},
	{"fragment", "GET /a#b HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"NUL in the target", "GET /\x00 HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"control in the target", "GET /\x01 HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"DEL in the target", "GET /\x7f HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"non-ASCII in the target", "GET /\xc3\xa9 HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"tab in the target", "GET /\t HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"carriage return in the target", "GET /\r HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"relative target", "GET a HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"TLS to a plain port", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "bad_request", ""},

	// Absolute form, authority form.
	{"absolute", "GET http://a:8080/p?q HTTP/1.1\r\nHost: A:8080\r\n\r\n", "eof", `GET "/p?q" at "A:8080"`},
	{"absolute https", "GET HTTPS://a/p HTTP/1.1" + hosted + "\r\n", "eof", `GET "/p" at "a"`},
	{"absolute without a path", "GET http://a HTTP/1.1" + hosted + "\r\n", "eof", `GET "/" at "a"`},
	{"absolute with only a query", "GET http://a?q=1 HTTP/1.1" + hosted + "\r\n", "eof", `GET "/?q=1" at "a"`},
	{"absolute options without a path", "OPTIONS http://a HTTP/1.1" + hosted + "\r\n", "eof", `OPTIONS "*" at "a"`},
	{"absolute options with a path", "OPTIONS http://a/ HTTP/1.1" + hosted + "\r\n", "eof", `OPTIONS "/" at "a"`},
	{"absolute at odds with host", "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n", "bad_host", ""},
	{"absolute at odds by port", "GET http://a:81/ HTTP/1.1" + hosted + "\r\n", "bad_host", ""},
	{"absolute without host", "GET http://a/ HTTP/1.1\r\n\r\n", "bad_host", ""},
	{"absolute, old, without host", "GET http://a/ HTTP/1.0\r\n\r\n", "close", `GET "/" at "a" 1.0`},
	{"absolute with user", "GET http://u@a/ HTTP/1.1" + hosted + "\r\n", "bad_host", ""},
	{"absolute with user and password", "GET http://u:p@a/ HTTP/1.1\r\nHost: u:p@a\r\n\r\n", "bad_host", ""},
	{"absolute without authority", "GET http:/// HTTP/1.1" + hosted + "\r\n", "bad_host", ""},
	{"another scheme", "GET ftp://a/ HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"bare scheme", "GET http:// HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"connect", "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", "close", `CONNECT "" at "a:443"`},
	{"connect without a port", "CONNECT a HTTP/1.1" + hosted + "\r\n", "bad_host", ""},
	{"connect with a path", "CONNECT / HTTP/1.1" + hosted + "\r\n", "bad_host", ""},
	{"connect at odds with host", "CONNECT a:1 HTTP/1.1\r\nHost: b:1\r\n\r\n", "bad_host", ""},
	{"connect with a body", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 1\r\n\r\nx", "bad_request", ""},

	// Host.
	{"no host", "GET / HTTP/1.1\r\n\r\n", "bad_host", ""},
	{"two hosts", get("Host: a"), "bad_host", ""},
	{"empty host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", "bad_host", ""},
	{"host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n", "bad_host", ""},
	{"host with a path", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "bad_host", ""},
	{"host with a space", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "bad_host", ""},
	{"host as a list", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", "bad_host", ""},
	{"host joined", "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", "bad_host", ""},
	{"host with a bad port", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n", "bad_host", ""},
	{"host with a port over the range", "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n", "bad_host", ""},
	{"host with two ports", "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n", "bad_host", ""},
	{"host with an empty port", "GET / HTTP/1.1\r\nHost: a:\r\n\r\n", "bad_host", ""},
	{"host, IPv6", "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "eof", `GET "/" at "[::1]:80"`},
	{"host, bad IPv6", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n", "bad_host", ""},
	{"host, IPv6 with a zone", "GET / HTTP/1.1\r\nHost: [fe80::1%25eth0]\r\n\r\n", "bad_host", ""},
	{"host, bare IPv6", "GET / HTTP/1.1\r\nHost: ::1\r\n\r\n", "bad_host", ""},
	{"host with obs-text", "GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n", "bad_host", ""},
	{"host percent-encoded", "GET / HTTP/1.1\r\nHost: a%2eb\r\n\r\n", "bad_host", ""},
	{"host in a 1.0 request is checked", "GET / HTTP/1.0\r\nHost: a b\r\n\r\n", "bad_host", ""},

	// Field lines.
	{"bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", "bad_request", ""},
	{"bare LF after a field", "GET / HTTP/1.1\r\nHost: a\n\r\n", "bad_request", ""},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", "bad_request", ""},
	{"bare LF first", "\n" + get(), "bad_request", ""},
	{"bare CR first", "\rGET / HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	{"bare CR in a value", get("X: a\rb"), "bad_request", ""},
	{"CR CR LF", "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n", "bad_request", ""},
	{"folded line", get("X: a", " b"), "bad_request", ""},
	{"folded with a tab", get("X: a", "\tb"), "bad_request", ""},
	{"folded first line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", "bad_request", ""},
	{"space before the colon", get("X : a"), "bad_request", ""},
	{"tab before the colon", get("X\t: a"), "bad_request", ""},
	{"space in a name", get("X Y: a"), "bad_request", ""},
	{"empty name", get(": a"), "bad_request", ""},
	{"no colon", get("X"), "bad_request", ""},
	{"name not a token", get("X[]: a"), "bad_request", ""},
	{"name with obs-text", get("X\xe9: a"), "bad_request", ""},
	{"NUL in a name", get("X\x00: a"), "bad_request", ""},
	{"NUL in a value", get("X: a\x00b"), "bad_request", ""},
	{"control in a value", get("X: a\x1bb"), "bad_request", ""},
	{"control in a long value", get("X: aaaaaaaaaaaaaaaaaaaa\x1fbbbbbbbbbbbbb"), "bad_request", ""},
	{"DEL in a value", get("X: a\x7f"), "bad_request", ""},

	// Content-Length.
	{"length", post("Content-Length: 5", "hello"), "eof", "POST \"/\" at \"a\" 1.1 kind 1 length 5\nbody \"hello\"\n"},
	{"length zero", post("Content-Length: 0", ""), "eof", `POST "/" at "a" 1.1 kind 1 length 0`},
	{"length with zeros before", post("Content-Length: 0005", "hello"), "eof", ""},
	{"length cut", post("Content-Length: 5", "hel"), "body_aborted", ""},
	{"length negative", post("Content-Length: -1", ""), "bad_request", ""},
	{"length with a plus", post("Content-Length: +1", "x"), "bad_request", ""},
	{"length empty", post("Content-Length:", ""), "bad_request", ""},
	{"length hexadecimal", post("Content-Length: 0x1", "x"), "bad_request", ""},
	{"length with a space", post("Content-Length: 1 1", "x"), "bad_request", ""},
	{"length, overflow", post("Content-Length: 9223372036854775808", ""), "bad_request", ""},
	{"length, overflow by far", post("Content-Length: 99999999999999999999999999", ""), "bad_request", ""},
	{"length in a list", post("Content-Length: 1, 1", "x"), "bad_request", ""},
	{"lengths that differ in a list", post("Content-Length: 1, 2", "x"), "bad_request", ""},
	{"lengths that differ", post("Content-Length: 1\r\nContent-Length: 2", "x"), "bad_request", ""},
	{"lengths that agree", post("Content-Length: 1\r\nContent-Length: 1", "x"), "bad_request", ""},

	// Chunked.
	{"chunked", chunked("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"), "eof", "POST \"/\" at \"a\" 1.1 kind 2 length 0\nbody \"hello world\"\n"},
	{"chunked in capitals", post("Transfer-Encoding: Chunked", "A\r\n0123456789\r\n000\r\n\r\n"), "eof", ""},
	{"chunked, empty", chunked("0\r\n\r\n"), "eof", ""},
	{"chunk extension", chunked("1;a=b;c;d=\"e;\\\"\"\r\nx\r\n0;z\r\n\r\n"), "eof", ""},
	{"chunked, trailers", chunked("0\r\nX-Sum: 1\r\nETag: \"a\"\r\n\r\n"), "eof",
		"POST \"/\" at \"a\" 1.1 kind 2 length 0\nbody \"\"\ntrailers X-Sum=\"1\" ETag=\"\\\"a\\\"\"\n"},
	{"chunk without a size", chunked("\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size negative", chunked("-1\r\n"), "bad_request", ""},
	{"chunk size with a plus", chunked("+1\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size with 0x", chunked("0x1\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size with a space before", chunked(" 1\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size with a space after", chunked("1 \r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size, not a digit", chunked("g\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size overflow", chunked("8000000000000000\r\n"), "bad_request", ""},
	{"chunk size of 17 digits", chunked("00000000000000001\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size with bare LF", chunked("1\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk size with bare CR", chunked("1\rx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk longer than its size", chunked("1\r\nxy\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk ends with bare LF", chunked("1\r\nx\n0\r\n\r\n"), "bad_request", ""},
	{"chunk ends with bare CR", chunked("1\r\nx\r0\r\n\r\n"), "bad_request", ""},
	{"chunk extension without a name", chunked("1;\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extension without a value", chunked("1;a=\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extension with a space", chunked("1; a\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extension with a bare LF", chunked("1;a\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extension, LF in quotes", chunked("1;a=\"\n\"\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extension after quotes", chunked("1;a=\"b\"c\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunk extensions over the limit", chunked("1;" + strings.Repeat("a", extensionsAtMost+1) + "\r\nx\r\n0\r\n\r\n"), "bad_request", ""},
	{"chunked, cut in a chunk", chunked("5\r\nhel"), "body_aborted", ""},
	{"chunked, cut before the last", chunked("1\r\nx\r\n"), "body_aborted", ""},
	{"chunked, cut in the trailers", chunked("0\r\nX: 1\r\n"), "body_aborted", ""},
	{"trailer with a bare LF", chunked("0\r\nX: 1\n\r\n"), "bad_request", ""},
	{"trailers end with a bare LF", chunked("0\r\n\n"), "bad_request", ""},
	{"trailer folded", chunked("0\r\nX: 1\r\n y\r\n\r\n"), "bad_request", ""},
	{"trailer without a colon", chunked("0\r\nX\r\n\r\n"), "bad_request", ""},
	{"trailer with a length", chunked("0\r\nContent-Length: 1\r\n\r\n"), "bad_request", ""},
	{"trailer with a coding", chunked("0\r\ntransfer-encoding: chunked\r\n\r\n"), "bad_request", ""},
	{"trailer with a host", chunked("0\r\nHost: b\r\n\r\n"), "bad_request", ""},
	{"trailer with authorization", chunked("0\r\nAuthorization: x\r\n\r\n"), "bad_request", ""},
	{"trailer with a forwarding field", chunked("0\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n"), "bad_request", ""},
	{"trailer with an unknown forwarding field", chunked("0\r\nX-Forwarded-Larboard: 1\r\n\r\n"), "bad_request", ""},
	{"trailers over the limit", chunked("0\r\nX: " + strings.Repeat("a", 8<<10) + "\r\n\r\n"), "head_too_large", ""},
	{"too many trailers", chunked("0\r\n" + strings.Repeat("X: 1\r\n", 101) + "\r\n"), "head_too_large", ""},

	// Limits.
	{"longest request line", "GET /" + strings.Repeat("a", 8<<10-14) + " HTTP/1.1" + hosted + "\r\n", "eof", ""},
	{"request line too long", "GET /" + strings.Repeat("a", 8<<10-13) + " HTTP/1.1" + hosted + "\r\n", "request_line_too_long", ""},
	{"endless request line", strings.Repeat("a", 9<<10), "request_line_too_long", ""},
	{"as many fields as allowed", get(strings.Repeat("X: 1\r\n", 98) + "X: 1"), "eof", ""},
	{"one field too many", get(strings.Repeat("X: 1\r\n", 99) + "X: 1"), "head_too_large", ""},

	// Upgrade, Expect, Connection.
	{"upgrade", get("Connection: Upgrade", "Upgrade: websocket"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 upgrade "websocket"`},
	{"upgrade not nominated", get("Upgrade: websocket"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
	{"upgrade to h2c", get("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
	{"upgrade to h2c and more", get("Connection: Upgrade", "Upgrade: H2C, websocket"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 upgrade "websocket"`},
	{"upgrade to TLS", get("Connection: Upgrade", "Upgrade: TLS/1.2"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
	{"upgrade malformed", get("Connection: Upgrade", "Upgrade: a b"), "bad_request", ""},
	{"upgrade with a body", post("Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 1", "x"), "eof", `POST "/" at "a" 1.1 kind 1 length 1` + "\n"},
	{"upgrade in 1.0", "GET / HTTP/1.0\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "close", `GET "/" at "a" 1.0 kind 0 length 0 close` + "\n"},
	{"expectation", post("Expect: 100-Continue\r\nContent-Length: 1", "x"), "eof", `POST "/" at "a" 1.1 kind 1 length 1 continue`},
	{"expectation without a body", get("Expect: 100-continue"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
	{"expectation in 1.0", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx", "close", `POST "/" at "" 1.0 kind 1 length 1 close` + "\n"},
	{"another expectation", post("Expect: x\r\nContent-Length: 1", "x"), "bad_request", ""},
	{"hop by hop", get("Keep-Alive: 5", "Proxy-Connection: x", "TE: trailers", "Connection: te, keep-alive", "Proxy-Authorization: x"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 trailers` + "\n"},
	{"trailers are taken, and codings", get("TE: gzip;q=0.5 ,Trailers"), "eof", `GET "/" at "a" 1.1 kind 0 length 0 trailers` + "\n"},
	{"codings alone", get("TE: gzip, x-trailers", "TE:"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
	{"nominated field", get("X-Hop: 1", "Connection: x-hop,,close", "Y: 2"), "close", `GET "/" at "a" 1.1 kind 0 length 0 close Y="2"`},
	{"nominated: host", get("Connection: host"), "bad_request", ""},
	{"nominated: length", post("Connection: content-length\r\nContent-Length: 1", "x"), "bad_request", ""},
	{"nominated: coding", post("Connection: transfer-encoding\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "bad_request", ""},
	{"nominated: authorization", get("Connection: close, Authorization"), "bad_request", ""},
	{"nominated: cookie", get("Connection: cookie"), "bad_request", ""},
	{"nominated: forwarded for", get("Connection: X-Forwarded-For"), "bad_request", ""},
	{"nominated: forwarded something", get("Connection: x-forwarded-anything"), "bad_request", ""},
	{"nominated: request id", get("Connection: x-request-id"), "bad_request", ""},
	{"nominated: not a token", get("Connection: a b"), "bad_request", ""},
	{"trailer field kept when chunked", post("Trailer: X\r\nTransfer-Encoding: chunked", "0\r\nX: 1\r\n\r\n"), "eof", `POST "/" at "a" 1.1 kind 2 length 0 Trailer="X"`},
	{"trailer field dropped otherwise", get("Trailer: X"), "eof", `GET "/" at "a" 1.1 kind 0 length 0` + "\n"},
}

func TestRequests(t *testing.T) {
	checkRequests(t, requestCases)
}

func checkRequests(t *testing.T, cases []requestCase) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			text, last, other := everyCut(tc.data, serve)
			if last != tc.last {
				t.Errorf("verdict %s, want %s\n%s", last, tc.last, text)
			}
			if !strings.HasPrefix(text, tc.want) {
				t.Errorf("got\n%s\nwant it to begin with\n%s", text, tc.want)
			}
			if other != "" {
				t.Errorf("not the same %s\nwhole: %s", other, text)
			}
		})
	}
}

// TestSmuggling holds the classic disagreements about where a request ends: none
// of them may leave a second request behind.
func TestSmuggling(t *testing.T) {
	second := "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
	coding := func(fields string) string { return post(fields, "0\r\n\r\n"+second) }
	cases := []requestCase{
		{"CL.TE", coding("Content-Length: 6\r\nTransfer-Encoding: chunked"), "bad_request", ""},
		{"TE.CL", coding("Transfer-Encoding: chunked\r\nContent-Length: 4"), "bad_request", ""},
		{"CL.TE with an obfuscated coding", coding("Content-Length: 6\r\nTransfer-Encoding: xchunked"), "bad_request", ""},
		{"CL.0 by an overflow", coding("Content-Length: 18446744073709551616"), "bad_request", ""},
		{"TE xchunked", coding("Transfer-Encoding: xchunked"), "bad_request", ""},
		{"TE with a space before the colon", coding("Transfer-Encoding : chunked"), "bad_request", ""},
		{"TE twice", coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: x"), "bad_request", ""},
		{"TE twice, equal", coding("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), "bad_request", ""},
		{"TE list, chunked last", coding("Transfer-Encoding: gzip, chunked"), "bad_request", ""},
		{"TE list, chunked first", coding("Transfer-Encoding: chunked, identity"), "bad_request", ""},
		{"TE list, chunked twice", coding("Transfer-Encoding: chunked, chunked"), "bad_request", ""},
		{"TE identity", coding("Transfer-Encoding: identity"), "bad_request", ""},
		{"TE empty", coding("Transfer-Encoding:"), "bad_request", ""},
		{"TE folded", coding("Transfer-Encoding:\r\n chunked"), "bad_request", ""},
		{"TE with a vertical tab", coding("Transfer-Encoding: \x0bchunked"), "bad_request", ""},
		{"TE with a form feed", coding("Transfer-Encoding: chunked\x0c"), "bad_request", ""},
		{"TE with NUL", coding("Transfer-Encoding: chunked\x00"), "bad_request", ""},
		{"TE quoted", coding("Transfer-Encoding: \"chunked\""), "bad_request", ""},
		{"TE with a parameter", coding("Transfer-Encoding: chunked;a=b"), "bad_request", ""},
		{"TE with a comma", coding("Transfer-Encoding: chunked,"), "bad_request", ""},
		{"TE behind a bare LF", coding("X: y\nTransfer-Encoding: chunked"), "bad_request", ""},
		{"TE behind a bare CR", coding("X: y\rTransfer-Encoding: chunked"), "bad_request", ""},
		{"TE behind a control name", coding("\x01Transfer-Encoding: chunked"), "bad_request", ""},
		{"TE in 1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second, "bad_request", ""},
		{"TE non-ASCII", coding("Transfer-Encoding: chun\u212aed"), "bad_request", ""},
		{"chunk size that wraps", chunked("10000000000000000\r\n" + second), "bad_request", ""},
		{"chunk with the terminator in an extension", chunked("0;a=\"\r\n\r\n" + second + "\"\r\n\r\n"), "bad_request", ""},
		{"last chunk without its empty line", chunked("0\r\n" + second), "bad_request", ""},
		{"length hidden by Connection", post("Connection: Content-Length\r\nContent-Length: 40", second), "bad_request", ""},
		{"second request on the first's line", "GET / HTTP/1.1\rGET /smuggled HTTP/1.1" + hosted + "\r\n", "bad_request", ""},
	}
	checkRequests(t, cases)
	for _, tc := range cases {
		if text, _ := serve(whole(tc.data)); strings.Contains(text, "/smuggled") {
			t.Errorf("%s: smuggled\n%s", tc.name, text)
		}
	}
}

// TestHeadLimit stands apart because its inputs are long.
func TestHeadLimit(t *testing.T) {
	line := "X: " + strings.Repeat("a", 1019) + "\r\n" // 1 KiB
	start := "GET / HTTP/1.1" + hosted
	fits := start + strings.Repeat(line, 63) + "X: " + strings.Repeat("a", 1024-len(start)-5-2) + "\r\n\r\n"
	for _, tc := range []requestCase{
		{"exactly the limit", fits, "eof", ""},
		{"one byte over", strings.Replace(fits, "X: ", "X: a", 1), "head_too_large", ""},
		{"one endless field", start + "X: " + strings.Repeat("a", 70<<10), "head_too_large", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for _, in := range [][][]byte{whole(tc.data), bytewise(tc.data), split(tc.data, 8<<10), split(tc.data, 40000)} {
				if _, last := serve(in); last != tc.last {
					t.Errorf("verdict %s, want %s", last, tc.last)
				}
			}
		})
	}
}

// TestRefusedHeadsCanBeRecorded: whoever records a request that was refused finds
// what had been read of it, and nothing of the request before.
func TestRefusedHeadsCanBeRecorded(t *testing.T) {
	for _, c := range []struct{ name, data, method, path, agent string }{
		{"bad field", "PUT /p?q HTTP/1.1\r\nUser-Agent: me\r\nHost : a\r\n\r\n", "PUT", "/p?q", "me"},
		{"bad first field", "PUT /p HTTP/1.1\r\n: a\r\n\r\n", "PUT", "/p", ""},
		{"cut in the fields", "PUT /p HTTP/1.1\r\nUser-Agent: me\r\nHos", "PUT", "/p", "me"},
		{"cut after the request line", "PUT /p HTTP/1.1\r\n", "PUT", "/p", ""},
		{"too many fields", "PUT /p HTTP/1.1\r\n" + strings.Repeat("A: b\r\n", 200), "PUT", "/p", ""},
		{"a field over the limit", "PUT /p HTTP/1.1\r\nA: " + strings.Repeat("x", 70<<10), "PUT", "/p", ""},
		{"empty path", "PUT http://a HTTP/1.1\r\n: \r\n", "PUT", "/", ""},
		{"cut in the request line", "PUT /p HT", "", "", ""},
		{"bad request line", "PUT  /p HTTP/1.1\r\n", "", "", ""},
	} {
		for _, used := range []bool{false, true} {
			var h message.Head
			if used { // a head of the pool still holds the bytes of an older request
				before, _, _ := newTestServer([][]byte{[]byte("DELETE /secret HTTP/1.1\r\nHost: a\r\nUser-Agent: other\r\n\r\n")})
				must(t, before.ReadHead(&h))
			}
			s, _, _ := newTestServer([][]byte{[]byte(c.data)})
			if err := s.ReadHead(&h); err == nil {
				t.Errorf("%s: taken", c.name)
			}
			agent, _ := h.Get(message.NameUserAgent)
			if string(h.MethodBytes()) != c.method || string(h.PathBytes()) != c.path || string(agent) != c.agent {
				t.Errorf("%s, used %v: recorded %q %q %q", c.name, used, h.MethodBytes(), h.PathBytes(), agent)
			}
		}
	}
}
