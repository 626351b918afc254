package http2

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// hello answers every request with 200 and five bytes.
func hello(_ *engine.Task, s *Stream) {
	var h message.Head
	if s.ReadHead(&h) == nil {
		reply(s, 200, []byte("hello"))
	}
}

func TestGreeting(t *testing.T) {
	x := newRawServed(t, testOptions(), sim.Options{}, hello)
	x.expect(0, "SETTINGS", "WINDOW 0 983041")
	x.out.WriteString(preface)
	x.WriteSettings()
	x.get(1, "/")
	x.expect(time.Millisecond, "SETTINGS ack", "HEADERS 1 :status=200 content-length=5", "DATA 1 5 end")
	x.get(3, "/")
	x.headers(5, true, ":method", "HEAD", ":scheme", "http", ":authority", "a", ":path", "/")
	x.expect(time.Millisecond, "HEADERS 3 :status=200 content-length=5", "DATA 3 5 end", "HEADERS 5 :status=200 content-length=5 end")
	if x.server.Streams() != 0 || !x.server.Idle() {
		t.Error("not idle")
	}
}

// TestFirstBytes: what somebody has read already counts.
func TestFirstBytes(t *testing.T) {
	w, e := newWorld(t, sim.Options{})
	x := &served{}
	x.serve = hello
	if _, err := e.Listen("tcp", serverAddr.String(), func(l *engine.Loop, c *engine.Conn) {
		x.loop = l
		l.Go("read", func(*engine.Task) {
			b := l.Buffer(8 << 10)
			n, err := c.Read(b)
			if err != nil {
				t.Error(err)
			}
			x.server = Serve(c, testOptions(), x, b[:n], b)
		})
	}); err != nil {
		t.Fatal(err)
	}
	x.wire = newWire(t, w, w.Host("10.0.0.2").Dial(serverAddr))
	x.out.WriteString(preface)
	x.WriteSettings()
	x.get(1, "/")
	x.expect(time.Millisecond, "SETTINGS", "WINDOW 0 983041", "SETTINGS ack", "HEADERS 1 :status=200 content-length=5", "DATA 1 5 end")
}

// TestOneSendForManyStreams: what the tasks of a turn write leaves together.
func TestOneSendForManyStreams(t *testing.T) {
	x := newServed(t, testOptions(), hello)
	before := x.server.seq
	for id := uint32(1); id < 200; id += 2 {
		x.get(id, "/")
	}
	if got := x.frames(time.Millisecond); strings.Count(got, " end") != 100 {
		t.Errorf("got %s", got)
	}
	if sends := x.server.seq - before; sends > 2 {
		t.Errorf("%d sends", sends)
	}
}

func TestEchoWithTrailers(t *testing.T) {
	x := newServed(t, testOptions(), echo)
	x.post(1, "/")
	x.WriteData(1, false, []byte("abc"))
	x.expect(time.Millisecond, "HEADERS 1 :status=200", "DATA 1 3")
	x.WriteDataPadded(1, false, []byte("de"), make([]byte, 10))
	x.expect(time.Millisecond, "DATA 1 2")
	x.headers(1, true, "x-sum", "5", "te", "trailers")
	x.expect(time.Millisecond, "RST 1 PROTOCOL_ERROR")
	x.post(3, "/")
	x.WriteData(3, false, []byte("abc"))
	x.headers(3, true, "x-sum", "3")
	x.expect(time.Millisecond, "HEADERS 3 :status=200", "DATA 3 3", "HEADERS 3 x-sum=3 end")
}

// TestWindows: what the client gives out is what it gets, also where the window becomes negative.
func TestWindows(t *testing.T) {
	body := pattern(100, 0)
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		reply(s, 200, body)
	})
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	x.get(1, "/")
	x.expect(time.Millisecond, "SETTINGS ack", "HEADERS 1 :status=200 content-length=100", "DATA 1 10")
	x.WriteWindowUpdate(1, 30)
	x.expect(time.Millisecond, "DATA 1 30")
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	x.expect(time.Millisecond, "SETTINGS ack") // the window is now -10
	x.WriteWindowUpdate(1, 10)
	x.expect(time.Millisecond, "")
	x.WriteWindowUpdate(1, 1)
	x.expect(time.Millisecond, "DATA 1 1")
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1000})
	x.expect(time.Millisecond, "SETTINGS ack", "DATA 1 59 end")
	x.get(3, "/")
	x.WriteWindowUpdate(3, maxWindow-1000)
	x.expect(time.Millisecond, "HEADERS 3 :status=200 content-length=100", "DATA 3 100 end")
}

func TestWindowOverflow(t *testing.T) {
	x := newServed(t, testOptions(), echo)
	x.post(1, "/")
	x.WriteWindowUpdate(1, maxWindow)
	x.expect(time.Millisecond, "RST 1 FLOW_CONTROL_ERROR")
	x.post(3, "/")
	x.WriteWindowUpdate(3, 1000)
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: maxWindow})
	x.expect(10*time.Second, "GOAWAY 3 FLOW_CONTROL_ERROR", "end")
	if x.closed != 1 || policy.ReasonOf(x.err) != policy.HTTP2FlowControl {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
}

// TestConnectionWindow: many streams share it in turn.
func TestConnectionWindow(t *testing.T) {
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		reply(s, 200, pattern(60_000, 0))
	})
	for id := uint32(1); id < 8; id += 2 {
		x.get(id, "/")
	}
	if got := bytesOf(x.frames(time.Millisecond), "DATA"); got != 65535 {
		t.Errorf("%d bytes within the first window", got)
	}
	got := ""
	for range 20 {
		x.WriteWindowUpdate(0, 10_000)
		got += x.frames(time.Millisecond) + "\n"
	}
	if n := bytesOf(got, "DATA"); n != 4*60_000-65535 || strings.Count(got, " end") < 2 {
		t.Errorf("%d bytes\n%s", n, got)
	}
}

// bytesOf adds up what the frames of one kind carry.
func bytesOf(frames, kind string) (n int) {
	for _, line := range strings.Split(frames, "\n") {
		if f := strings.Fields(line); len(f) > 2 && f[0] == kind {
			v := 0
			for _, c := range f[2] {
				v = v*10 + int(c-'0')
			}
			n += v
		}
	}
	return n
}

// TestStalledReaderHoldsUpNobody: a stream that nobody reads takes its window and no more; the
// others go on.
func TestStalledReaderHoldsUpNobody(t *testing.T) {
	o := testOptions()
	o.ConnectionWindow = 100_000
	var held *Stream
	x := newServed(t, o, func(task *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		if string(h.PathBytes()) == "/hold" {
			held = s
			for held != nil {
				task.Park("test")
			}
			return
		}
		body, err := readAll(s)
		if err != nil {
			t.Error(err)
		}
		reply(s, 200, body[:1])
	})
	x.post(1, "/hold")
	for range 4 {
		x.WriteData(1, false, make([]byte, 16<<10))
	}
	x.frames(time.Millisecond)
	if held.Buffered() != 64<<10 || !held.BodyReady() {
		t.Fatalf("%d bytes buffered", held.Buffered())
	}
	for id := uint32(3); id < 23; id += 2 {
		x.post(id, "/")
		for range 3 {
			x.WriteData(id, false, make([]byte, 16<<10))
		}
		x.WriteData(id, true, nil)
		if got := x.frames(time.Millisecond); !strings.Contains(got, "DATA "+itoa(int(id))+" 1 end") {
			t.Fatalf("stream %d: %s", id, got)
		}
	}
	x.WriteData(1, false, make([]byte, 1))
	x.expect(time.Millisecond, "RST 1 FLOW_CONTROL_ERROR")
	x.on(func() { held = nil })
	x.peer.Close()
	x.w.RunFor(time.Second)
	if x.closed != 0 {
		t.Error("closed with a stream under way")
	}
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

// TestWindowIsGivenBackAsItIsRead, and END_STREAM ends that.
func TestWindowIsGivenBackAsItIsRead(t *testing.T) {
	x := newServed(t, testOptions(), echo)
	x.post(1, "/")
	for range 2 {
		x.WriteData(1, false, make([]byte, 16<<10))
	}
	if got := x.frames(time.Millisecond); strings.Contains(got, "WINDOW 0") || !strings.Contains(got, "WINDOW 1 32768") {
		t.Errorf("got %s", got)
	}
	total := 0
	for range 20 {
		x.WriteData(1, false, make([]byte, 16<<10))
		got := x.frames(time.Millisecond)
		x.WriteWindowUpdate(1, 16<<10)
		x.WriteWindowUpdate(0, 16<<10)
		total += bytesOf(got, "WINDOW")
	}
	if total < 300_000+262_144 {
		t.Errorf("%d given back", total)
	}
}

func TestRefusals(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	cases := []struct {
		name string
		send func(x *served)
		want []string
	}{
		{"head over the limit", func(x *served) {
			b := x.block(":method", "GET", ":scheme", "http", ":authority", "a", ":path", "/", "a", long, "b", long)
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:16000], EndStream: true})
			for b = b[16000:]; len(b) > 16000; b = b[16000:] {
				x.WriteContinuation(1, false, b[:16000])
			}
			x.WriteContinuation(1, true, b)
		}, []string{"HEADERS 1 :status=431 x-larboard-reason=head_too_large end"}},
		{"no path", func(x *served) { x.headers(1, true, ":method", "GET", ":scheme", "http") }, []string{"RST 1 PROTOCOL_ERROR"}},
		{"more than announced", func(x *served) {
			x.post(1, "/", "content-length", "2")
			x.WriteData(1, true, []byte("abc"))
		}, []string{"RST 1 PROTOCOL_ERROR"}},
		{"less than announced", func(x *served) {
			x.post(1, "/", "content-length", "4")
			x.WriteData(1, true, []byte("abc"))
		}, []string{"RST 1 PROTOCOL_ERROR"}},
		{"trailers before all that was announced", func(x *served) {
			x.post(1, "/", "content-length", "4")
			x.headers(1, true, "a", "b")
		}, []string{"RST 1 PROTOCOL_ERROR"}},
		{"DATA after the end", func(x *served) {
			x.get(1, "/hold")
			x.WriteData(1, true, []byte("abc"))
		}, []string{"RST 1 STREAM_CLOSED"}},
		{"a second head", func(x *served) {
			x.post(1, "/hold")
			x.headers(1, false, "a", "b")
		}, []string{"RST 1 PROTOCOL_ERROR"}},
		{"WebSocket by another name", func(x *served) {
			x.headers(1, false, ":method", "CONNECT", ":protocol", "x", ":scheme", "http", ":authority", "a", ":path", "/")
		}, []string{"HEADERS 1 :status=405 x-larboard-reason=method_refused end", "RST 1 NO_ERROR"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
				var h message.Head
				s.ReadHead(&h)
				if _, err := readAll(s); err == nil && string(h.PathBytes()) == "/hold" {
					s.c.loop.Current().Sleep(time.Second)
				}
			})
			tc.send(x)
			x.expect(time.Millisecond, tc.want...)
			x.w.RunFor(2 * time.Second)
			x.get(9, "/")
			if got := x.frames(time.Millisecond); !strings.Contains(got, "RST 9 INTERNAL_ERROR") {
				t.Errorf("the connection does not go on: %s", got)
			}
		})
	}
}
