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

// TestProtections: each attack ends its connection with ENHANCE_YOUR_CALM and a reason of its own,
// while half of it passes.
func TestProtections(t *testing.T) {
	long := strings.Repeat("x", 30<<10)
	cases := []struct {
		name   string
		times  int // how often it is done until the budget is used up
		reason policy.Reason
		attack func(x *served, i int)
	}{
		{"rapid reset", resetBurst + 2, policy.HTTP2RapidReset, func(x *served, i int) {
			x.post(uint32(2*i+1), "/")
			x.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		}},
		{"MadeYouReset by a window", resetBurst + 2, policy.HTTP2ProvokedResets, func(x *served, i int) {
			x.post(uint32(2*i+1), "/")
			x.WriteWindowUpdate(uint32(2*i+1), 0)
		}},
		{"MadeYouReset by a head", resetBurst + 2, policy.HTTP2ProvokedResets, func(x *served, i int) {
			x.headers(uint32(2*i+1), true, ":method", "GET", "A", "b")
		}},
		{"both in turn", resetBurst/2 + 2, policy.HTTP2ProvokedResets, func(x *served, i int) {
			x.post(uint32(4*i+1), "/")
			x.WriteWindowUpdate(uint32(4*i+1), 0)
			x.post(uint32(4*i+3), "/")
			x.WriteRSTStream(uint32(4*i+3), http2.ErrCodeCancel)
		}},
		{"PING", controlBurst + 2, policy.HTTP2ControlFlood, func(x *served, _ int) { x.WritePing(false, [8]byte{}) }},
		{"SETTINGS", controlBurst + 2, policy.HTTP2ControlFlood, func(x *served, _ int) { x.WriteSettings() }},
		{"SETTINGS with many settings", controlBurst/80 + 2, policy.HTTP2ControlFlood, func(x *served, i int) {
			many := make([]http2.Setting, 80*settingsEach)
			for i := range many {
				many[i] = http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(i)}
			}
			x.WriteSettings(many...)
		}},
		{"PRIORITY", controlBurst + 2, policy.HTTP2ControlFlood, func(x *served, _ int) {
			x.WritePriority(1, http2.PriorityParam{StreamDep: 3})
		}},
		{"unknown frames", controlBurst + 2, policy.HTTP2ControlFlood, func(x *served, _ int) { x.WriteRawFrame(99, 0, 0, nil) }},
		{"empty DATA", emptyBurst + 2, policy.HTTP2EmptyFrames, func(x *served, i int) {
			if i == 0 {
				x.post(1, "/")
			}
			x.WriteData(1, false, nil)
		}},
		{"CONTINUATION", blockFrames + 2, policy.HTTP2ContinuationFlood, func(x *served, i int) {
			if i == 0 {
				x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.block(":method", "GET")})
				return
			}
			x.WriteContinuation(1, false, []byte{0x82})
		}},
		{"CONTINUATION by size", 7, policy.HTTP2ContinuationFlood, func(x *served, i int) {
			if i == 0 {
				x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.block(":method", "GET")})
				return
			}
			x.WriteContinuation(1, false, make([]byte, 16<<10))
		}},
		{"WINDOW_UPDATE", windowBurst + 2, policy.HTTP2WindowFlood, func(x *served, _ int) { x.WriteWindowUpdate(0, 1) }},
		{"heads over the limit", bombBurst + 2, policy.HTTP2HeadBomb, func(x *served, i int) {
			b := x.block(":method", "GET", "a", long, "b", long, "c", long)
			first := min(len(b), 16000)
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: b[:first], EndStream: true, EndHeaders: first == len(b)})
			for b = b[first:]; len(b) > 0; {
				n := min(len(b), 16000)
				x.WriteContinuation(uint32(2*i+1), n == len(b), b[:n])
				b = b[n:]
			}
		}},
		{"streams over the limit", refusedBurst + 20, policy.HTTP2StreamLimit, func(x *served, i int) { x.post(uint32(2*i+1), "/hold") }},
		{"late frames", lateBurst + 2, policy.HTTP2ControlFlood, func(x *served, i int) {
			if i == 0 {
				x.post(1, "/reset")
				x.send(time.Millisecond)
			}
			x.WriteData(1, false, []byte("x"))
		}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			for _, times := range []int{tc.times / 2, tc.times} {
				o := testOptions()
				o.MaxStreams = 10
				x := newServed(t, o, func(task *engine.Task, s *Stream) {
					var h message.Head
					s.ReadHead(&h)
					if string(h.PathBytes()) == "/reset" {
						return
					}
					for {
						if _, end, err := s.ReadBody(); end || err != nil {
							return
						}
					}
				})
				got := ""
				for i := range times {
					tc.attack(x, i)
					if i%8 == 7 {
						got += x.frames(0)
						if i%64 == 63 && times == tc.times/2 {
							x.w.RunFor(time.Millisecond)
						}
					}
				}
				got += x.frames(5 * time.Second)
				if times < tc.times {
					if strings.Contains(got, "GOAWAY") || len(x.abuse) != 0 {
						t.Errorf("half of it ended the connection: %v", x.abuse)
					}
					continue
				}
				if !strings.Contains(got, "ENHANCE_YOUR_CALM") || len(x.abuse) != 1 || x.abuse[0] != tc.reason || x.what == nil || x.closed != 1 {
					t.Errorf("abuse %v, closed %d (%v), got %s", x.abuse, x.closed, x.err, tail(got))
				}
				if x.server.Streams() != 0 {
					t.Errorf("%d streams left", x.server.Streams())
				}
			}
		})
	}
}

func tail(s string) string { return s[max(0, len(s)-300):] }

// TestBudgetsRefill: the same at a pace that is no attack goes on for ever.
func TestBudgetsRefill(t *testing.T) {
	x := newServed(t, testOptions(), echo)
	for i := range 2 * resetBurst {
		x.post(uint32(2*i+1), "/")
		x.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		x.WritePing(false, [8]byte{})
		if got := x.frames(time.Second / resetRate * 11 / 10); strings.Contains(got, "GOAWAY") {
			t.Fatalf("round %d: %s", i, got)
		}
	}
}

// TestPingsThatMeasureThePath, as some libraries send with every DATA frame, are no flood.
func TestPingsThatMeasureThePath(t *testing.T) {
	x := newServed(t, testOptions(), echo)
	x.post(1, "/")
	for range 3 * controlBurst {
		x.WriteData(1, false, make([]byte, 100))
		x.WritePing(false, [8]byte{})
		x.WriteWindowUpdate(1, 100)
		x.WriteWindowUpdate(0, 100)
		if got := x.frames(time.Microsecond); strings.Contains(got, "GOAWAY") {
			t.Fatal(got)
		}
	}
}

// TestWindowOfOneByte: a body is not drawn out of us byte by byte.
func TestWindowOfOneByte(t *testing.T) {
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		reply(s, 200, pattern(100_000, 0))
	})
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	x.get(1, "/")
	for range windowBurst {
		x.WriteWindowUpdate(1, 1)
		x.send(time.Microsecond)
	}
	if x.frames(time.Second); len(x.abuse) != 1 || x.abuse[0] != policy.HTTP2WindowFlood {
		t.Errorf("abuse %v", x.abuse)
	}
}

// TestStalledStream: a client that opens no window loses the stream, and not the connection.
func TestStalledStream(t *testing.T) {
	var err error
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		err = reply(s, 200, pattern(100_000, 0))
	})
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
	x.get(1, "/")
	x.expect(29*time.Second, "SETTINGS ack", "HEADERS 1 :status=200 content-length=100000", "DATA 1 5")
	x.expect(2*time.Second, "RST 1 INTERNAL_ERROR")
	if policy.ReasonOf(err) != policy.HTTP2Stalled {
		t.Errorf("write: %v", err)
	}
	x.WritePing(false, [8]byte{'x'})
	x.expect(time.Second, "PING ack x\x00\x00\x00\x00\x00\x00\x00")
}

// TestStalledConnection: a client that reads nothing loses the connection.
func TestStalledConnection(t *testing.T) {
	var err error
	o := testOptions()
	x := newRawServed(t, o, sim.Options{SendBuffer: 8 << 10, ReceiveBuffer: 8 << 10}, func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		err = reply(s, 200, pattern(60_000, 0))
	})
	x.out.WriteString(preface)
	x.WriteSettings()
	x.WriteSettingsAck()
	x.WriteWindowUpdate(0, 1<<20)
	x.get(1, "/")
	x.send(time.Millisecond)
	x.peer.Stall()
	x.get(3, "/")
	x.send(20 * time.Second)
	if x.closed != 0 {
		t.Fatal("closed too soon")
	}
	x.w.RunFor(45 * time.Second)
	if x.closed != 1 || policy.ReasonOf(x.err) != policy.HTTP2Stalled {
		t.Errorf("closed %d times with %v, write %v", x.closed, x.err, err)
	}
}

// TestAnswersToOneWhoNeverReads are bounded: it is not listened to any more.
func TestAnswersToOneWhoNeverReads(t *testing.T) {
	x := newRawServed(t, testOptions(), sim.Options{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10}, echo)
	x.out.WriteString(preface)
	x.WriteSettings()
	x.post(1, "/")
	x.peer.Stall()
	for range 20_000 {
		x.WriteData(1, false, []byte("x")) // earns what the PING costs
		x.WritePing(false, [8]byte{})
	}
	x.send(time.Second)
	if n := x.server.t.Queued() + len(x.server.out); n > outPause+readBuffer+outClass || n < 64<<10 {
		t.Errorf("%d bytes wait", n)
	}
	x.peer.Resume()
	got := 0
	for range 3000 {
		got += strings.Count(x.frames(time.Millisecond), "PING ack")
	}
	if got != 20_000 {
		t.Errorf("%d answers of 20,000, abuse %v, closed %v", got, x.abuse, x.err)
	}
}
