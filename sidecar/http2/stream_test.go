package http2

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// TestPeerReset: the exchange's task is told, and whoever waits in a read.
func TestPeerReset(t *testing.T) {
	var readErr, parkErr error
	x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		if string(h.PathBytes()) == "/read" {
			_, readErr = readAll(s)
			return
		}
		s.WatchAbort(task)
		parkErr = task.Park("test")
	})
	x.post(1, "/read")
	x.post(3, "/park")
	x.send(time.Millisecond)
	x.WriteRSTStream(1, http2.ErrCodeCancel)
	x.WriteRSTStream(3, http2.ErrCodeCancel)
	x.expect(time.Millisecond, "")
	if policy.ReasonOf(readErr) != policy.BodyAborted || parkErr != engine.ErrPeerReset {
		t.Errorf("read %v, park %v", readErr, parkErr)
	}
	if x.server.Streams() != 0 || x.server.open != 0 {
		t.Error("streams are left")
	}
	x.WriteData(1, true, []byte("late"))
	x.expect(time.Millisecond, "RST 1 STREAM_CLOSED")
}

// TestAnswerToAnUnreadRequest ends with NO_ERROR, and what still comes of it is passed over.
func TestAnswerToAnUnreadRequest(t *testing.T) {
	x := newServed(t, testOptions(), hello)
	x.post(1, "/")
	x.WriteData(1, false, make([]byte, 1000))
	x.expect(time.Millisecond, "HEADERS 1 :status=200 content-length=5", "DATA 1 5 end", "RST 1 NO_ERROR")
	x.WriteData(1, false, make([]byte, 1000))
	x.headers(1, true, "a", "b")
	x.WriteWindowUpdate(1, 1)
	x.WriteRSTStream(1, http2.ErrCodeCancel)
	x.expect(time.Millisecond, "")
}

// TestResetMapping: what we tell the client when we give a stream up.
func TestResetMapping(t *testing.T) {
	for _, tc := range []struct {
		reason policy.Reason
		want   string
	}{
		{policy.Draining, "RST 1 REFUSED_STREAM"}, {policy.Overloaded, "RST 1 REFUSED_STREAM"},
		{policy.Internal, "RST 1 INTERNAL_ERROR"}, {policy.BodyAborted, "RST 1 PROTOCOL_ERROR"},
		{policy.UpstreamTruncated, "RST 1 INTERNAL_ERROR"}, {policy.HTTP2Stalled, "RST 1 CANCEL"},
	} {
		x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
			s.Reset(tc.reason)
			if err := s.Flush(); err == nil && s.wstate != writeNothing {
				t.Error("flushed after a reset")
			}
		})
		x.get(1, "/")
		x.expect(time.Millisecond, tc.want)
	}
}

// TestInterimAndRecall: an interim head leaves at once, a final one can be taken back until
// something of it was sent.
func TestInterimAndRecall(t *testing.T) {
	x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		h.Reset()
		h.SetStatus(103)
		if err := s.WriteHead(&h); err != nil {
			t.Error(err)
		}
		task.Sleep(10 * time.Millisecond)
		h.SetStatus(200)
		h.Framing.Kind = message.Chunked
		s.WriteHead(&h)
		if !s.Recall() || s.Recall() {
			t.Error("recall")
		}
		h.SetStatus(503)
		h.Framing.Kind = message.NoBody
		s.WriteHead(&h)
		s.Flush()
		if s.Recall() {
			t.Error("recalled after it was sent")
		}
	})
	x.get(1, "/")
	x.expect(time.Millisecond, "HEADERS 1 :status=103")
	x.expect(20*time.Millisecond, "HEADERS 1 :status=503 end")
}

// TestLongHead goes out in several frames.
func TestLongHead(t *testing.T) {
	value := strings.Repeat("v", 50_000)
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		h.Reset()
		h.SetStatus(200)
		h.Framing.Kind = message.Chunked
		h.AddString(message.NameOther, "long", value)
		s.WriteHead(&h)
		s.WriteBody([]byte("x"), true)
	})
	x.get(1, "/")
	x.send(time.Millisecond)
	x.in.WriteString(x.peer.Take())
	x.read.AllowIllegalReads, x.read.ReadMetaHeaders = false, x.dec
	x.dec.SetMaxStringLength(1 << 20)
	f, err := x.read.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	if h := f.(*http2.MetaHeadersFrame); len(h.Fields) != 2 || h.Fields[1].Value != value {
		t.Errorf("%d fields", len(h.Fields))
	}
	if f, err := x.read.ReadFrame(); err != nil || x.describe(f) != "DATA 1 1 end" {
		t.Errorf("then %v, %v", f, err)
	}
}

// TestWebSocket: an extended CONNECT is the upgrade that HTTP/1.1 knows, and then bytes.
func TestWebSocket(t *testing.T) {
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		if string(h.MethodBytes()) != "GET" || string(h.UpgradeBytes()) != "websocket" {
			t.Errorf("method %s, upgrade %s", h.MethodBytes(), h.UpgradeBytes())
		}
		if _, end, err := s.ReadBody(); !end || err != nil {
			t.Errorf("a body before the tunnel: %v", err)
		}
		h.Reset()
		h.SetStatus(101)
		h.SetUpgrade("websocket")
		h.Framing.Kind = message.Tunnel
		if err := s.WriteHead(&h); err != nil {
			t.Error(err)
		}
		s.Flush()
		for {
			p, end, err := s.ReadBody()
			if err != nil || s.WriteBody(p, end) != nil || end {
				return
			}
		}
	})
	x.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "a", ":path", "/chat")
	x.expect(time.Millisecond, "HEADERS 1 :status=200")
	x.WriteData(1, false, []byte("ping"))
	x.expect(time.Millisecond, "DATA 1 4")
	x.WriteData(1, true, nil)
	x.expect(time.Millisecond, "DATA 1 0 end")
}

// TestSlowReaderBlocksWriters: the output of a connection is bounded, and the tasks wait.
func TestSlowReaderBlocksWriters(t *testing.T) {
	done := 0
	o := testOptions()
	x := newRawServed(t, o, sim.Options{SendBuffer: 8 << 10, ReceiveBuffer: 8 << 10}, func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		if err := reply(s, 200, pattern(50_000, 0)); err == nil {
			done++
		}
	})
	x.out.WriteString(preface)
	x.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	x.WriteWindowUpdate(0, 1<<24)
	for id := uint32(1); id < 41; id += 2 {
		x.get(id, "/")
	}
	x.peer.Stall()
	x.send(time.Second)
	if done > 3 || x.server.t.Queued() > outClass {
		t.Errorf("%d done, %d queued", done, x.server.t.Queued())
	}
	x.peer.Resume()
	got := ""
	for range 200 {
		got += x.frames(time.Millisecond) + "\n"
	}
	if done != 20 || bytesOf(got, "DATA") != 20*50_000 {
		t.Errorf("%d done, %d bytes", done, bytesOf(got, "DATA"))
	}
}

// TestConnectionLost: streams fail, and the owner hears of the end once they are closed.
func TestConnectionLost(t *testing.T) {
	for _, end := range []string{"close", "reset"} {
		var err error
		x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) { _, err = readAll(s) })
		x.post(1, "/")
		x.send(time.Millisecond)
		if end == "close" {
			x.peer.Close()
		} else {
			x.peer.Reset()
		}
		x.w.RunFor(time.Second)
		if policy.ReasonOf(err) != policy.BodyAborted || x.closed != 1 || policy.ReasonOf(x.err) != policy.ClientAborted {
			t.Errorf("%s: read %v, closed %d times with %v", end, err, x.closed, x.err)
		}
		if end == "close" && !errors.Is(x.err, io.EOF) {
			t.Errorf("closed with %v", x.err)
		}
	}
}

// TestNoFrameIsCutForRoom: what the output has no room for goes out after it, in one piece.
func TestNoFrameIsCutForRoom(t *testing.T) {
	network := sim.Options{SendBuffer: 256 << 10, ReceiveBuffer: 256 << 10}
	x := newRawServed(t, testOptions(), network, func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		reply(s, 200, pattern(maxFrame, 0))
	})
	x.out.WriteString(preface)
	x.WriteSettings()
	x.WriteSettingsAck()
	x.WriteWindowUpdate(0, 1<<20)
	x.frames(time.Millisecond)
	var want []string
	for _, id := range []string{"1", "3", "5", "7", "9", "11"} {
		want = append(want, "HEADERS "+id+" :status=200 content-length=16384", "DATA "+id+" 16384 end")
	}
	for id := uint32(1); id < 12; id += 2 {
		x.get(id, "/")
	}
	x.expect(time.Millisecond, want...)
}
