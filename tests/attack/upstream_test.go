//go:build linux

package attack

import (
	"bytes"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// upstream is a hostile endpoint that speaks HTTP/2, or should.
type upstream struct {
	name, what string
	settings   []byte
	// silent sends nothing, not even SETTINGS.
	silent bool
	// opened follows the SETTINGS; asked is called for every request.
	opened func(p *peer)
	asked  func(p *peer, id uint32)
	// flood is repeated at rate a second for as long as the connection lives.
	flood func(p *peer)
	rate  int
	// sends is a sort of frame that the proxy, or a recorder in its place, must get.
	sends string
	// post asks with a body of 1 MiB.
	post bool

	// answers are the statuses that callers may get; anything else fails.
	answers []string
	// reasons of which one must be counted, as abuse or as the outcome of requests.
	reasons []string
	// ends of which one must be met; none where the connection may live.
	ends []string
}

// failure is what a caller gets whose endpoint is not fit: 502 to 504.
var failure = []string{"502", "503", "504"}

// answer queues a complete response.
func (p *peer) answer(id uint32, body string) {
	p.add(http2.FrameHeaders, endHeaders, id, p.fields(":status", "200"))
	p.add(http2.FrameData, endStream, id, []byte(body))
}

// upstreams are all attacks of endpoints.
func upstreams() []upstream {
	ok := append([]string{"200", "broken"}, failure...)
	reset := func(code http2.ErrCode) func(*peer, uint32) {
		return func(p *peer, id uint32) { p.add(http2.FrameRSTStream, 0, id, number(uint32(code))) }
	}
	wrong := []string{"upstream_protocol"}
	storm := []string{"upstream_reset_storm"}
	normal := func(p *peer, id uint32) { p.answer(id, "ok") }
	keep := func(*peer, uint32) {}
	head := func(p *peer, id uint32) { p.add(http2.FrameHeaders, endHeaders, id, p.fields(":status", "200")) }
	flood := func(name, sends string, f func(p *peer)) upstream {
		return upstream{name: name, what: sends + " without end", sends: sends, asked: normal, flood: f, rate: 20_000, answers: ok, reasons: wrong, ends: []string{calm}}
	}
	return append([]upstream{
		{name: "goaway-first", what: "GOAWAY as the first word of every connection", reasons: []string{"upstream_refused"}, sends: "GOAWAY", answers: failure,
			opened: func(p *peer) { p.add(http2.FrameGoAway, 0, 0, goAway(0, http2.ErrCodeNo)) }, asked: keep},
		{name: "goaway-each", what: "GOAWAY at every request", reasons: []string{"upstream_refused"}, sends: "GOAWAY", answers: failure,
			asked: func(p *peer, id uint32) { p.add(http2.FrameGoAway, 0, 0, goAway(0, http2.ErrCodeNo)) }},
		{name: "reset-storm", what: "RST_STREAM for every request", sends: "RST_STREAM", answers: failure, asked: reset(http2.ErrCodeInternal), reasons: storm, ends: []string{calm}},
		{name: "refuse-storm", what: "REFUSED_STREAM for every request", sends: "RST_STREAM", answers: failure, asked: reset(http2.ErrCodeRefusedStream), reasons: storm, ends: []string{calm}},
		{name: "no-streams", what: "a limit of 0 streams", reasons: []string{"upstream_refused"}, sends: "SETTINGS", answers: failure,
			settings: setting(http2.SettingMaxConcurrentStreams, 0), asked: reset(http2.ErrCodeRefusedStream)},
		{name: "silent", what: "a connection on which nothing is said", reasons: []string{"upstream_timeout"}, silent: true, answers: failure, asked: keep},
		{name: "mute", what: "no answer to any request", reasons: []string{"upstream_timeout"}, answers: failure, asked: keep},
		{name: "garbage", what: "HTTP/1.1 in place of HTTP/2", reasons: wrong, silent: true, answers: failure, asked: keep,
			opened: func(p *peer) {
				p.raw("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n" + strings.Repeat("x", 1000))
			}},
		{name: "push", what: "PUSH_PROMISE", reasons: wrong, sends: "PUSH_PROMISE", answers: failure, ends: []string{protocol},
			asked: func(p *peer, id uint32) {
				p.add(http2.FramePushPromise, endHeaders, id, append(number(2), p.head("GET", "/")...))
			}},
		{name: "wrong-stream", what: "an answer on a stream that nobody opened", reasons: wrong, sends: "HEADERS", answers: failure, ends: []string{protocol, "GOAWAY STREAM_CLOSED"},
			asked: func(p *peer, id uint32) { p.answer(id+1000, "ok") }},
		{name: "interim", what: "103 without end", reasons: wrong, sends: "HEADERS", answers: failure,
			asked: func(p *peer, id uint32) { p.n = int(id) }, rate: 2000,
			flood: func(p *peer) {
				if p.n > 0 {
					p.add(http2.FrameHeaders, endHeaders, uint32(p.n), p.fields(":status", "103", "link", "</a>"))
				}
			}},
		{name: "fields", what: "an answer with 16000 fields", reasons: wrong, sends: "HEADERS", answers: failure,
			asked: func(p *peer, id uint32) { p.bomb(id, bytes.Repeat([]byte("\x00\x03x-a\x01v"), 16000), true) }},
		{name: "hpack-bomb", what: "an answer of 16000 references to 4 KB", reasons: wrong, sends: "HEADERS", answers: failure,
			asked: func(p *peer, id uint32) {
				p.bomb(id, append(p.fields("x-a", strings.Repeat("v", 4000)), bytes.Repeat([]byte{0x80 | 62}, 16000)...), true)
			}},
		{name: "trailers-bomb", what: "trailers of 16000 references to 4 KB", reasons: wrong, sends: "HEADERS", answers: ok,
			asked: func(p *peer, id uint32) {
				head(p, id)
				p.bomb(id, append(p.fields("x-a", strings.Repeat("v", 4000)), bytes.Repeat([]byte{0x80 | 62}, 16000)...), false)
			}},
		{name: "continuation", what: "CONTINUATION without end", reasons: wrong, sends: "CONTINUATION", answers: failure, ends: []string{calm},
			asked: func(p *peer, id uint32) {
				if p.n == 0 {
					p.n = int(id)
					p.add(http2.FrameHeaders, 0, id, p.fields(":status", "200"))
				}
			}, rate: 2000,
			flood: func(p *peer) {
				if p.n > 0 {
					p.add(http2.FrameContinuation, 0, uint32(p.n), bytes.Repeat([]byte("\x10\x03x-a\x01v"), 100))
				}
			}},
		{name: "beyond-window", what: "DATA whatever the window is", reasons: wrong, sends: "DATA", answers: ok,
			asked: func(p *peer, id uint32) {
				head(p, id)
				for range 128 {
					p.add(http2.FrameData, 0, id, make([]byte, 16<<10))
				}
			}},
		{name: "too-long", what: "more DATA than Content-Length says", reasons: wrong, sends: "DATA", answers: ok,
			asked: func(p *peer, id uint32) {
				p.add(http2.FrameHeaders, endHeaders, id, p.fields(":status", "200", "content-length", "2"))
				p.add(http2.FrameData, endStream, id, []byte("more than that"))
			}},
		{name: "drip", what: "answers of which a byte comes now and then", reasons: []string{"upstream_timeout"}, sends: "DATA", answers: ok, asked: func(p *peer, id uint32) {
			head(p, id)
			p.n = int(id)
		}, rate: 10, flood: func(p *peer) {
			if p.n > 0 {
				p.add(http2.FrameData, 0, uint32(p.n), []byte("x"))
			}
		}},
		{name: "no-window", what: "uploads for which no window opens", reasons: []string{"upstream_timeout"}, settings: setting(http2.SettingInitialWindowSize, 0), answers: ok, post: true, asked: keep},
	},
		flood("settings", "SETTINGS", func(p *peer) { p.add(http2.FrameSettings, 0, 0, nil) }),
		flood("ping", "PING", func(p *peer) { p.add(http2.FramePing, 0, 0, make([]byte, 8)) }),
		flood("window-one", "WINDOW_UPDATE of 1", func(p *peer) { p.add(http2.FrameWindowUpdate, 0, 0, number(1)) }),
		flood("unknown", "unknown", func(p *peer) { p.add(0xfa, 0, 0, []byte("x")) }),
	)
}

// bomb queues a header section in as many frames as it takes; final says that it is
// the answer's head, else its trailers.
func (p *peer) bomb(id uint32, more []byte, final bool) {
	block := more
	if final {
		block = append(p.fields(":status", "200"), more...)
	}
	kind, flags := http2.FrameHeaders, byte(endStream)
	for len(block) > 0 {
		part := block[:min(len(block), 16<<10)]
		if block = block[len(part):]; len(block) == 0 {
			flags |= endHeaders
		}
		p.add(kind, flags, id, part)
		kind, flags = http2.FrameContinuation, 0
	}
}

// endpoint is the one address behind which every hostile endpoint is in turn.
type endpoint struct {
	address string
	acts    atomic.Pointer[upstream]
	mu      sync.Mutex
	account *account
	conns   map[net.Conn]bool
	all     sync.WaitGroup
}

func listen(t testing.TB) *endpoint {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{address: l.Addr().String(), account: newAccount(), conns: map[net.Conn]bool{}}
	e.all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.mu.Lock()
			e.conns[c] = true
			e.mu.Unlock()
			e.all.Go(func() { e.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		e.become(nil)
		e.all.Wait()
	})
	return e
}

// become ends all connections and says how the next ones will act; it returns what
// there is to say of those before.
func (e *endpoint) become(u *upstream) *account {
	e.acts.Store(u)
	e.mu.Lock()
	for c := range e.conns {
		c.Close()
	}
	e.mu.Unlock()
	eventually := time.Now().Add(5 * time.Second)
	for {
		e.mu.Lock()
		if len(e.conns) == 0 || time.Now().After(eventually) {
			done := e.account
			e.account = newAccount()
			e.mu.Unlock()
			return done
		}
		e.mu.Unlock()
		time.Sleep(time.Millisecond)
	}
}

// serve is one connection of the proxy.
func (e *endpoint) serve(c net.Conn) {
	p, asked, reads := newPeer(c), 0, false
	defer func() {
		c.Close()
		if reads {
			<-p.done
		}
		e.mu.Lock()
		delete(e.conns, c)
		e.account.add(p, asked)
		e.mu.Unlock()
	}()
	u := e.acts.Load()
	if u == nil {
		return
	}
	if _, err := io.ReadFull(c, make([]byte, len(preface))); err != nil {
		p.told = ending(err)
		return
	}
	var beat <-chan time.Time
	if u.flood != nil {
		ticker := time.NewTicker(tick)
		defer ticker.Stop()
		beat = ticker.C
	}
	p.quiet = u.silent
	requests := make(chan uint32, 1024)
	if !u.silent {
		p.add(http2.FrameSettings, 0, 0, u.settings)
	}
	if u.opened != nil {
		u.opened(p)
	}
	reads = true // after SETTINGS, before which no answer may come
	go p.receive(c, func(f read) {
		if f.kind == http2.FrameHeaders {
			select {
			case requests <- f.id:
			default: // enough of them wait already
			}
		}
	})
	began, floods := time.Now(), 0
	for p.flush() == nil {
		select {
		case <-p.done:
			return
		case id := <-requests:
			asked++
			u.asked(p, id)
		case <-beat:
			for due := int(time.Since(began).Seconds() * float64(u.rate)); floods < due; floods++ {
				u.flood(p)
			}
		}
	}
	select { // a GOAWAY may have come before the reset
	case <-p.done:
	case <-time.After(patience):
	}
}
