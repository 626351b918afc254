//go:build linux

package attack

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// mutator spoils what is valid, by seed.
type mutator struct{ *rand.Rand }

func mutate(seed uint64) mutator { return mutator{rand.New(rand.NewPCG(seed, 0x9113))} }

// session is what a client with nothing wrong about it may send, frame by frame.
func (m mutator) session(p *peer) (frames [][]byte) {
	put := func(kind http2.FrameType, flags byte, id uint32, payload []byte) {
		frames = append(frames, frame(nil, kind, flags, id, payload))
	}
	put(http2.FrameSettings, 0, 0, setting(http2.SettingInitialWindowSize, uint32(m.IntN(1<<20))))
	put(http2.FrameSettings, ack, 0, nil)
	for range 1 + m.IntN(20) {
		id := p.stream
		p.stream += 2
		switch m.IntN(6) {
		case 0:
			put(http2.FrameHeaders, endHeaders|endStream, id, p.head("GET", "/"))
		case 1:
			block := p.head("POST", "/", "content-length", "10", "cookie", "a=b", "cookie", "c=d")
			cut := m.IntN(len(block))
			put(http2.FrameHeaders, 0, id, block[:cut])
			put(http2.FrameContinuation, endHeaders, id, block[cut:])
			put(http2.FrameData, 0, id, []byte("01234"))
			put(http2.FrameData, padded|endStream, id, append([]byte{3}, "56789\x00\x00\x00"...))
		case 2:
			put(http2.FrameHeaders, endHeaders, id, p.head("POST", "/wait", "te", "trailers"))
			put(http2.FrameData, 0, id, m.bytes(m.IntN(4000)))
			put(http2.FrameRSTStream, 0, id, number(uint32(http2.ErrCodeCancel)))
		case 3:
			put(http2.FrameHeaders, endHeaders|endStream, id, p.head("GET", "/big"))
			put(http2.FrameWindowUpdate, 0, id, number(uint32(1+m.IntN(100_000))))
			put(http2.FrameWindowUpdate, 0, 0, number(uint32(1+m.IntN(100_000))))
		case 4:
			put(http2.FrameHeaders, endHeaders, id, p.head("POST", "/"))
			put(http2.FrameData, 0, id, m.bytes(m.IntN(100)))
			put(http2.FrameHeaders, endHeaders|endStream, id, p.fields("x-trailer", "t"))
		case 5:
			put(http2.FramePing, 0, 0, m.bytes(8))
			put(http2.FramePriority, 0, id, priority(0, 5))
			put(http2.FrameHeaders, endHeaders, id, p.fields(":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "app", ":path", "/", "sec-websocket-version", "13"))
			put(http2.FrameData, endStream, id, m.bytes(20))
		}
	}
	return frames
}

// answer is what an endpoint with nothing wrong about it may send for a request.
func (m mutator) answer(p *peer, id uint32) (frames [][]byte) {
	if m.IntN(3) == 0 {
		frames = append(frames, frame(nil, http2.FrameHeaders, endHeaders, id, p.fields(":status", "103", "link", "</a>")))
	}
	return append(frames,
		frame(nil, http2.FrameHeaders, endHeaders, id, p.fields(":status", "200", "x-some", "thing")),
		frame(nil, http2.FrameData, 0, id, m.bytes(m.IntN(2000))),
		frame(nil, http2.FrameWindowUpdate, 0, 0, number(100)),
		frame(nil, http2.FrameData, 0, id, m.bytes(m.IntN(2000))),
		frame(nil, http2.FrameHeaders, endHeaders|endStream, id, p.fields("x-trailer", "t")))
}

func (m mutator) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(m.Uint32())
	}
	return b
}

// spoil changes some of the frames.
func (m mutator) spoil(frames [][]byte) [][]byte {
	for range 1 + m.IntN(4) {
		at := m.IntN(len(frames))
		f := append([]byte(nil), frames[at]...)
		if len(f) < headerSize {
			continue // cut short before
		}
		switch m.IntN(9) {
		case 0: // a bit
			f[m.IntN(len(f))] ^= 1 << m.IntN(8)
		case 1: // type
			f[3] = byte(m.IntN(12))
		case 2: // flags
			f[4] = byte(m.Uint32())
		case 3: // stream
			f[8] = byte(m.IntN(50))
		case 4: // length, and so all frames after it
			f[2] = byte(m.Uint32())
		case 5: // cut short
			f = f[:m.IntN(len(f)+1)]
		case 6: // twice
			f = append(f, f...)
		case 7: // something between
			f = append(f, frame(nil, http2.FrameType(m.IntN(12)), byte(m.Uint32()), uint32(m.IntN(20)), m.bytes(m.IntN(40)))...)
		case 8: // in another order
			other := m.IntN(len(frames))
			f, frames[other] = frames[other], f
		}
		frames[at] = f
	}
	return frames
}

// play is one spoilt session with its end: bounded in frames, and in time.
func play(address string, seed uint64) error {
	c, err := net.DialTimeout("tcp", address, 30*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	p, m := newPeer(c), mutate(seed)
	p.quiet = m.IntN(2) == 0
	go p.receive(c, nil)
	p.raw(preface)
	for _, f := range m.spoil(m.session(p)) {
		p.raw(string(f))
		if m.IntN(3) == 0 {
			if p.flush() != nil {
				break // ended by the victim
			}
		}
	}
	_ = p.flush() // as above
	select {
	case <-p.done:
	case <-time.After(time.Duration(m.IntN(50)) * time.Millisecond):
	}
	if m.IntN(2) == 0 {
		_ = c.(*net.TCPConn).SetLinger(0) // by a reset
	}
	c.Close()
	<-p.done
	return nil
}

// seeds are the first one, by the clock or LARBOARD_ATTACK_SEED, and how many follow.
func seeds(t *testing.T) (first uint64, n int) {
	first, n = uint64(time.Now().UnixNano())%1_000_000_000, 400
	if os.Getenv("LARBOARD_LONG") == "1" {
		n = 20_000
	}
	if text := os.Getenv("LARBOARD_ATTACK_SEED"); text != "" {
		one, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		first = one
	}
	t.Logf("seeds %d to %d; LARBOARD_ATTACK_SEED=%d begins here again", first, first+uint64(n)-1, first)
	return first, n
}

// TestSpoiltSessions: valid sessions with random faults never end the process, a task
// or a connection beside them, and leave nothing behind.
func TestSpoiltSessions(t *testing.T) {
	app := origin(t)
	l := start(t, fmt.Sprintf(configuration, app, "127.0.0.1:1"))
	address := l.address("in")
	tr := browse(t, l.address("ordinary"), app)
	eventually(t, time.Minute, "ordinary traffic", tr.flows)
	before := l.load()
	first, n := seeds(t)
	var next atomic.Int64
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				seed := first + uint64(i)
				if err := play(address, seed); err != nil {
					t.Errorf("seed %d: %v", seed, err)
					return
				}
			}
		})
	}
	workers.Wait()
	l.alive()
	tr.clean()
	l.calmed(before)
	t.Logf("%d sessions; counted: %s", n, counts(l.scrape().byReason("larboard_http2_abuse_total")))
}

// TestSpoiltAnswers is the same by an endpoint: every caller is answered or broken off.
func TestSpoiltAnswers(t *testing.T) {
	e := listen(t)
	app := origin(t)
	l := start(t, fmt.Sprintf(configuration, app, e.address))
	tr := browse(t, l.address("ordinary"), app)
	eventually(t, time.Minute, "ordinary traffic", tr.flows)
	before := l.load()
	first, n := seeds(t)
	var next atomic.Uint64
	e.become(&upstream{asked: func(p *peer, id uint32) {
		m := mutate(first + next.Add(1) - 1)
		for _, f := range m.spoil(m.answer(p, id)) {
			p.raw(string(f))
		}
	}})
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(n)*100*time.Millisecond)
	defer cancel()
	c := call(l.address("in"), false)
	for ctx.Err() == nil && int(next.Load()) < n {
		time.Sleep(10 * time.Millisecond)
	}
	c.end()
	e.become(nil)
	if c.got["hung"] > 0 || sumOf(c.got) == 0 {
		t.Errorf("callers: %s", counts(c.got))
	}
	l.alive()
	tr.clean()
	l.calmed(before)
	t.Logf("%d answers; callers: %s; counted: %s", next.Load(), counts(c.got), counts(l.reasons()))
}
