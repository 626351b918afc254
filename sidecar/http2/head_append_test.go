package http2

import (
	"slices"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/message"
)

// built makes a head as the proxy does.
func built(method, path, authority string, lines ...string) *message.Head {
	h := &message.Head{}
	h.SetRequest(method, path, authority)
	addLines(h, lines)
	return h
}

func addLines(h *message.Head, lines []string) {
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.AddString(message.NameOther, name, value)
	}
}

func answer(status int, lines ...string) *message.Head {
	h := &message.Head{}
	h.SetStatus(status)
	addLines(h, lines)
	return h
}

func TestAppendRequest(t *testing.T) {
	framed := func(h *message.Head, f message.Framing) *message.Head {
		h.Framing = f
		return h
	}
	upgrade := built("GET", "/chat", "a", "Sec-WebSocket-Key: x", "Sec-WebSocket-Version: 13")
	upgrade.SetUpgrade("websocket")
	h2c := built("GET", "/", "a")
	h2c.SetUpgrade("h2c")
	long := strings.Repeat("Name", 40)
	for _, tc := range []struct {
		name string
		h    *message.Head
		to   target
		want []string // nil: refused
	}{
		{"plain", built("GET", "/", "a", "Accept: */*", "X-Custom-NAME: V"), target{},
			[]string{":method: GET", ":scheme: http", ":path: /", ":authority: a", "accept: */*", "x-custom-name: V"}},
		{"post", framed(built("POST", "/x?y", "a:1", "accept-encoding: gzip, deflate"), message.Framing{Kind: message.Length, Length: 12}), target{https: true},
			[]string{":method: POST", ":scheme: https", ":path: /x?y", ":authority: a:1", "accept-encoding: gzip, deflate", "content-length: 12"}},
		{"another method", framed(built("PATCH", "", "a"), message.Framing{Kind: message.Chunked, Continue: true, Trailers: true}), target{},
			[]string{":method: PATCH", ":scheme: http", ":path: /", ":authority: a", "expect: 100-continue", "te: trailers"}},
		{"server options", built("OPTIONS", "*", "a"), target{}, []string{":method: OPTIONS", ":scheme: http", ":path: *", ":authority: a"}},
		{"HTTP/1.0", built("GET", "/", ""), target{authority: "b"}, []string{":method: GET", ":scheme: http", ":path: /", ":authority: b"}},
		{"secrets", built("GET", "/", "a", "Authorization: x", "Cookie: a=1", "Cookie: "+strings.Repeat("c", 30)), target{},
			[]string{":method: GET", ":scheme: http", ":path: /", ":authority: a", "authorization: x (never indexed)", "cookie: a=1 (never indexed)",
				"cookie: " + strings.Repeat("c", 30)}},
		{"long name", built("GET", "/", "a", long+": x"), target{},
			[]string{":method: GET", ":scheme: http", ":path: /", ":authority: a", strings.ToLower(long) + ": x"}},
		{"websocket", upgrade, target{}, []string{":method: CONNECT", ":protocol: websocket", ":scheme: http", ":path: /chat", ":authority: a", "sec-websocket-version: 13"}},
		{"connect", built("CONNECT", "/", "a:1"), target{}, []string{":method: CONNECT", ":authority: a:1"}},
		{"another upgrade", h2c, target{}, nil},
		{"no method", built("", "/", "a"), target{}, nil},
		{"connect to nothing", built("CONNECT", "/", ""), target{}, nil},
		{"no end", framed(built("GET", "/", "a"), message.Framing{Kind: message.UntilClose}), target{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			block, bad := appendRequest([]byte("before"), newEncoder(), tc.h, tc.to, true)
			if tc.want == nil {
				if bad == "" || string(block) != "before" {
					t.Errorf("%q, %q", block, bad)
				}
				return
			}
			if got := linesOf(t, block[len("before"):]); bad != "" || !slices.Equal(got, tc.want) {
				t.Errorf("%q %q\nwant %q", bad, got, tc.want)
			}
		})
	}
	if _, bad := appendRequest(nil, newEncoder(), upgrade, target{}, false); bad == "" {
		t.Error("a WebSocket to an endpoint that does not accept them")
	}
}

func TestAppendResponse(t *testing.T) {
	framed := func(h *message.Head, kind message.BodyKind, length int64) *message.Head {
		h.Framing.Kind, h.Framing.Length = kind, length
		return h
	}
	switched := framed(answer(101, "Sec-WebSocket-Accept: x", "Sec-WebSocket-Protocol: p"), message.Tunnel, 0)
	switched.SetUpgrade("websocket")
	tunnel := asked{tunnel: acceptOf(nil)}
	for _, tc := range []struct {
		name  string
		h     *message.Head
		asked asked
		want  []string
	}{
		{"plain", framed(answer(200, "Server: x", "Set-Cookie: a=1"), message.Chunked, 0), asked{}, []string{":status: 200", "server: x", "set-cookie: a=1 (never indexed)"}},
		{"until close", framed(answer(418, "Trailer: x"), message.UntilClose, 0), asked{}, []string{":status: 418"}},
		{"trailer announced", framed(answer(200, "Trailer: x"), message.Chunked, 0), asked{}, []string{":status: 200", "trailer: x"}},
		{"length", framed(answer(404), message.Length, 0), asked{}, []string{":status: 404", "content-length: 0"}},
		{"nothing", framed(answer(500), message.NoBody, 0), asked{}, []string{":status: 500"}},
		{"head", framed(answer(206), message.NoBody, 7), asked{head: true}, []string{":status: 206", "content-length: 7"}},
		{"head, unknown", framed(answer(400), message.NoBody, -1), asked{head: true}, []string{":status: 400"}},
		{"no content", framed(answer(204), message.Length, 0), asked{}, []string{":status: 204"}},
		{"not modified", framed(answer(304), message.NoBody, 7), asked{}, []string{":status: 304", "content-length: 7"}},
		{"not modified, unknown", framed(answer(304), message.NoBody, 0), asked{}, []string{":status: 304"}},
		{"interim", framed(answer(103, "Link: x"), message.NoBody, -1), asked{}, []string{":status: 103", "link: x"}},
		{"connect", framed(answer(200), message.Tunnel, 0), asked{connect: true}, []string{":status: 200"}},
		{"websocket", switched, tunnel, []string{":status: 200", "sec-websocket-protocol: p"}},
		{"101 unasked", switched, asked{}, nil},
		{"tunnel unasked", framed(answer(200), message.Tunnel, 0), asked{}, nil},
		{"negative", framed(answer(200), message.Length, -1), asked{}, nil},
		{"no status", answer(0), asked{}, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			block, bad := appendResponse(nil, newEncoder(), tc.h, tc.asked)
			if tc.want == nil {
				if bad == "" || len(block) > 0 {
					t.Errorf("%q, %q", block, bad)
				}
				return
			}
			if got := linesOf(t, block); bad != "" || !slices.Equal(got, tc.want) {
				t.Errorf("%q %q\nwant %q", bad, got, tc.want)
			}
		})
	}
}

func TestAppendTrailers(t *testing.T) {
	h := answer(0, "Grpc-Status: 0", "Content-Type: x", "X-More: Y", "Cookie: a")
	h.DelName("x-more")
	h.AddString(message.NameOther, "Grpc-Status-Details-Bin", "AA")
	if got := linesOf(t, appendTrailers(nil, newEncoder(), h)); !slices.Equal(got, []string{"grpc-status: 0", "grpc-status-details-bin: AA"}) {
		t.Errorf("%q", got)
	}
	e := newEncoder()
	e.SetLimit(0)
	if block := appendTrailers(nil, e, answer(0, "Cookie: a")); len(block) > 0 {
		t.Errorf("%x for nothing", block)
	}
}

func TestAskedBy(t *testing.T) {
	ws := built("GET", "/", "a", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	ws.SetUpgrade("websocket")
	for _, tc := range []struct {
		h      *message.Head
		want   asked
		accept string
	}{
		{built("GET", "/", "a"), asked{}, ""}, {built("HEAD", "/", "a"), asked{head: true}, ""},
		{built("CONNECT", "/", "a:1"), asked{connect: true}, ""}, {ws, asked{}, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="},
	} {
		got := askedBy(tc.h)
		accept := ""
		if got.tunnel != nil {
			accept, got.tunnel = string(got.tunnel[:]), nil
		}
		if got != tc.want || accept != tc.accept {
			t.Errorf("%s: %+v %q", tc.h.MethodBytes(), got, accept)
		}
	}
}
