package http2

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// slow answers after a second.
func slow(task *engine.Task, s *Stream) {
	var h message.Head
	if s.ReadHead(&h) == nil && task.Sleep(time.Second) == nil {
		reply(s, 200, []byte("x"))
	}
}

// TestDrain: a request that was under way when the first GOAWAY left is served; after the second
// none is, and the connection ends with the last one.
func TestDrain(t *testing.T) {
	x := newServed(t, testOptions(), slow)
	x.get(1, "/")
	x.send(500 * time.Millisecond)
	x.on(x.server.Drain)
	x.get(3, "/") // on its way when the GOAWAY was sent
	x.expect(100*time.Millisecond, "GOAWAY 2147483647 NO_ERROR", "PING drain...")
	x.WritePing(true, [8]byte([]byte(pingDrain)))
	x.expect(time.Millisecond, "GOAWAY 3 NO_ERROR")
	x.get(5, "/")
	x.expect(time.Millisecond, "RST 5 REFUSED_STREAM")
	x.expect(5*time.Second, "HEADERS 1 :status=200 content-length=1", "DATA 1 1 end",
		"HEADERS 3 :status=200 content-length=1", "DATA 3 1 end", "end")
	x.peer.CloseWrite()
	x.w.RunFor(time.Second)
	if x.closed != 1 || x.err != nil {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
}

// TestDrainOfManyStreams loses none of 120 that are under way.
func TestDrainOfManyStreams(t *testing.T) {
	x := newServed(t, testOptions(), slow)
	for i := range uint32(120) {
		x.get(2*i+1, "/")
	}
	x.send(time.Millisecond)
	x.on(x.server.Drain)
	if got := x.frames(10 * time.Second); strings.Count(got, "1 end") != 120 || !strings.HasSuffix(got, "GOAWAY 239 NO_ERROR\nend") {
		t.Errorf("got %d answers and %s", strings.Count(got, "1 end"), tail(got))
	}
}

// TestDrainWithoutAnswer: whoever does not answer the PING gets the second GOAWAY after a second.
// TestEndWithinAHeaderBlock: what of a header block has come goes back when the connection ends
// before its last frame, by whoever's GOAWAY.
func TestEndWithinAHeaderBlock(t *testing.T) {
	for _, ours := range []bool{true, false} {
		x := newServed(t, testOptions(), hello)
		x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.block(":method", "GET"), EndStream: true})
		if ours {
			x.send(time.Millisecond)
			x.on(x.server.Drain)
		} else {
			x.out.Reset()
			x.WriteGoAway(0, http2.ErrCodeNo, nil)
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: x.block(":method", "GET"), EndStream: true})
		}
		x.send(5 * time.Second)
		x.peer.Close()
		x.w.RunFor(time.Second)
		if x.closed != 1 { // what is left behind the end of the world tells
			t.Errorf("ours %v: closed %d times", ours, x.closed)
		}
	}
}

func TestDrainWithoutAnswer(t *testing.T) {
	x := newServed(t, testOptions(), slow)
	x.on(x.server.Drain)
	x.expect(900*time.Millisecond, "GOAWAY 2147483647 NO_ERROR", "PING drain...")
	x.expect(200*time.Millisecond, "GOAWAY 0 NO_ERROR", "end")
}

func TestIdle(t *testing.T) {
	o := testOptions()
	o.IdleTimeout = 5 * time.Second
	x := newServed(t, o, hello)
	x.expect(4*time.Second, "")
	x.get(1, "/")
	x.frames(time.Millisecond)
	x.expect(4900*time.Millisecond, "")
	x.expect(200*time.Millisecond, "GOAWAY 2147483647 NO_ERROR", "PING drain...")
	x.WritePing(true, [8]byte([]byte(pingDrain)))
	x.expect(time.Millisecond, "GOAWAY 1 NO_ERROR", "end")
	x.w.RunFor(2 * time.Second)
	if x.closed != 1 || x.err != nil {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
}

// TestHeadTimeouts: a preface, SETTINGS, a frame and a header block must be here in time.
func TestHeadTimeouts(t *testing.T) {
	x := newRawServed(t, testOptions(), sim.Options{}, hello)
	x.out.WriteString(preface[:10])
	x.expect(9*time.Second, "SETTINGS", "WINDOW 0 983041")
	x.expect(2*time.Second, "GOAWAY 0 NO_ERROR", "end")
	x.w.RunFor(2 * time.Second)
	if x.closed != 1 || policy.ReasonOf(x.err) != policy.RequestTimeout {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
	x = newServed(t, testOptions(), hello)
	x.WriteRawFrame(1, 0, 1, []byte{0x82}) // HEADERS that do not end
	x.expect(9*time.Second, "")
	x.expect(2*time.Second, "GOAWAY 0 NO_ERROR", "end")
	x = newServed(t, testOptions(), hello)
	x.out.Write([]byte{0, 0, 40, byte(frameHeaders)}) // and then drop by drop
	for range 9 {
		x.expect(time.Second, "")
		x.out.Write([]byte{0})
	}
	x.expect(2*time.Second, "GOAWAY 0 NO_ERROR", "end")
	x = newRawServed(t, testOptions(), sim.Options{}, hello)
	x.out.WriteString(preface)
	x.WriteSettings()
	x.get(1, "/")
	x.frames(9 * time.Second)
	x.expect(2*time.Second, "GOAWAY 1 SETTINGS_TIMEOUT", "end")
}

func TestPing(t *testing.T) {
	o := testOptions()
	o.PingInterval, o.PingTimeout = 5*time.Second, time.Second
	x := newServed(t, o, slow)
	x.expect(4*time.Second, "")
	x.WritePing(false, [8]byte{})
	x.frames(time.Millisecond) // was heard: the interval begins anew
	x.expect(4900*time.Millisecond, "")
	x.expect(200*time.Millisecond, "PING alive...")
	x.WritePing(true, [8]byte([]byte(pingAlive)))
	x.expect(4900*time.Millisecond, "")
	x.expect(500*time.Millisecond, "PING alive...")
	x.expect(2*time.Second, "GOAWAY 0 NO_ERROR", "end")
	x.w.RunFor(2 * time.Second)
	if x.closed != 1 || policy.ReasonOf(x.err) != policy.HTTP2PingTimeout {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
}

func TestAbort(t *testing.T) {
	var err error
	x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
		s.WatchAbort(task)
		err = task.Park("test")
	})
	x.post(1, "/")
	x.send(time.Millisecond)
	x.on(func() { x.server.Abort(policy.NotAllowed) })
	x.expect(time.Millisecond, "GOAWAY 1 NO_ERROR", "end")
	if policy.ReasonOf(err) != policy.NotAllowed || x.closed != 1 || policy.ReasonOf(x.err) != policy.NotAllowed {
		t.Errorf("task %v, closed %d times with %v", err, x.closed, x.err)
	}
}

// TestResetByTheExchange ends the stream, and not the task that watches it.
func TestResetByTheExchange(t *testing.T) {
	var err, sleepErr error
	x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
		s.WatchAbort(task)
		s.Reset(policy.Overloaded)
		sleepErr = task.Sleep(time.Millisecond)
		_, err = readAll(s)
	})
	x.post(1, "/")
	x.expect(time.Second, "RST 1 REFUSED_STREAM")
	if sleepErr != nil || err == nil {
		t.Errorf("sleep %v, read %v", sleepErr, err)
	}
}

// TestEngineEnds under a connection with streams, an incomplete frame and unsent output: nothing
// is left behind, and everybody is told. The world's Close looks for leaks.
func TestEngineEnds(t *testing.T) {
	x := newRawServed(t, testOptions(), sim.Options{SendBuffer: 4 << 10, ReceiveBuffer: 4 << 10}, func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		reply(s, 200, pattern(60_000, 0))
	})
	x.out.WriteString(preface)
	x.WriteSettings()
	x.get(1, "/")
	x.post(3, "/")
	x.WriteData(5, false, nil)
	x.out.Truncate(x.out.Len() - 2)
	x.peer.Stall()
	x.send(time.Millisecond)
	if err := x.w.Close(); err != nil {
		t.Error(err)
	}
	if x.closed != 1 || policy.ReasonOf(x.err) != policy.Draining {
		t.Errorf("closed %d times with %v", x.closed, x.err)
	}
}

// TestClientIdle: an idle client goes, too, and says so.
func TestClientIdle(t *testing.T) {
	o := testOptions()
	o.IdleTimeout = 5 * time.Second
	x := greeted(t, o)
	x.expect(5100*time.Millisecond, "GOAWAY 0 NO_ERROR", "end")
	if x.closed != 1 || x.err != nil || x.c.Room() != 0 {
		t.Errorf("closed %d times with %v, room for %d", x.closed, x.err, x.c.Room())
	}
}

// TestDeadlinesOfAStream are its own.
func TestDeadlinesOfAStream(t *testing.T) {
	var first, second error
	var at []time.Time
	x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
		s.ReadWithin(time.Duration(s.ID()) * time.Second)
		_, err := readAll(s)
		at = append(at, task.Loop().Now())
		if s.ID() == 1 {
			first = err
		} else {
			second = err
		}
	})
	began := x.w.Now()
	x.post(1, "/")
	x.post(3, "/")
	x.send(10 * time.Second)
	if len(at) != 2 || at[0].Sub(began).Round(100*time.Millisecond) != time.Second || at[1].Sub(began).Round(100*time.Millisecond) != 3*time.Second {
		t.Errorf("at %v", at)
	}
	for _, err := range []error{first, second} {
		var e *policy.Error
		if !errors.As(err, &e) || e.Reason != policy.BodyAborted || !errors.Is(err, engine.ErrTimeout) {
			t.Errorf("error %v", err)
		}
	}
}

// TestTable compares the table of streams with a map.
func TestTable(t *testing.T) {
	var x table
	known := map[uint32]*Stream{}
	next := uint32(1)
	for i := range 20_000 {
		if i*2654435761>>7&3 != 0 && len(known) < 100 {
			s := &Stream{streamState: streamState{id: next}}
			next += uint32(i*40503>>4&7)*2 + 2
			x.put(s)
			known[s.id] = s
		} else {
			for _, s := range known {
				x.remove(s)
				delete(known, s.id)
				break
			}
		}
		if x.n != len(known) {
			t.Fatalf("%d streams, not %d", x.n, len(known))
		}
		for id, s := range known {
			if x.get(id) != s || x.get(id+2) != known[id+2] {
				t.Fatal(fmt.Sprint("stream ", id, " is not found"))
			}
		}
	}
}
