package proxy

import (
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// tunnelEnd is a client's or an endpoint's end of a tunnel, over whatever it goes.
type tunnelEnd interface {
	Send(text string)
	CloseWrite()
	Reset()
	Close()
	Stall()
	Resume()
	Got() string
	Ended() bool
	Err() error // how it was broken off
}

// brokenOff sees a reset, of a connection past its FIN by what can still be sent.
func brokenOff(e tunnelEnd) bool {
	if p, whole := e.(*sim.Peer); whole && p.Ended() {
		p.Send("x")
		return p.Unsent() > 0
	}
	return e.Err() != nil
}

func over(e tunnelEnd) bool { return e.Ended() || brokenOff(e) }

// versions are those of the client and of the endpoint.
type versions struct{ client, endpoint int }

var everyWay = []versions{{1, 1}, {1, 2}, {2, 1}, {2, 2}}

func (v versions) String() string { return fmt.Sprintf("HTTP/%d to HTTP/%d", v.client, v.endpoint) }

func (v versions) stage(t *testing.T, o sim.Options, change ...func(*ListenerConfig, *upstream.Settings)) *stage {
	return newStage(t, o, HTTP, overStreams(v.endpoint == 2, change...), originAddr)
}

const (
	clientKey    = "dGhlIHNhbXBsZSBub25jZQ=="     // RFC 6455 section 1.3
	clientAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" // what answers it
)

// openRequest is HTTP/1.1's, with these further fields.
func openRequest(fields string) string {
	return "GET /chat HTTP/1.1\r\nHost: api\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: " + clientKey + "\r\n" + fields + "\r\n"
}

// acceptFor answers a key.
func acceptFor(key string) string {
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// webSocket opens one. asked and told are the fields that the endpoint and the client saw.
func (s *stage) webSocket(v versions) (client, endpoint tunnelEnd, asked, told map[string]string) {
	s.t.Helper()
	open := s.webSocketOrigin(v)
	if v.client == 2 {
		c := s.dialStreams().webSocket("sec-websocket-protocol", "chat, superchat", "sec-websocket-extensions", "permessage-deflate")
		s.until(time.Second, "200", func() bool { return c.heads > 0 })
		client, told = c, c.head
	} else {
		p := s.dial(openRequest("Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n"))
		s.until(time.Second, "101", func() bool { return strings.Contains(p.Got(), "\r\n\r\n") })
		head, rest, _ := strings.Cut(p.Take(), "\r\n\r\n")
		p.Return(rest)
		client, told = p, fieldsIn(head)
	}
	s.until(time.Second, "the endpoint's end", func() bool { return open.end != nil })
	return client, open.end, open.asked, told
}

// opened is what the endpoint has of the WebSocket opened last.
type opened struct {
	end   tunnelEnd
	asked map[string]string
}

// webSocketOrigin takes WebSockets, and answers everything else with its path.
func (s *stage) webSocketOrigin(v versions) *opened {
	open := &opened{}
	if v.endpoint == 2 {
		s.streamOrigin(originAddr, func(f *framedStream) {
			if f.head[":protocol"] == "" {
				f.headers(false, ":status", "200")
				f.Send(f.head[":path"])
				f.CloseWrite()
				return
			}
			f.headers(false, ":status", "200", "sec-websocket-protocol", "chat")
			open.end, open.asked = f, f.head
		}, extended)
		return open
	}
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		head, rest, whole := strings.Cut(p.Got(), "\r\n\r\n")
		switch {
		case open.end == tunnelEnd(p):
			return
		case p.Over():
			p.Close()
			return
		case !whole:
			return
		}
		asked := fieldsIn(head)
		p.Take()
		p.Return(rest)
		if asked["upgrade"] == "" {
			p.Send(ok(strings.Fields(head)[1]))
			return
		}
		p.Send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Protocol: chat\r\n" +
			"Sec-WebSocket-Accept: " + acceptFor(asked["sec-websocket-key"]) + "\r\n\r\n")
		open.end, open.asked = p, asked
	})
	return open
}

// fieldsIn are those of an HTTP/1.1 head, and its first line.
func fieldsIn(head string) map[string]string {
	lines := strings.Split(head, "\r\n")
	fields := map[string]string{"": lines[0]}
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ": ")
		fields[strings.ToLower(name)] = value
	}
	return fields
}

// both waits until both ends fulfil something.
func (s *stage) both(what string, a, b tunnelEnd, is func(tunnelEnd) bool) {
	s.t.Helper()
	s.until(time.Minute, what, func() bool { return is(a) && is(b) })
}

// TestSimWebSocket: each side gets the opening handshake of its own version, then the bytes
// of the other, and the other's end as the end of its own.
func TestSimWebSocket(t *testing.T) {
	there, back := numbered(20_000), numbered(15_000)
	for _, v := range everyWay {
		for seed := range uint64(6) {
			t.Run(fmt.Sprintf("%v, seed %d", v, seed), func(t *testing.T) {
				s := v.stage(t, rough(seed))
				client, endpoint, asked, told := s.webSocket(v)
				checkAsked(t, v, asked)
				checkTold(t, v, told)
				first, second := client, endpoint
				if seed%2 == 0 {
					first, second = endpoint, client
				}
				const piece = 60_000 // within the windows of a peer that keeps no count of them
				for at := 0; at < len(there); at += piece {
					client.Send(there[at:min(at+piece, len(there))])
					endpoint.Send(back[min(at, len(back)):min(at+piece, len(back))])
					s.until(time.Minute, "the bytes", func() bool {
						return len(endpoint.Got()) >= min(at+piece, len(there)) && len(client.Got()) >= min(at+piece, len(back))
					})
				}
				first.CloseWrite()
				s.until(time.Minute, "one end", second.Ended)
				second.Send("last words")
				second.CloseWrite()
				s.both("both ends", client, endpoint, tunnelEnd.Ended)
				want := map[tunnelEnd]string{client: back, endpoint: there}
				want[first] += "last words"
				if client.Got() != want[client] || endpoint.Got() != want[endpoint] {
					t.Errorf("%d of %d back, %d of %d there", len(client.Got()), len(want[client]), len(endpoint.Got()), len(want[endpoint]))
				}
				r := s.record(1)
				if r.Reason != policy.None || r.Status != 101 || r.BytesIn < int64(len(there)) || r.BytesOut < int64(len(back)) ||
					(r.Protocol == protocolHTTP2) != (v.client == 2) || string(r.Method) != "GET" || string(r.Path) != "/chat" {
					t.Errorf("recorded %+v", r)
				}
				client.Close()
				endpoint.Close()
			})
		}
	}
}

func checkAsked(t *testing.T, v versions, asked map[string]string) {
	t.Helper()
	want := map[string]string{"sec-websocket-version": "13", "sec-websocket-protocol": "chat, superchat",
		"sec-websocket-extensions": "permessage-deflate"}
	if v.endpoint == 1 {
		want[""], want["upgrade"], want["connection"], want["host"] = "GET /chat HTTP/1.1", "websocket", "Upgrade", "api"
		if key, err := base64.StdEncoding.DecodeString(asked["sec-websocket-key"]); err != nil || len(key) != 16 {
			t.Errorf("key %q", asked["sec-websocket-key"])
		}
	} else {
		want[":method"], want[":protocol"], want[":scheme"], want[":path"], want[":authority"] = "CONNECT", "websocket", "http", "/chat", "api"
		for _, name := range []string{"sec-websocket-key", "upgrade", "connection"} {
			if value, has := asked[name]; has {
				t.Errorf("%s: %s", name, value)
			}
		}
	}
	checkFields(t, asked, want)
}

func checkTold(t *testing.T, v versions, told map[string]string) {
	t.Helper()
	want := map[string]string{"sec-websocket-protocol": "chat"}
	if v.client == 1 {
		want[""], want["upgrade"], want["connection"] = "HTTP/1.1 101 Switching Protocols", "websocket", "Upgrade"
		want["sec-websocket-accept"] = clientAccept
	} else {
		want[":status"] = "200"
		if value, has := told["sec-websocket-accept"]; has {
			t.Errorf("sec-websocket-accept: %s", value)
		}
	}
	checkFields(t, told, want)
}

func checkFields(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got[name] != value {
			t.Errorf("%q is %q, want %q", name, got[name], value)
		}
	}
}

// TestSimWebSocketAborted: a reset of either end reaches the other at once, as a reset, also
// past a half-close; other streams of the same connection go on.
func TestSimWebSocketAborted(t *testing.T) {
	for _, v := range everyWay {
		for _, byClient := range []bool{true, false} {
			for _, halfClose := range []bool{true, false} {
				t.Run(fmt.Sprintf("%v, by client %v, half-closed %v", v, byClient, halfClose), func(t *testing.T) {
					s := v.stage(t, calm())
					client, endpoint, _, _ := s.webSocket(v)
					breaks, stays, want := client, endpoint, policy.ClientAborted
					if !byClient {
						breaks, stays, want = endpoint, client, policy.UpstreamReset
					}
					if halfClose {
						breaks.CloseWrite()
					}
					s.w.RunFor(time.Second)
					began := s.w.Now()
					breaks.Reset()
					s.until(time.Minute, "the end", func() bool { return brokenOff(stays) && len(s.records.all) == 1 })
					if !halfClose && stays.Err() == nil {
						t.Error("it came as an end in order")
					}
					s.after("the end", began, 0)
					if code := (xhttp2.StreamError{}); errors.As(stays.Err(), &code) && code.Code != xhttp2.ErrCodeCancel {
						t.Errorf("reset with %v", code.Code)
					}
					if r := s.reason(1); r != want {
						t.Errorf("reason %v: %v", r, s.records.all[0].Err)
					}
					s.goesOn(client)
					stays.Close()
				})
			}
		}
	}
}

// goesOn sends another request over the connection of a stream.
func (s *stage) goesOn(client tunnelEnd) {
	s.t.Helper()
	stream, over2 := client.(*framedStream)
	if !over2 {
		return
	}
	next := stream.f.get("/next")
	s.until(time.Second, "another stream", next.Ended)
	if next.head[":status"] != "200" || next.Got() != "/next" {
		s.t.Errorf("another stream: %v %q", next.head, next.Got())
	}
	stream.f.p.Close()
}

// TestSimWebSocketSilence: it lives as long as one side speaks, and then for
// timeouts.tunnel; what else the connections carry does not count, and goes on.
func TestSimWebSocketSilence(t *testing.T) {
	for _, v := range everyWay {
		for _, clientSpeaks := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v, client speaks %v", v, clientSpeaks), func(t *testing.T) {
				s := v.stage(t, calm())
				client, endpoint, _, _ := s.webSocket(v)
				speaks, listens := client, endpoint
				if !clientSpeaks {
					speaks, listens = endpoint, client
				}
				for range 20 {
					speaks.Send("x")
					s.w.RunFor(4 * time.Second)
				}
				if listens.Got() != strings.Repeat("x", 20) || listens.Ended() || brokenOff(listens) {
					t.Fatalf("%q, ended %v, %v", listens.Got(), listens.Ended(), listens.Err())
				}
				began := s.w.Now()
				if over2, is := client.(*framedStream); is {
					beside := over2.f.get("/beside")
					s.until(time.Second, "a stream beside it", beside.Ended)
				}
				s.both("the end", client, endpoint, over)
				s.after("the end", began, 6*time.Second) // of 10 since the last byte
				if r := s.records.all[len(s.records.all)-1]; r.Reason != policy.TunnelIdle {
					t.Errorf("reason %v: %v", r.Reason, r.Err)
				}
				s.goesOn(client)
				client.Close()
				endpoint.Close()
			})
		}
	}
}
