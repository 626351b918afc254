package http1

import (
	"bytes"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// TestRecall: a head of which nothing has left makes room for another; one that has
// left stays.
func TestRecall(t *testing.T) {
	s, w, l := newTestServer(whole(get()))
	var h message.Head
	if err := s.ReadHead(&h); err != nil {
		t.Fatal(err)
	}
	if s.Recall() {
		t.Error("recalled a head that was never written")
	}
	if err := s.WriteHead(answer(200, message.Chunked, 0)); err != nil {
		t.Fatal(err)
	}
	if !s.Recall() {
		t.Error("did not recall a head that waits")
	}
	if err := s.WriteHead(answer(502, message.Length, 2)); err != nil {
		t.Fatal(err)
	}
	if err := s.WriteBody([]byte("no"), true); err != nil {
		t.Fatal(err)
	}
	if s.Recall() {
		t.Error("recalled a head that was sent")
	}
	if got := string(w.out); got != unix("HTTP/1.1 502 Bad Gateway\nContent-Length: 2\n\nno") {
		t.Errorf("sent %q", got)
	}
	if !s.Release() || l.lent != 0 {
		t.Errorf("%d buffers not given back", l.lent)
	}
}

// TestAnswers holds what the server side sends, for what request.
func TestAnswers(t *testing.T) {
	type piece = string
	for _, tc := range []struct {
		name    string
		request string
		status  int
		kind    message.BodyKind
		length  int64
		body    []piece
		want    string
		keep    bool
		sends   int
	}{
		{"length", get(), 200, message.Length, 5, []piece{"hello"},
			"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", true, 1},
		{"length in two", get(), 200, message.Length, 5, []piece{"hel", "lo"},
			"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", true, 2},
		{"length zero", get(), 200, message.Length, 0, nil, "HTTP/1.1 200 OK\nContent-Length: 0\n\n", true, 1},
		{"no body", get(), 404, message.NoBody, 0, nil, "HTTP/1.1 404 Not Found\nContent-Length: 0\n\n", true, 1},
		{"chunked", get(), 200, message.Chunked, 0, []piece{"hello, wide world"},
			"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n11\nhello, wide world\n0\n\n", true, 1},
		{"until close becomes chunked", get(), 200, message.UntilClose, 0, []piece{"a", "b"},
			"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n1\na\n1\nb\n0\n\n", true, 2},
		{"close asked", get("Connection: close"), 200, message.Length, 1, []piece{"x"},
			"HTTP/1.1 200 OK\nContent-Length: 1\nConnection: close\n\nx", false, 1},
		{"old", "GET / HTTP/1.0\r\n\r\n", 200, message.Length, 1, []piece{"x"},
			"HTTP/1.1 200 OK\nContent-Length: 1\nConnection: close\n\nx", false, 1},
		{"old, kept", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, message.Length, 1, []piece{"x"},
			"HTTP/1.1 200 OK\nContent-Length: 1\nConnection: keep-alive\n\nx", true, 1},
		{"old, chunked", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, message.Chunked, 0, []piece{"x", "y"},
			"HTTP/1.1 200 OK\nConnection: close\n\nxy", false, 2},
		{"head", "HEAD / HTTP/1.1" + hosted + "\r\n", 200, message.Length, 5, []piece{"hello"},
			"HTTP/1.1 200 OK\nContent-Length: 5\n\n", true, 1},
		{"head without a length", "HEAD / HTTP/1.1" + hosted + "\r\n", 200, message.NoBody, -1, nil,
			"HTTP/1.1 200 OK\n\n", true, 1},
		{"head with an announced length", "HEAD / HTTP/1.1" + hosted + "\r\n", 200, message.NoBody, 9, nil,
			"HTTP/1.1 200 OK\nContent-Length: 9\n\n", true, 1},
		{"head, chunked", "HEAD / HTTP/1.1" + hosted + "\r\n", 200, message.Chunked, 0, []piece{"x"},
			"HTTP/1.1 200 OK\n\n", true, 1},
		{"204", get(), 204, message.NoBody, -1, nil, "HTTP/1.1 204 No Content\n\n", true, 1},
		{"304", get(), 304, message.NoBody, 7, nil, "HTTP/1.1 304 Not Modified\nContent-Length: 7\n\n", true, 1},
		{"304 of our own", get(), 304, message.NoBody, 0, nil, "HTTP/1.1 304 Not Modified\n\n", true, 1},
		{"unknown status", get(), 599, message.NoBody, 0, nil, "HTTP/1.1 599 \nContent-Length: 0\n\n", true, 1},
		{"expectation not met", post("Expect: 100-continue\r\nContent-Length: 5", ""), 413, message.NoBody, 0, nil,
			"HTTP/1.1 413 Content Too Large\nContent-Length: 0\nConnection: close\n\n", false, 1},
		{"unread body", post("Content-Length: 5", ""), 413, message.NoBody, 0, nil,
			"HTTP/1.1 413 Content Too Large\nContent-Length: 0\n\n", false, 1},
		{"connect", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 200, message.Tunnel, 0, []piece{"opaque"},
			"HTTP/1.1 200 OK\n\nopaque", false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s, w, l := newTestServer(whole(tc.request))
			var h message.Head
			if err := s.ReadHead(&h); err != nil {
				t.Fatal(err)
			}
			if err := s.WriteHead(answer(tc.status, tc.kind, tc.length)); err != nil {
				t.Fatal(err)
			}
			for i, p := range tc.body {
				if err := s.WriteBody([]byte(p), i == len(tc.body)-1); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := string(w.out); got != unix(tc.want) {
				t.Errorf("sent %q\nwant %q", got, unix(tc.want))
			}
			if w.sends != tc.sends {
				t.Errorf("%d sends, want %d", w.sends, tc.sends)
			}
			if s.KeepAlive() != tc.keep {
				t.Errorf("keep-alive %v, want %v", s.KeepAlive(), tc.keep)
			}
			if s.BytesOut() != uint64(len(w.out)) || s.BytesIn() != uint64(len(tc.request)) {
				t.Errorf("counted %d in, %d out", s.BytesIn(), s.BytesOut())
			}
			if !s.Release() || l.lent != 0 {
				t.Errorf("%d buffers kept", l.lent)
			}
		})
	}
}

// TestCalls holds what the client side sends.
func TestCalls(t *testing.T) {
	for _, tc := range []struct {
		name string
		make func() *message.Head
		body []string
		want string
	}{
		{"get", func() *message.Head { return head("GET", "/a?b", message.NoBody, 0) }, nil,
			"GET /a?b HTTP/1.1\nHost: host.example\n\n"},
		{"fields", func() *message.Head {
			h := head("GET", "/", message.NoBody, 0)
			h.AddString(message.NameAccept, "", "*/*")
			h.AddString(message.NameOther, "x-odd", "a\r\nInjected: b")
			h.AddString(message.NameOther, "not a token", "x")
			h.AddString(message.NameConnection, "", "close")
			h.AddString(message.NameOther, "transfer-encoding", "chunked")
			h.AddString(message.NameTrailer, "", "X")
			h.AddString(message.NameVia, "", "gone")
			h.Del(message.NameVia)
			return h
		}, nil, "GET / HTTP/1.1\nHost: host.example\nAccept: */*\nx-odd: a  Injected: b\n\n"},
		{"path with a line end", func() *message.Head { return head("GET", "/a\r\nX: y#z", message.NoBody, 0) }, nil,
			"GET /a%0D%0AX:%20y%23z HTTP/1.1\nHost: host.example\n\n"},
		{"post", func() *message.Head { return head("POST", "/", message.Length, 2) }, []string{"hi"},
			"POST / HTTP/1.1\nHost: host.example\nContent-Length: 2\n\nhi"},
		{"post of nothing", func() *message.Head { return head("POST", "/", message.Length, 0) }, nil,
			"POST / HTTP/1.1\nHost: host.example\nContent-Length: 0\n\n"},
		{"chunked", func() *message.Head { return head("POST", "/", message.Chunked, 0) }, []string{"hi"},
			"POST / HTTP/1.1\nHost: host.example\nTransfer-Encoding: chunked\n\n2\nhi\n0\n\n"},
		{"expectation", func() *message.Head {
			h := head("POST", "/", message.Length, 2)
			h.Framing.Continue = true
			return h
		}, []string{"hi"}, "POST / HTTP/1.1\nHost: host.example\nContent-Length: 2\nExpect: 100-continue\n\nhi"},
		{"trailers taken", func() *message.Head {
			h := head("GET", "/", message.NoBody, 0)
			h.Framing.Trailers = true
			return h
		}, nil, "GET / HTTP/1.1\nHost: host.example\nTE: trailers\nConnection: TE\n\n"},
		{"upgrade", func() *message.Head { return requestFor("UPGRADE") }, nil,
			"GET / HTTP/1.1\nHost: host.example\nConnection: Upgrade\nUpgrade: websocket\n\n"},
		{"upgrade to h2c", func() *message.Head {
			h := head("GET", "/", message.NoBody, 0)
			h.SetUpgrade("h2c")
			return h
		}, nil, "GET / HTTP/1.1\nHost: host.example\n\n"},
		{"connect", func() *message.Head {
			h := head("CONNECT", "", message.NoBody, 0)
			h.SetAuthority([]byte("a:443"))
			return h
		}, nil, "CONNECT a:443 HTTP/1.1\nHost: a:443\n\n"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, w, l := newTestClient(nil)
			if err := c.WriteHead(tc.make()); err != nil {
				t.Fatal(err)
			}
			for i, p := range tc.body {
				if err := c.WriteBody([]byte(p), i == len(tc.body)-1); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			if got := string(w.out); got != unix(tc.want) {
				t.Errorf("sent %q\nwant %q", got, unix(tc.want))
			}
			if w.sends != 1 || l.lent != 0 {
				t.Errorf("%d sends, %d buffers kept", w.sends, l.lent)
			}
		})
	}
}

// TestLargeChunks writes chunks on both sides of the copying limit and reads them
// back.
func TestLargeChunks(t *testing.T) {
	for _, size := range []int{4 << 10, 16 << 10, 32<<10 - 64, 32 << 10, 100 << 10} {
		s, w, l := newTestServer(whole(get()))
		var h message.Head
		data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
		if err := s.ReadHead(&h); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteHead(answer(200, message.Chunked, 0)); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteBody(data, false); err != nil {
			t.Fatal(err)
		}
		if err := s.WriteBody(data, true); err != nil {
			t.Fatal(err)
		}
		if size < 16<<10 && w.sends != 2 || w.sends > 4 {
			t.Errorf("%d: %d sends", size, w.sends)
		}
		if s.Release(); l.lent != 0 {
			t.Errorf("%d: %d buffers kept", size, l.lent)
		}
		c, _, _ := newTestClient(whole(string(w.out)))
		if err := c.WriteHead(head("GET", "/", message.NoBody, 0)); err != nil {
			t.Fatal(err)
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		if err := c.ReadHead(&h); err != nil {
			t.Fatal(err)
		}
		if body, err := readAll(c); err != nil || !bytes.Equal(body, append(data, data...)) {
			t.Errorf("%d: read %d bytes, %v", size, len(body), err)
		}
		if !c.Reusable() {
			t.Errorf("%d: not reusable", size)
		}
	}
}

func TestTrailersAreWritten(t *testing.T) {
	s, w, _ := newTestServer(whole(get()))
	var h message.Head
	if err := s.ReadHead(&h); err != nil {
		t.Fatal(err)
	}
	r := answer(200, message.Chunked, 0)
	r.AddString(message.NameTrailer, "", "X-Sum")
	trailers := &message.Head{}
	trailers.AddString(message.NameOther, "X-Sum", "1")
	trailers.AddString(message.NameCookie, "", "a=b")
	for _, err := range []error{s.WriteHead(r), s.WriteBody([]byte("x"), false), s.WriteTrailers(trailers)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	want := unix("HTTP/1.1 200 OK\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n1\nx\n0\nX-Sum: 1\n\n")
	if string(w.out) != want || !s.KeepAlive() {
		t.Errorf("sent %q", w.out)
	}
}

// TestMisuse: a mistake of the caller is an error and never a second message.
func TestMisuse(t *testing.T) {
	begun := func(request string) *Server {
		s, _, _ := newTestServer(whole(request))
		if err := s.ReadHead(&message.Head{}); err != nil {
			t.Fatal(err)
		}
		return s
	}
	answered := func(length int64) *Server {
		s := begun(get())
		if err := s.WriteHead(answer(200, message.Length, length)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	client := func(h *message.Head) error {
		c, _, _ := newTestClient(nil)
		return c.WriteHead(h)
	}
	for name, err := range map[string]error{
		"more than announced":     answered(2).WriteBody([]byte("abc"), true),
		"less than announced":     answered(2).WriteBody([]byte("a"), true),
		"second head":             answered(2).WriteHead(answer(200, message.NoBody, 0)),
		"body before head":        begun(get()).WriteBody([]byte("x"), true),
		"101 not asked for":       begun(get()).WriteHead(answer(101, message.Tunnel, 0)),
		"tunnel not asked for":    begun(get()).WriteHead(answer(200, message.Tunnel, 0)),
		"no status":               begun(get()).WriteHead(answer(0, message.NoBody, 0)),
		"next request too early":  begun(get()).ReadHead(&message.Head{}),
		"request until close":     client(head("POST", "/", message.UntilClose, 0)),
		"request without method":  client(&message.Head{}),
		"request with bad length": client(head("POST", "/", message.Length, -1)),
	} {
		if policy.ReasonOf(err) != policy.Internal {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAnswerAfterError: a refused request still gets its answer, and the close.
func TestAnswerAfterError(t *testing.T) {
	for _, request := range []string{"GET / HTTP/3.0\r\n\r\n", get(": x"), chunked("zz")} {
		s, w, _ := newTestServer(whole(request))
		var h message.Head
		err := s.ReadHead(&h)
		if err == nil {
			_, err = readAll(s)
		}
		if policy.ReasonOf(err) != policy.BadRequest {
			t.Fatal(err)
		}
		if err = s.WriteHead(answer(400, message.Length, 2)); err != nil {
			t.Fatal(err)
		}
		if err = s.WriteBody([]byte("no"), true); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(w.out), "\r\nConnection: close\r\n") || s.KeepAlive() {
			t.Errorf("sent %q", w.out)
		}
	}
}
