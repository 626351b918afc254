package http1

import (
	"errors"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

type responseCase struct {
	name, method, data, last string
	want                     string
}

func ok(fields, body string) string {
	if fields != "" {
		fields += "\r\n"
	}
	return "HTTP/1.1 200 OK\r\n" + fields + "\r\n" + body
}

var responseCases = []responseCase{
	{"length", "GET", ok("Content-Length: 2\r\nServer: x", "hi"), "reusable", "200 \"OK\" 1.1 kind 1 length 2 Server=\"x\"\nbody \"hi\""},
	{"chunked", "GET", ok("Transfer-Encoding: chunked", "2\r\nhi\r\n0\r\nX: 1\r\n\r\n"), "reusable", "200 \"OK\" 1.1 kind 2 length 0\nbody \"hi\"\ntrailers X=\"1\""},
	{"until close", "GET", ok("", "hello"), "ok", "200 \"OK\" 1.1 kind 3 length 0 close\nbody \"hello\""},
	{"until close, empty", "GET", ok("", ""), "ok", ""},
	{"old", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "ok", "200 \"OK\" 1.0 kind 1 length 2 close"},
	{"old, kept", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi", "reusable", ""},
	{"close", "GET", ok("Connection: close\r\nContent-Length: 2", "hi"), "ok", ""},
	{"head with a length", "HEAD", ok("Content-Length: 2", ""), "reusable", "200 \"OK\" 1.1 kind 0 length 2\nbody \"\""},
	{"head without a length", "HEAD", ok("", ""), "reusable", "200 \"OK\" 1.1 kind 0 length -1"},
	{"head, chunked", "HEAD", ok("Transfer-Encoding: chunked", ""), "reusable", "200 \"OK\" 1.1 kind 0 length -1"},
	{"head with a body in excess", "HEAD", ok("Content-Length: 2", "hi"), "ok", ""},
	{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "reusable", "204 \"No Content\" 1.1 kind 0 length -1"},
	{"204 with length zero", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "reusable", ""},
	{"204 with a length", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nhi", "upstream_protocol", ""},
	{"204, chunked", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "upstream_protocol", ""},
	{"304 with a length", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", "reusable", "304 \"Not Modified\" 1.1 kind 0 length 7"},
	{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok("Content-Length: 0", ""), "reusable", "103 \"Early Hints\" 1.1 kind 0 length -1 Link=\"x\"\n100"},
	{"interim with a length", "GET", "HTTP/1.1 103 Early Hints\r\nContent-Length: 1\r\n\r\n", "upstream_protocol", ""},
	{"interim without end", "GET", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 33) + ok("Content-Length: 0", ""), "upstream_protocol", ""},
	{"101 not asked for", "GET", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", "upstream_protocol", ""},
	{"101", "UPGRADE", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\nopaque", "ok", "101 \"Switching Protocols\" 1.1 kind 4 length 0 close upgrade \"WebSocket\"\nbody \"opaque\""},
	{"101 to another protocol", "UPGRADE", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n", "upstream_protocol", ""},
	{"101 to h2c", "UPGRADE", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", "upstream_protocol", ""},
	{"101 without a protocol", "UPGRADE", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n\r\n", "upstream_protocol", ""},
	{"101 without Connection", "UPGRADE", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "upstream_protocol", ""},
	{"upgrade declined", "UPGRADE", ok("Content-Length: 2", "no"), "reusable", ""},
	{"upgrade demanded", "GET", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2, h2c, foo/1\r\nContent-Length: 0\r\n\r\n", "reusable", "426 \"Upgrade Required\" 1.1 kind 1 length 0 upgrade \"foo/1\""},
	{"upgrade demanded to h2c", "GET", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n", "reusable", "426 \"Upgrade Required\" 1.1 kind 1 length 0\n"},
	{"upgrade demanded, malformed", "GET", "HTTP/1.1 426 Upgrade Required\r\nUpgrade: a b\r\nContent-Length: 0\r\n\r\n", "reusable", "426 \"Upgrade Required\" 1.1 kind 1 length 0\n"},
	{"connect", "CONNECT", ok("", "opaque"), "ok", "200 \"OK\" 1.1 kind 4 length 0 close\nbody \"opaque\""},
	{"connect with a length", "CONNECT", ok("Content-Length: 3", "opaque"), "ok", "200 \"OK\" 1.1 kind 4 length 0 close\nbody \"opaque\""},
	{"connect refused", "CONNECT", "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno", "reusable", ""},

	{"nothing", "GET", "", "upstream_closed", ""},
	{"cut in the head", "GET", "HTTP/1.1 200 OK\r\nContent-", "upstream_closed", ""},
	{"cut in the body", "GET", ok("Content-Length: 5", "hel"), "upstream_truncated", ""},
	{"cut in a chunk", "GET", ok("Transfer-Encoding: chunked", "5\r\nhel"), "upstream_truncated", ""},
	{"cut before the last chunk", "GET", ok("Transfer-Encoding: chunked", "2\r\nhi\r\n"), "upstream_truncated", ""},
	{"bytes in excess", "GET", ok("Content-Length: 2", "hiHTTP/1.1 200 OK\r\n\r\n"), "ok", ""},
	{"bytes in excess after chunks", "GET", ok("Transfer-Encoding: chunked", "0\r\n\r\nx"), "ok", ""},

	{"no phrase", "GET", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", "reusable", "200 \"\""},
	{"no space after the status", "GET", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", "reusable", "200 \"\""},
	{"phrase with obs-text", "GET", "HTTP/1.1 200 \xc3\xa9\r\nContent-Length: 0\r\n\r\n", "reusable", ""},
	{"status 999", "GET", "HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", "reusable", ""},
	{"status 099", "GET", "HTTP/1.1 099 x\r\n\r\n", "upstream_protocol", ""},
	{"status of two digits", "GET", "HTTP/1.1 20 x\r\n\r\n", "upstream_protocol", ""},
	{"status of four digits", "GET", "HTTP/1.1 2000 x\r\n\r\n", "upstream_protocol", ""},
	{"status not a number", "GET", "HTTP/1.1 2xx x\r\n\r\n", "upstream_protocol", ""},
	{"status negative", "GET", "HTTP/1.1 -20 x\r\n\r\n", "upstream_protocol", ""},
	{"two spaces", "GET", "HTTP/1.1  200 x\r\n\r\n", "upstream_protocol", ""},
	{"control in the phrase", "GET", "HTTP/1.1 200 a\x01\r\n\r\n", "upstream_protocol", ""},
	{"version 2", "GET", "HTTP/2 200 OK\r\n\r\n", "upstream_protocol", ""},
	{"version 1.2", "GET", "HTTP/1.2 200 OK\r\n\r\n", "upstream_protocol", ""},
	{"another protocol", "GET", "SSH-2.0-OpenSSH_9.6\r\n\r\n", "upstream_protocol", ""},
	{"empty line before", "GET", "\r\n" + ok("Content-Length: 0", ""), "upstream_protocol", ""},
	{"bare LF", "GET", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", "upstream_protocol", ""},
	{"folded", "GET", ok("X: a\r\n b\r\nContent-Length: 0", ""), "upstream_protocol", ""},
	{"space before the colon", "GET", ok("Content-Length : 0", ""), "upstream_protocol", ""},
	{"NUL", "GET", ok("X: \x00\r\nContent-Length: 0", ""), "upstream_protocol", ""},
	{"length and coding", "GET", ok("Content-Length: 5\r\nTransfer-Encoding: chunked", "0\r\n\r\n"), "upstream_protocol", ""},
	{"lengths that differ", "GET", ok("Content-Length: 1\r\nContent-Length: 2", "hi"), "upstream_protocol", ""},
	{"lengths that agree", "GET", ok("Content-Length: 2\r\nContent-Length: 2", "hi"), "upstream_protocol", ""},
	{"length with a space after", "GET", ok("Content-Length: 2 ", "hi"), "reusable", ""},
	{"length negative", "GET", ok("Content-Length: -2", "hi"), "upstream_protocol", ""},
	{"coding gzip", "GET", ok("Transfer-Encoding: gzip", "hi"), "upstream_protocol", ""},
	{"coding gzip, chunked", "GET", ok("Transfer-Encoding: gzip, chunked", "0\r\n\r\n"), "upstream_protocol", ""},
	{"coding in 1.0", "GET", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "upstream_protocol", ""},
	{"bad chunk", "GET", ok("Transfer-Encoding: chunked", "zz\r\n"), "upstream_protocol", ""},
	{"trailer with a length", "GET", ok("Transfer-Encoding: chunked", "0\r\nContent-Length: 1\r\n\r\n"), "upstream_protocol", ""},
	{"nominated: set-cookie", "GET", ok("Connection: set-cookie\r\nContent-Length: 0", ""), "upstream_protocol", ""},
	{"hop by hop", "GET", ok("Connection: x\r\nX: 1\r\nKeep-Alive: 5\r\nProxy-Authenticate: y\r\nUpgrade: z\r\nContent-Length: 0", ""), "reusable", "200 \"OK\" 1.1 kind 1 length 0\n"},
	{"too many fields", "GET", ok(strings.Repeat("X: 1\r\n", 100)+"X: 1", ""), "upstream_protocol", ""},
}

func requestFor(method string) *message.Head {
	if method == "UPGRADE" {
		h := head("GET", "/", message.NoBody, 0)
		h.SetUpgrade("websocket")
		return h
	}
	return head(method, "/", message.NoBody, 0)
}

// TestCutTLSStream: a body that ends with a TLS connection is whole only if the peer
// has said so.
func TestCutTLSStream(t *testing.T) {
	for _, tc := range []struct {
		name, data string
		cut        bool
		want       string
	}{
		{"ended", ok("", "hello"), false, "ok"},
		{"cut", ok("", "hello"), true, "upstream_truncated"},
		{"cut before the body", ok("", ""), true, "upstream_truncated"},
		{"cut behind a length", ok("Content-Length: 5", "hello"), true, "ok"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, w, _ := newTestClient(whole(tc.data))
			w.cut = tc.cut
			var h message.Head
			if err := errors.Join(c.WriteHead(requestFor("GET")), c.Flush(), c.ReadHead(&h)); err != nil {
				t.Fatal(err)
			}
			if _, err := readAll(c); verdict(err) != tc.want {
				t.Errorf("got %s, want %s", verdict(err), tc.want)
			}
		})
	}
}

func TestResponses(t *testing.T) {
	for _, tc := range responseCases {
		t.Run(tc.name, func(t *testing.T) {
			run := func(in [][]byte) (string, string) { return call(requestFor(tc.method), in) }
			text, last := run(whole(tc.data))
			if last != tc.last || !strings.HasPrefix(text, tc.want) {
				t.Errorf("got %s, want %s\n%s\nto begin with\n%s", last, tc.last, text, tc.want)
			}
			if strings.Contains(tc.name, "in excess") {
				return // bytes that come later are the pool's to see
			}
			if _, _, other := everyCut(tc.data, run); other != "" {
				t.Errorf("not the same %s\nwhole: %s", other, text)
			}
		})
	}
}
