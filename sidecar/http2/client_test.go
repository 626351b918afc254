package http2

import (
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// asking is a Client and its endpoint.
type asking struct {
	*wire
	told
	c *Client
}

func newAsking(t testing.TB, o *Options) *asking {
	t.Helper()
	w, e := newWorld(t, sim.Options{})
	x := &asking{}
	w.Host("10.0.0.3").Serve("10.0.0.3:80", func(p *sim.Peer) {
		if x.wire == nil {
			x.wire = newWire(t, w, p)
		}
	})
	l := e.Loops()[0]
	x.loop = l
	l.Post(func() {
		l.Go("dial", func(*engine.Task) {
			c, err := l.Dial(netip.MustParseAddrPort("10.0.0.3:80"), time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			x.c = Dial(c, o, x)
		})
	})
	w.RunFor(10 * time.Millisecond)
	if x.wire == nil || x.c == nil {
		t.Fatal("not connected")
	}
	x.in.WriteString(strings.TrimPrefix(x.peer.Take(), preface))
	return x
}

// greeted is newAsking with the exchange of SETTINGS done.
func greeted(t testing.TB, o *Options, settings ...http2.Setting) *asking {
	t.Helper()
	x := newAsking(t, o)
	x.WriteSettings(settings...)
	x.WriteSettingsAck()
	x.expect(time.Millisecond, "SETTINGS", "WINDOW 0 983041", "SETTINGS ack")
	return x
}

// do opens a stream and uses it on a task.
func (x *asking) do(f func(*engine.Task, *Stream)) {
	x.loop.Post(func() {
		s := x.c.Open()
		x.loop.Go("exchange", func(task *engine.Task) {
			defer s.Close()
			f(task, s)
		})
	})
	x.w.RunFor(0)
}

// ask sends a GET and returns status and body, or the error.
func ask(s *Stream, h *message.Head) (body []byte, err error) {
	if err = s.WriteHead(request("GET", "/", message.NoBody, 0)); err != nil {
		return nil, err
	}
	if err = s.Flush(); err != nil {
		return nil, err
	}
	for h.Status = 100; h.Status < 200 && h.Status != 101; {
		if err = s.ReadHead(h); err != nil {
			return nil, err
		}
	}
	return readAll(s)
}

func TestClientAsks(t *testing.T) {
	x := newAsking(t, testOptions())
	var h message.Head
	var body []byte
	var err error
	x.do(func(_ *engine.Task, s *Stream) { body, err = ask(s, &h) })
	x.expect(time.Millisecond, "SETTINGS", "WINDOW 0 983041",
		"HEADERS 1 :method=GET :scheme=http :path=/ :authority=a.example end")
	x.WriteSettings()
	x.headers(1, false, ":status", "103", "link", "x")
	x.headers(1, false, ":status", "200", "a", "b")
	x.WriteData(1, false, []byte("hello"))
	x.headers(1, true, "sum", "1")
	x.expect(time.Millisecond, "SETTINGS ack")
	if v, _ := h.Lookup("a"); err != nil || h.Status != 200 || string(body) != "hello" || string(v) != "b" {
		t.Errorf("status %d, body %q, %v", h.Status, body, err)
	}
	if x.c.Streams() != 0 || x.c.Room() != 128 {
		t.Errorf("%d streams, room for %d", x.c.Streams(), x.c.Room())
	}
}

// TestClientFailures: what each way to fail says about whose fault it was, and whether the request
// may go elsewhere.
func TestClientFailures(t *testing.T) {
	reset := func(code http2.ErrCode) func(*asking) {
		return func(x *asking) { x.WriteRSTStream(1, code) }
	}
	for _, tc := range []struct {
		name           string
		answer         func(x *asking)
		reason         policy.Reason
		side           policy.Side
		retry, touched bool
	}{
		{"refused", reset(http2.ErrCodeRefusedStream), policy.UpstreamRefused, policy.Upstream, true, false},
		{"reset", reset(http2.ErrCodeInternal), policy.UpstreamReset, policy.Upstream, true, true},
		{"protocol error", reset(http2.ErrCodeProtocol), policy.UpstreamProtocol, policy.Upstream, true, true},
		{"GOAWAY before it", func(x *asking) { x.WriteGoAway(0, http2.ErrCodeNo, nil) }, policy.UpstreamRefused, policy.Upstream, true, false},
		{"closed", func(x *asking) { x.peer.Close() }, policy.UpstreamClosed, policy.Upstream, true, true},
		{"connection reset", func(x *asking) { x.peer.Reset() }, policy.UpstreamReset, policy.Upstream, true, true},
		{"GOAWAY and closed", func(x *asking) { x.WriteGoAway(1, http2.ErrCodeNo, nil); x.send(0); x.peer.Close() }, policy.UpstreamClosed, policy.Upstream, true, true},
		{"no status", func(x *asking) { x.headers(1, true, "a", "b") }, policy.UpstreamProtocol, policy.Upstream, true, true},
		{"DATA first", func(x *asking) { x.WriteData(1, false, []byte("x")) }, policy.UpstreamProtocol, policy.Upstream, true, true},
		{"a push", func(x *asking) {
			x.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, EndHeaders: true})
		}, policy.UpstreamProtocol, policy.Upstream, true, true},
		{"too many interim responses", func(x *asking) {
			for range interimAtMost + 1 {
				x.headers(1, false, ":status", "103")
			}
		}, policy.UpstreamProtocol, policy.Upstream, true, true},
		{"nothing", func(x *asking) { x.w.RunFor(3 * time.Second) }, policy.UpstreamTimeout, policy.Upstream, true, true},
		{"broken off", func(x *asking) {
			x.headers(1, false, ":status", "200")
			x.WriteData(1, false, []byte("x"))
			x.send(time.Millisecond)
			x.peer.Reset()
		}, policy.UpstreamTruncated, policy.Upstream, false, true},
		{"body reset", func(x *asking) {
			x.headers(1, false, ":status", "200")
			x.send(time.Millisecond)
			x.WriteRSTStream(1, http2.ErrCodeInternal)
		}, policy.UpstreamTruncated, policy.Upstream, false, true},
		{"less than announced", func(x *asking) {
			x.headers(1, false, ":status", "200", "content-length", "5")
			x.WriteData(1, true, []byte("x"))
		}, policy.UpstreamProtocol, policy.Upstream, false, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := greeted(t, testOptions())
			var h message.Head
			var err error
			done := false
			x.do(func(_ *engine.Task, s *Stream) {
				s.ReadWithin(2 * time.Second)
				_, err = ask(s, &h)
				done = true
			})
			x.frames(time.Millisecond)
			tc.answer(x)
			x.send(time.Second)
			var e *policy.Error
			if !done || !errors.As(err, &e) {
				t.Fatalf("done %v, error %v", done, err)
			}
			if e.Reason != tc.reason || e.Side != tc.side || e.Retryable != tc.retry || e.MaybeProcessed != tc.touched {
				t.Errorf("%+v: %v", *e, e)
			}
			if x.c.Streams() != 0 || x.c.open != 0 {
				t.Error("a stream is left")
			}
		})
	}
}

// TestWhyAnEndpointSaysGoodbye: what breaks off then says so. Servers of gRPC end connections
// that ask for too many signs of life in this way.
func TestWhyAnEndpointSaysGoodbye(t *testing.T) {
	for _, tc := range []struct{ name, debug, want string }{
		{"with words", "too_many_pings", `ENHANCE_YOUR_CALM "too_many_pings"`},
		{"with none", "", `ENHANCE_YOUR_CALM ""`},
		{"with many", strings.Repeat("\n", 1000), strings.Repeat(`\n`, maxDebug) + `"`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			x := greeted(t, testOptions())
			var h message.Head
			var err error
			x.do(func(_ *engine.Task, s *Stream) { _, err = ask(s, &h) })
			x.frames(time.Millisecond)
			x.headers(1, false, ":status", "200")
			x.WriteGoAway(1, http2.ErrCodeEnhanceYourCalm, []byte(tc.debug))
			x.send(time.Millisecond)
			x.peer.Close()
			x.send(time.Second)
			if policy.ReasonOf(err) != policy.UpstreamTruncated || !errors.Is(err, io.EOF) || !strings.Contains(err.Error(), tc.want) || strings.Count(err.Error(), `\n`) > maxDebug {
				t.Errorf("%v", err)
			}
		})
	}
}

// TestAnswerBeforeTheRequestIsThrough: a reset without error after a complete answer is none for
// the reader.
func TestAnswerBeforeTheRequestIsThrough(t *testing.T) {
	x := greeted(t, testOptions())
	var readErr, writeErr error
	var body []byte
	x.do(func(_ *engine.Task, s *Stream) {
		s.WriteHead(request("POST", "/", message.Chunked, 0))
		s.Flush()
		var h message.Head
		if readErr = s.ReadHead(&h); readErr == nil {
			s.c.loop.Current().Sleep(time.Second)
			body, readErr = readAll(s)
			writeErr = s.WriteBody([]byte("more"), true)
		}
	})
	x.frames(time.Millisecond)
	x.headers(1, false, ":status", "413")
	x.WriteData(1, true, []byte("too large"))
	x.WriteRSTStream(1, http2.ErrCodeNo)
	x.expect(2*time.Second, "")
	if readErr != nil || string(body) != "too large" || policy.ReasonOf(writeErr) != policy.UpstreamReset {
		t.Errorf("read %q, %v, write %v", body, readErr, writeErr)
	}
}

// TestRoom: the endpoint's limit, and who is told of what becomes free.
func TestRoom(t *testing.T) {
	o := testOptions()
	x := newAsking(t, o)
	if x.c.Room() != 100 {
		t.Errorf("room for %d before the SETTINGS", x.c.Room())
	}
	x.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
	x.frames(time.Millisecond)
	if x.c.Room() != 2 || x.rooms != 1 {
		t.Errorf("room for %d, told %d times", x.c.Room(), x.rooms)
	}
	for range 2 {
		x.do(func(_ *engine.Task, s *Stream) { ask(s, &message.Head{}) })
	}
	if x.c.Room() != 0 || x.c.Streams() != 2 {
		t.Errorf("room for %d", x.c.Room())
	}
	x.headers(1, true, ":status", "204")
	x.frames(time.Millisecond)
	if x.c.Room() != 1 || x.rooms != 2 {
		t.Errorf("room for %d, told %d times", x.c.Room(), x.rooms)
	}
	x.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 1000})
	x.frames(time.Millisecond)
	if x.c.Room() != 127 {
		t.Errorf("room for %d", x.c.Room())
	}
	x.WriteGoAway(3, http2.ErrCodeNo, nil)
	x.frames(time.Millisecond)
	if x.c.Room() != 0 || x.closed != 1 || x.c.Streams() != 1 {
		t.Errorf("after GOAWAY: room for %d, closed %d times, %d streams", x.c.Room(), x.closed, x.c.Streams())
	}
	x.headers(3, true, ":status", "204")
	if got := x.frames(5 * time.Second); got != "end" || x.closed != 1 {
		t.Errorf("then %q, closed %d times", got, x.closed)
	}
}

// TestClientCancels: what the endpoint had sent before it knew is passed over, and the connection
// goes on.
func TestClientCancels(t *testing.T) {
	x := greeted(t, testOptions())
	x.do(func(task *engine.Task, s *Stream) {
		s.WriteHead(request("GET", "/", message.NoBody, 0))
		s.Flush()
		task.Sleep(time.Millisecond)
	})
	x.expect(10*time.Millisecond, "HEADERS 1 :method=GET :scheme=http :path=/ :authority=a.example end", "RST 1 CANCEL")
	x.headers(1, false, ":status", "200", "indexed", "value")
	x.WriteData(1, true, make([]byte, 1000))
	var h message.Head
	var err error
	x.do(func(_ *engine.Task, s *Stream) { _, err = ask(s, &h) })
	x.frames(time.Millisecond)
	x.headers(3, true, ":status", "200", "indexed", "value")
	x.expect(time.Millisecond, "")
	if v, _ := h.Lookup("indexed"); err != nil || string(v) != "value" {
		t.Errorf("%q, %v", v, err)
	}
}

// TestClientWebSocket waits for the endpoint's SETTINGS, and then asks as they allow.
func TestClientWebSocket(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		x := newAsking(t, testOptions())
		var h message.Head
		var err error
		var got []byte
		x.do(func(_ *engine.Task, s *Stream) {
			r := request("GET", "/chat", message.NoBody, 0)
			r.SetUpgrade("websocket")
			r.AddString(message.NameSecWebSocketKey, "Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
			if err = s.WriteHead(r); err != nil {
				return
			}
			if err = s.Flush(); err != nil {
				return
			}
			if err = s.ReadHead(&h); err != nil {
				return
			}
			s.WriteBody([]byte("ping"), false)
			got, err = readAll(s)
			s.WriteBody(nil, true)
		})
		x.expect(time.Millisecond, "SETTINGS", "WINDOW 0 983041")
		if !allowed {
			x.WriteSettings()
			x.expect(time.Millisecond, "SETTINGS ack")
			var e *policy.Error
			if !errors.As(err, &e) || e.Reason != policy.UpstreamProtocol || e.Retryable || e.MaybeProcessed {
				t.Errorf("refused with %v", err)
			}
			continue
		}
		x.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1})
		x.expect(time.Millisecond, "SETTINGS ack",
			"HEADERS 1 :method=CONNECT :protocol=websocket :scheme=http :path=/chat :authority=a.example")
		x.headers(1, false, ":status", "200")
		x.WriteData(1, true, []byte("pong"))
		x.expect(time.Millisecond, "DATA 1 4 end")
		if err != nil || h.Status != 101 || h.Framing.Kind != message.Tunnel || string(got) != "pong" {
			t.Errorf("status %d, kind %v, got %q, %v", h.Status, h.Framing.Kind, got, err)
		}
	}
}

// TestResetStorm ends the connection of an endpoint that resets everything.
func TestResetStorm(t *testing.T) {
	x := greeted(t, testOptions())
	id := uint32(1)
	for x.closed == 0 && id < 4*stormBurst {
		x.do(func(_ *engine.Task, s *Stream) { ask(s, &message.Head{}) })
		x.WriteRSTStream(id, http2.ErrCodeRefusedStream)
		x.frames(time.Microsecond)
		id += 2
	}
	if n := int(id / 2); n < stormBurst || n > stormBurst+2 || policy.ReasonOf(x.err) != policy.UpstreamResetStorm {
		t.Errorf("closed after %d with %v", n, x.err)
	}
}
