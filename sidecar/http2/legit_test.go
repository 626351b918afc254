package http2

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// TestPeerThatReadsInSmallSteps gives both windows back for each 4 KiB, as Go's own client and
// server do whose reader takes no more at once: no flood, however much is sent.
func TestPeerThatReadsInSmallSteps(t *testing.T) {
	const size, step = 16 << 20, 4 << 10
	var err error
	x := newServed(t, testOptions(), func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		err = reply(s, 200, make([]byte, size))
	})
	x.get(1, "/")
	got, owed := 0, 0
	for range 2 * size / step {
		for _, line := range strings.Split(x.frames(time.Millisecond), "\n") {
			n := 0
			if _, err := fmt.Sscanf(line, "DATA 1 %d", &n); err == nil {
				got += n
				owed += n
			} else if strings.HasPrefix(line, "GOAWAY") {
				t.Fatalf("%s after %d bytes; abuse %v", line, got, x.abuse)
			}
		}
		if got == size {
			break
		}
		for ; owed >= step; owed -= step {
			x.WriteWindowUpdate(0, step)
			x.WriteWindowUpdate(1, step)
		}
	}
	if got != size || err != nil {
		t.Errorf("%d bytes, %v", got, err)
	}
}

// TestCancelledStreamsOfSmallMessages: what an endpoint has sent of a stream before it knows that
// we have given it up is no fault of its own, in however many frames it came; a window may be full
// of messages of some ten bytes.
func TestCancelledStreamsOfSmallMessages(t *testing.T) {
	x := greeted(t, testOptions())
	const streams = 4
	for range streams {
		x.do(func(task *engine.Task, s *Stream) {
			s.WriteHead(request("GET", "/", message.NoBody, 0))
			s.Flush()
			task.Sleep(10 * time.Millisecond)
		})
	}
	x.frames(20 * time.Millisecond) // they are given up by now
	for i := range uint32(streams) {
		x.headers(1+2*i, false, ":status", "200")
		for range 64 << 10 / 32 {
			x.WriteData(1+2*i, false, make([]byte, 32))
		}
	}
	if got := x.frames(time.Millisecond); strings.Contains(got, "GOAWAY") || x.c.Room() == 0 {
		t.Errorf("the connection has ended: %v", x.err)
	}
}

// TestMalformedAnswerBehindAnInterimOne: nothing is taken for the answer where both come at once.
func TestMalformedAnswerBehindAnInterimOne(t *testing.T) {
	x := greeted(t, testOptions())
	var h message.Head
	var err error
	x.do(func(_ *engine.Task, s *Stream) { _, err = ask(s, &h) })
	x.headers(1, false, ":status", "103")
	x.headers(1, false, ":status", "200", "a", "b", "connection", "close")
	x.frames(time.Millisecond)
	if policy.ReasonOf(err) != policy.UpstreamProtocol || h.Status == 200 {
		t.Errorf("status %d, %v", h.Status, err)
	}
}

// TestConnectionLostUnderAHead: the head of a request is larger than what the output has room for,
// so that what was there leaves first, and shows that the connection is gone. Nobody waits for an
// answer then.
func TestConnectionLostUnderAHead(t *testing.T) {
	x := greeted(t, testOptions(), http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	var err error
	ended := false
	x.do(func(task *engine.Task, s *Stream) {
		body := request("POST", "/", message.Chunked, 0)
		s.WriteHead(body)
		s.WriteBody(make([]byte, outRoom-1000), false)
		x.c.t.Conn().Abort()
		other := x.c.Open()
		defer other.Close()
		h := request("GET", "/", message.NoBody, 0)
		h.AddString(message.NameOther, "x-long", strings.Repeat("x", 20_000))
		if err = other.WriteHead(h); err == nil {
			err = other.Flush()
		}
		if err == nil {
			err = other.ReadHead(h)
		}
		ended = true
	})
	x.w.RunFor(time.Second)
	if !ended || err == nil {
		t.Errorf("ended: %v, %v", ended, err)
	}
}

// TestCallersThatGiveUpBesideOthers: a connection from another proxy carries the requests of many
// callers. Where as many of them are answered as give up, it is no attack, at whatever rate; where
// nobody waits for an answer it is.
func TestCallersThatGiveUpBesideOthers(t *testing.T) {
	for _, tc := range []struct {
		name     string
		answered bool
		want     policy.Reason
	}{{"half of them", true, policy.None}, {"all of them", false, policy.HTTP2RapidReset}} {
		x := newServed(t, testOptions(), func(task *engine.Task, s *Stream) {
			var h message.Head
			s.ReadHead(&h)
			if string(h.PathBytes()) == "/slow" {
				s.WatchAbort(task)
				task.Park("test")
				return
			}
			reply(s, 200, nil)
		})
		for id := uint32(1); id < 8*resetBurst && len(x.abuse) == 0; id += 4 {
			x.get(id, "/slow")
			if tc.answered {
				x.get(id+2, "/")
			}
			x.WriteRSTStream(id, http2.ErrCodeCancel)
			x.frames(100 * time.Microsecond)
		}
		if got := append(x.abuse, policy.None)[0]; got != tc.want {
			t.Errorf("%s: %v", tc.name, got)
		}
	}
}

// TestEndpointThatResetsBesideOthers is the same of an endpoint.
func TestEndpointThatResetsBesideOthers(t *testing.T) {
	x := greeted(t, testOptions())
	for id := uint32(1); id < 8*stormBurst; id += 4 {
		for range 2 {
			x.do(func(_ *engine.Task, s *Stream) { ask(s, &message.Head{}) })
		}
		x.send(100 * time.Microsecond)
		x.WriteRSTStream(id, http2.ErrCodeCancel)
		x.headers(id+2, true, ":status", "204")
		x.frames(100 * time.Microsecond)
		if x.c.Room() == 0 {
			t.Fatalf("ended by stream %d: %v", id, x.err)
		}
	}
}

// TestEarlyAnswersToManyUploads: as many streams as may be open are answered before their bodies
// have come, which are on their way then.
func TestEarlyAnswersToManyUploads(t *testing.T) {
	o := testOptions()
	o.MaxStreams = 4 * resetsKept
	x := newServed(t, o, hello)
	for id := uint32(1); id < 2*o.MaxStreams; id += 2 {
		x.post(id, "/")
	}
	x.frames(time.Millisecond)
	for id := uint32(1); id < 2*o.MaxStreams; id += 2 {
		x.WriteData(id, false, make([]byte, 100))
		x.WriteData(id, true, make([]byte, 100))
	}
	x.expect(time.Millisecond, "")
	if len(x.abuse) != 0 {
		t.Errorf("%v", x.abuse)
	}
}

// TestCallersThatGiveUpAgainAndAgain have the connection to their endpoint end with its last
// stream, long before that one takes it for an attacker's; who waits for an answer gets it.
func TestCallersThatGiveUpAgainAndAgain(t *testing.T) {
	x := greeted(t, testOptions())
	var status int
	var err error
	x.do(func(_ *engine.Task, s *Stream) {
		var h message.Head
		_, err = ask(s, &h)
		status = h.Status
	})
	resets := 0
	for ; resets < resetBurst && x.c.Room() > 0; resets++ {
		x.do(func(_ *engine.Task, s *Stream) {
			if err := s.WriteHead(request("GET", "/", message.NoBody, 0)); err == nil {
				s.Flush()
			}
		})
		x.frames(100 * time.Microsecond)
	}
	if resets <= gaveUpBurst || resets > gaveUpBurst+gaveUpRate || x.closed != 1 || x.err != nil {
		t.Errorf("after %d resets, owner told %d times, %v", resets, x.closed, x.err)
	}
	x.headers(1, true, ":status", "204")
	x.frames(10 * time.Millisecond)
	if err != nil || status != 204 {
		t.Errorf("who waits is answered by %d, %v", status, err)
	}
}
