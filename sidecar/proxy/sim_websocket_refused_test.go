package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestSimWebSocketRefused: an endpoint's refusal reaches the client as it is.
func TestSimWebSocketRefused(t *testing.T) {
	for _, v := range everyWay {
		for _, status := range []string{"403", "426"} {
			t.Run(v.String()+", "+status, func(t *testing.T) {
				s := v.stage(t, calm())
				if v.endpoint == 2 {
					s.streamOrigin(originAddr, func(f *framedStream) {
						f.headers(false, ":status", status, "sec-websocket-version", "13")
						f.Send("not here")
						f.CloseWrite()
					}, extended)
				} else {
					s.origin(originAddr, func(p *sim.Peer, _ request) {
						p.Send("HTTP/1.1 " + status + " No\r\nConnection: Upgrade\r\nUpgrade: h2c, websocket\r\nSec-WebSocket-Version: 13\r\nContent-Length: 8\r\n\r\nnot here")
					})
				}
				if v.client == 2 {
					f := s.dialStreams()
					c := f.webSocket()
					s.until(time.Second, "the answer", c.Ended)
					s.w.RunFor(time.Second)
					if c.head[":status"] != status || c.Got() != "not here" || c.head["sec-websocket-version"] != "13" ||
						c.broke && c.reset != xhttp2.ErrCodeNo || f.p.Over() {
						t.Errorf("%v %q, reset %v %v", c.head, c.Got(), c.broke, c.reset)
					}
					f.p.Close()
				} else {
					p := s.dial(openRequest("") + get1("/next"))
					a := s.answered(p, 2, time.Second)
					upgrade := "" // which only 426 has to tell (RFC 9110 section 15.5.22), and HTTP/2 cannot
					if status == "426" && v.endpoint == 1 {
						upgrade = "websocket"
					}
					if a[0].body != "not here" || a[0].header.Get("Upgrade") != upgrade || a[0].header.Get("Sec-WebSocket-Version") != "13" ||
						!strings.HasPrefix(p.Got(), "HTTP/1.1 "+status) {
						t.Errorf("%q", p.Got())
					}
					p.Close()
				}
				if r := s.record(1); r.Reason != policy.None {
					t.Errorf("%v, %v", r.Reason, r.Err)
				}
			})
		}
	}
}

// TestSimManyWebSocketsRefused: an endpoint may refuse as many as it likes; the connection
// on which it does, and what else goes over it, stays.
func TestSimManyWebSocketsRefused(t *testing.T) {
	s := versions{2, 2}.stage(t, calm())
	conns := s.streamOrigin(originAddr, func(f *framedStream) {
		f.headers(true, ":status", "403")
		f.f.write(f.f.framer.WriteRSTStream(f.id, xhttp2.ErrCodeNo)) // as servers do that read no more
	}, extended)
	f := s.dialStreams()
	for range 3000 {
		c := f.webSocket()
		s.until(time.Second, "the answer", c.Ended)
		if c.head[":status"] != "403" {
			t.Fatalf("%v", c.head)
		}
	}
	if len(*conns) != 1 || (*conns)[0].p.Over() || f.p.Over() {
		t.Errorf("%d connections to the endpoint, client's over %v", len(*conns), f.p.Over())
	}
	f.p.Close()
}

// TestSimWebSocketIgnored: a server that knows no WebSockets answers as to any GET. To HTTP/2
// its 200 would say that there is one.
func TestSimWebSocketIgnored(t *testing.T) {
	s := newStage(t, calm(), HTTP, overStreams(false), originAddr)
	s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("a page")) })
	f := s.dialStreams()
	c := f.webSocket()
	s.until(time.Second, "the answer", c.Ended)
	if c.head[":status"] != "502" || c.head["x-larboard-reason"] != "upstream_protocol" {
		t.Errorf("%v %q", c.head, c.Got())
	}
	f.p.Close()
	p := s.dial(openRequest(""))
	if a := s.answered(p, 1, time.Second); a[0].status != 200 || a[0].body != "a page" {
		t.Errorf("%+v", a)
	}
	p.Close()
}

// TestSimWebSocketWrongAccept: a client of HTTP/2 cannot check what the endpoint answers to
// the key. One of HTTP/1.1 can, and does.
func TestSimWebSocketWrongAccept(t *testing.T) {
	for _, accept := range []string{"", "Sec-WebSocket-Accept: " + clientAccept + "\r\n", "Sec-WebSocket-Accept:\r\n"} {
		answer := "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" + accept + "\r\n"
		s := newStage(t, calm(), HTTP, overStreams(false), originAddr)
		asked := 0
		s.origin(originAddr, func(p *sim.Peer, _ request) {
			asked++
			p.Send(answer)
		})
		f := s.dialStreams()
		c := f.webSocket()
		s.until(time.Second, "the answer", c.Ended)
		if c.head[":status"] != "502" || c.head["x-larboard-reason"] != "upstream_protocol" || asked != 1 {
			t.Errorf("%q: %v, %d attempts", accept, c.head, asked)
		}
		p := s.dial(openRequest(""))
		s.until(time.Second, "101", func() bool { return strings.HasPrefix(p.Got(), "HTTP/1.1 101 ") })
		p.Reset()
		f.p.Close()
	}
}

// TestSimWebSocketImpossible is what can be carried nowhere.
func TestSimWebSocketImpossible(t *testing.T) {
	noKey := strings.Replace(openRequest(""), clientKey, "c2hvcnQ=", 1)
	for _, c := range []struct {
		name   string
		v      versions
		server []xhttp2.Setting
		text   string   // of an HTTP/1.1 client
		fields []string // of an HTTP/2 client
		status string
		reason policy.Reason
	}{
		{"a short key", versions{1, 2}, []xhttp2.Setting{extended}, noKey, nil, "400", policy.BadRequest},
		{"no key", versions{1, 2}, []xhttp2.Setting{extended}, strings.Replace(openRequest(""), "Sec-WebSocket-Key", "X", 1), nil, "400", policy.BadRequest},
		{"not GET", versions{1, 2}, []xhttp2.Setting{extended}, strings.Replace(openRequest(""), "GET", "DELETE", 1), nil, "400", policy.BadRequest},
		{"an endpoint that takes none", versions{1, 2}, nil, openRequest(""), nil, "502", policy.UpstreamProtocol},
		{"an endpoint that takes none, from HTTP/2", versions{2, 2}, nil, "", []string{}, "502", policy.UpstreamProtocol},
		{"another protocol over HTTP/2", versions{1, 2}, []xhttp2.Setting{extended}, strings.Replace(openRequest(""), "websocket", "foo", 1), nil, "502", policy.UpstreamProtocol},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := c.v.stage(t, calm())
			s.streamOrigin(originAddr, func(f *framedStream) { t.Errorf("the endpoint was asked: %v", f.head) }, c.server...)
			var status, reason string
			if c.v.client == 2 {
				f := s.dialStreams()
				stream := f.webSocket(c.fields...)
				s.until(time.Second, "the answer", stream.Ended)
				status, reason = stream.head[":status"], stream.head["x-larboard-reason"]
				f.p.Close()
			} else {
				p := s.dial(c.text)
				a := s.answered(p, 1, time.Second)[0]
				status, reason = strings.Fields(p.Got())[1], a.header.Get("X-Larboard-Reason")
				p.Close()
			}
			if status != c.status || reason != c.reason.String() {
				t.Errorf("%s %s", status, reason)
			}
			if r := s.reason(1); r != c.reason {
				t.Errorf("reason %v", r)
			}
		})
	}
}

// TestSimOtherUpgrades: whatever HTTP/1.1 may switch to passes; HTTP/2 in plain text (h2c) is
// neither honoured nor passed on, and an endpoint cannot make us.
func TestSimOtherUpgrades(t *testing.T) {
	for _, c := range []struct{ asked, passed string }{
		{"foo/1", "foo/1"}, {"h2c", ""}, {"h2c, foo", "foo"}, {"TLS/1.2", ""},
	} {
		s := newStage(t, calm(), HTTP, overStreams(false), originAddr)
		s.origin(originAddr, func(p *sim.Peer, q request) {
			if got := q.header.Get("Upgrade"); got != c.passed || q.header.Get("Http2-Settings") != "" {
				t.Errorf("%s: passed on %q, %v", c.asked, got, q.header)
			}
			if c.passed != "" {
				p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + c.passed + "\r\n\r\nhello")
				return
			}
			p.Send("HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nContent-Length: 5\r\n\r\nplain")
		})
		p := s.dial("GET / HTTP/1.1\r\nHost: api\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nUpgrade: " + c.asked + "\r\n\r\n")
		want := "hello"
		if c.passed == "" {
			want = "plain"
		}
		s.until(time.Second, "the answer", func() bool { return strings.HasSuffix(p.Got(), want) })
		if strings.Contains(p.Got(), "h2c") || (c.passed != "") != strings.HasPrefix(p.Got(), "HTTP/1.1 101 ") {
			t.Errorf("%s: %q", c.asked, p.Got())
		}
		p.Reset()
	}
	s := newStage(t, calm(), HTTP, overStreams(false), originAddr)
	f := s.dialStreams()
	c := f.open(false, ":method", "CONNECT", ":protocol", "foo", ":scheme", "http", ":path", "/", ":authority", "api")
	s.until(time.Second, "the refusal", c.Ended)
	if c.head["x-larboard-reason"] != policy.MethodRefused.String() {
		t.Errorf("%v", c.head)
	}
	f.p.Close()
}

// TestSimConnect: CONNECT over HTTP/2, to endpoints of either version, where it is allowed.
func TestSimConnect(t *testing.T) {
	allow := func(c *ListenerConfig, _ *upstream.Settings) { c.HTTP2.AllowConnect, c.HTTP.AllowConnect = true, true }
	for _, endpoint := range []int{1, 2} {
		for _, breaks := range []bool{false, true} {
			s := versions{2, endpoint}.stage(t, calm(), allow)
			var at tunnelEnd
			if endpoint == 2 {
				s.streamOrigin(originAddr, func(f *framedStream) {
					if f.head[":method"] != "CONNECT" || f.head[":authority"] != "db:5432" || f.head[":path"] != "" {
						t.Errorf("%v", f.head)
					}
					f.headers(false, ":status", "200")
					at = f
				})
			} else {
				s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
					if at == nil && strings.HasPrefix(p.Got(), "CONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\n") && strings.Contains(p.Got(), "\r\n\r\n") {
						p.Take()
						p.Send("HTTP/1.1 200 OK\r\n\r\n")
						at = p
					}
				})
			}
			f := s.dialStreams()
			c := f.open(false, ":method", "CONNECT", ":authority", "db:5432")
			s.until(time.Second, "200", func() bool { return c.heads == 1 && at != nil })
			c.Send("question")
			s.until(time.Second, "the question", func() bool { return at.Got() == "question" })
			if breaks {
				at.Reset()
				s.until(time.Second, "the reset", func() bool { return c.broke })
				if c.reset != xhttp2.ErrCodeConnect {
					t.Errorf("reset with %v", c.reset) // RFC 9113 section 8.5
				}
			} else {
				at.Send("answer")
				at.CloseWrite()
				s.until(time.Second, "the end", c.Ended)
				c.CloseWrite()
				s.both("both ends", c, at, tunnelEnd.Ended)
				if c.head[":status"] != "200" || c.Got() != "answer" || s.reason(1) != policy.None {
					t.Errorf("%v %q, %v", c.head, c.Got(), s.reason(1))
				}
			}
			f.p.Close()
			at.Close()
		}
	}
	s := newStage(t, calm(), HTTP, overStreams(false), originAddr)
	f := s.dialStreams()
	c := f.open(false, ":method", "CONNECT", ":authority", "db:5432")
	s.until(time.Second, "the refusal", c.Ended)
	if c.head["x-larboard-reason"] != policy.MethodRefused.String() {
		t.Errorf("%v", c.head)
	}
	f.p.Close()
}

// TestSimHeadersInATunnel: nothing but DATA may come there (RFC 9113 section 8.5).
func TestSimHeadersInATunnel(t *testing.T) {
	for _, byClient := range []bool{true, false} {
		v := versions{2, 2}
		s := v.stage(t, calm())
		client, endpoint, _, _ := s.webSocket(v)
		from, to, want := client, endpoint, policy.HTTP2Protocol
		if !byClient {
			from, to, want = endpoint, client, policy.UpstreamProtocol
		}
		from.(*framedStream).headers(true, "x", "y")
		s.both("the end", from, to, brokenOff)
		if code := from.(*framedStream).reset; code != xhttp2.ErrCodeProtocol {
			t.Errorf("reset with %v", code)
		}
		if r := s.reason(1); r != want {
			t.Errorf("reason %v", r)
		}
		s.goesOn(client)
		endpoint.Close()
	}
}

// TestSimWebSocketWaitsForSettings: whether an endpoint takes WebSockets is known from its
// SETTINGS. One that never sends them, or something else, ends the wait, and so does a client
// that leaves.
func TestSimWebSocketWaitsForSettings(t *testing.T) {
	for _, c := range []struct {
		name   string
		says   string
		leaves bool
		status string
		reason policy.Reason
		after  time.Duration
	}{
		{"silence", "", false, "504", policy.UpstreamTimeout, 5 * time.Second},
		{"HTTP/1.1", "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", false, "502", policy.UpstreamProtocol, 0},
		{"silence, and the client leaves", "", true, "", policy.ClientAborted, time.Second},
	} {
		for _, client := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, HTTP/%d", c.name, client), func(t *testing.T) {
				s := versions{client, 2}.stage(t, calm())
				s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
					if p.Size() > 0 && c.says != "" {
						p.Take()
						p.Send(c.says)
						p.Close()
					}
					if p.Over() {
						p.Close()
					}
				})
				began := s.w.Now()
				status := ""
				if client == 2 {
					f := s.dialStreams()
					stream := f.webSocket()
					if c.leaves {
						s.w.RunFor(time.Second)
						stream.Reset()
					} else {
						s.until(time.Minute, "the answer", stream.Ended)
						status = stream.head[":status"]
					}
					defer f.p.Close()
				} else {
					p := s.dial(openRequest(""))
					if c.leaves {
						s.w.RunFor(time.Second)
						p.Reset()
					} else {
						s.answered(p, 1, time.Minute)
						status = strings.Fields(p.Got())[1]
					}
					defer p.Close()
				}
				if r := s.reason(1); r != c.reason || status != c.status {
					t.Errorf("%s, %v: %v", status, r, s.records.all[0].Err)
				}
				s.after("the end", began, c.after)
			})
		}
	}
}
