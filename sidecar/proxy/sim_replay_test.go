package proxy

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// upload is a request's body that goes out in pieces.
type upload struct {
	text    string
	chunked bool
	pieces  int
}

func (u upload) head(method string) string {
	if u.chunked {
		return method + " /up HTTP/1.1\r\nHost: api\r\nTransfer-Encoding: chunked\r\n\r\n"
	}
	return fmt.Sprintf("%s /up HTTP/1.1\r\nHost: api\r\nContent-Length: %d\r\n\r\n", method, len(u.text))
}

// split cuts the body, in the framing of HTTP/1.
func (u upload) split() (all []string) {
	n := max(1, len(u.text)/max(1, u.pieces))
	for rest := u.text; rest != ""; rest = rest[min(n, len(rest)):] {
		piece := rest[:min(n, len(rest))]
		if u.chunked {
			piece = fmt.Sprintf("%x\r\n%s\r\n", len(piece), piece)
		}
		all = append(all, piece)
	}
	if u.chunked {
		all = append(all, "0\r\n\r\n")
	}
	return all
}

// fails is an endpoint that resets when so many bytes of a request have come, the first
// so many times.
type fails struct {
	after, times int
	seen         []string // what each connection had brought
}

// serve answers whole requests.
func (s *stage) failsAt(addr string, f *fails, whole func(string)) {
	s.w.Host(addr[:strings.IndexByte(addr, ':')]).Serve(addr, func(p *sim.Peer) {
		if f.times > 0 && p.Size() >= f.after {
			f.times--
			f.seen = append(f.seen, p.Got())
			p.Reset()
			return
		}
		if q, n := parseRequest(p.Got()); n > 0 && f.times <= 0 {
			p.Take()
			whole(q.body)
			p.Send(ok(fmt.Sprint(len(q.body))))
		}
		if p.Over() {
			p.Close()
		}
	})
}

// TestSimBodiesAreReplayed: whatever has been sent of a body, the next endpoint gets all of
// it; beyond the bound the request is not repeated.
func TestSimBodiesAreReplayed(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for i := range 150 {
		u := upload{chunked: random.IntN(2) == 0, pieces: 1 + random.IntN(6)}
		size := []int{1, 1000, 8 << 10, 20_000, 64 << 10, 64<<10 + 1, 100_000}[random.IntN(7)]
		u.text = strings.Repeat("0123456789abcdef", size/16+1)[:size]
		f := &fails{after: random.IntN(size + 50), times: 1 + random.IntN(2)}
		late := f.after > 200+64<<10 // more than is kept may have been passed on
		network := calm()
		if i%2 == 0 {
			network = rough(uint64(i))
		}
		t.Run(fmt.Sprintf("%d: %d bytes in %d pieces, chunked %v, reset after %d, %d times", i, size, u.pieces, u.chunked, f.after, f.times), func(t *testing.T) {
			s := newStage(t, network, HTTP, nil, originAddr)
			got := []string{}
			s.failsAt(originAddr, f, func(body string) { got = append(got, body) })
			p := s.dial(u.head("PUT"))
			for _, piece := range u.split() {
				p.Send(piece)
				s.w.RunFor(time.Duration(random.IntN(20)) * time.Millisecond)
			}
			a := s.answered(p, 1, 20*time.Second)[0]
			switch {
			case a.status == 200:
				if len(got) != 1 || got[0] != u.text {
					t.Errorf("the endpoint got %d bodies", len(got))
				}
			case size > 64<<10 || late:
				if a.header.Get("X-Larboard-Reason") != policy.UpstreamReset.String() {
					t.Errorf("%+v", a)
				}
			default:
				t.Errorf("%+v; %q", a, s.records.repeats)
			}
			if total := s.engine.Stats().Total(); total.Buffers > 1 {
				t.Errorf("%d buffers are in use behind the answer", total.Buffers)
			}
			p.Close()
		})
	}
}

// TestSimBodiesAreReplayedOverStreams: the same over HTTP/2, and with an endpoint that refuses
// the stream when the body is on its way: then a POST is repeated, too.
func TestSimBodiesAreReplayedOverStreams(t *testing.T) {
	for _, size := range []int{10, 9_000, 40_000, 64 << 10} {
		for _, refused := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, refused %v", size, refused), func(t *testing.T) {
				s := newStage(t, calm(), HTTP, overStreams(true), originAddr)
				text := strings.Repeat("0123456789abcdef", size/16+1)[:size]
				n := 0
				var last *framedStream
				s.streamOrigin(originAddr, func(st *framedStream) {
					if n++; n < 3 {
						s.w.After(20*time.Millisecond, func() {
							if refused {
								st.f.write(st.f.framer.WriteRSTStream(st.id, xhttp2.ErrCodeRefusedStream))
							} else {
								st.Reset()
							}
						})
						return
					}
					last = st
					s.whenEnded(st, func() { st.headers(true, ":status", "204") })
				})
				f := s.dialStreams()
				method := "PUT"
				if refused {
					method = "POST"
				}
				st := f.open(false, ":method", method, ":scheme", "http", ":authority", "api", ":path", "/")
				for rest := text; rest != ""; rest = rest[min(5000, len(rest)):] {
					s.w.RunFor(5 * time.Millisecond)
					st.Send(rest[:min(5000, len(rest))])
				}
				st.CloseWrite()
				s.until(5*time.Second, "the answer", st.Ended)
				if st.head[":status"] != "204" || last == nil || last.Got() != text {
					t.Errorf("%q after %d streams: %v", st.head, n, s.records.repeats)
				}
				f.p.Close()
			})
		}
	}
}

// whenEnded calls f once a request has come to its end.
func (s *stage) whenEnded(st *framedStream, f func()) {
	if st.ended {
		f()
		return
	}
	s.w.After(time.Millisecond, func() { s.whenEnded(st, f) })
}

// TestSimReplayIsBounded: by the policy, and by the buffers that there are.
func TestSimReplayIsBounded(t *testing.T) {
	for _, c := range []struct {
		name    string
		size    int
		change  func(*retry.Policy)
		status  int
		repeats []string
	}{
		{"within", 60_000, func(*retry.Policy) {}, 200, []string{"reset made"}},
		{"more than the bound", 70_000, func(*retry.Policy) {}, 502, []string{"reset unsafe"}},
		{"a larger bound", 700_000, func(p *retry.Policy) { p.Replay = 1 << 20 }, 200, []string{"reset made"}},
		{"none", 20_000, func(p *retry.Policy) { p.Replay = 0 }, 502, []string{"reset unsafe"}},
		{"a small bound", 2_000, func(p *retry.Policy) { p.Replay = 1000 }, 502, []string{"reset unsafe"}},
	} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, chunked %v", c.name, chunked), func(t *testing.T) {
				s := newStage(t, calm(), HTTP, repeating(c.change), originAddr)
				u := upload{strings.Repeat("x", c.size), chunked, 10}
				f := &fails{after: c.size + 100, times: 1}
				if c.status != 200 {
					f.after = c.size * 19 / 20
				}
				s.failsAt(originAddr, f, func(string) {})
				p := s.dial(u.head("PUT"))
				for _, piece := range u.split() {
					p.Send(piece)
					s.w.RunFor(time.Millisecond)
				}
				if a := s.answered(p, 1, 5*time.Second)[0]; a.status != c.status {
					t.Errorf("%+v", a)
				}
				p.Close()
				s.repeats(c.repeats...)
			})
		}
	}
	t.Run("buffers are short", func(t *testing.T) {
		s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) { p.Replay = 8 << 20 }), originAddr)
		s.engine.LimitBuffers(1 << 20)
		u := upload{strings.Repeat("x", 2<<20), true, 100}
		s.failsAt(originAddr, &fails{after: 2 << 20, times: 1}, func(string) {})
		p := s.dial(u.head("PUT"))
		for _, piece := range u.split() {
			p.Send(piece)
			s.w.RunFor(time.Millisecond)
			if used, limit := s.engine.BufferBytes(); used > limit {
				t.Fatalf("%d bytes of %d", used, limit)
			}
		}
		if a := s.answered(p, 1, 5*time.Second)[0]; a.status != 502 {
			t.Errorf("%+v", a)
		}
		p.Close()
		s.repeats("reset unsafe")
	})
}

// TestSimExpectIsRepeated: a client that waits for 100 is told to go on once, and its body
// reaches the endpoint that answers.
func TestSimExpectIsRepeated(t *testing.T) {
	for _, before := range []bool{true, false} { // the reset comes before 100, or behind it
		s := newStage(t, calm(), HTTP, nil, originAddr)
		n := 0
		var first *sim.Peer
		s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
			if strings.HasSuffix(p.Got(), "\r\n\r\n") && strings.Contains(p.Got(), "100-continue") {
				if n++; n == 1 {
					first = p
				}
				if n > 1 || !before {
					p.Send("HTTP/1.1 100 Continue\r\n\r\n")
				} else {
					p.Reset()
				}
			} else if p == first && strings.HasSuffix(p.Got(), "body") {
				p.Reset()
			}
			if p == first {
				return
			}
			if q, size := parseRequest(p.Got()); size > 0 {
				p.Take()
				p.Send(ok(q.body))
			}
			if p.Over() {
				p.Close()
			}
		})
		p := s.dial("PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
		s.until(5*time.Second, "100", func() bool { return strings.Contains(p.Got(), "100 Continue") })
		p.Send("body")
		s.until(5*time.Second, "the answer", func() bool { return strings.HasSuffix(p.Got(), "\r\n\r\nbody") })
		if n := strings.Count(p.Got(), "100 Continue"); n != 1 {
			t.Errorf("told to go on %d times", n)
		}
		p.Close()
		s.repeats("reset made")
	}
}

// TestSimUploadingClientLeavesBetweenAttempts: nothing is left of it, and it is its doing.
func TestSimUploadingClientLeavesBetweenAttempts(t *testing.T) {
	s := newStage(t, calm(), HTTP, repeating(func(p *retry.Policy) {
		p.Backoff = retry.Backoff{Base: time.Second, Max: time.Second}
	}), originAddr)
	f := &fails{after: 1000, times: 1}
	s.failsAt(originAddr, f, func(string) { t.Error("a request without its end was served") })
	p := s.dial("PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 4000\r\n\r\n" + strings.Repeat("x", 1000))
	s.until(time.Second, "the reset", func() bool { return f.times == 0 })
	p.Reset()
	if r := s.record(1); r.Side != policy.Downstream || r.Reason != policy.BodyAborted && r.Reason != policy.ClientAborted {
		t.Errorf("%v %v, %+v", r.Reason, r.Err, r.Tries)
	}
}

// TestSimErrorBeforeTheBodysEnd: an answer that is repeated while its request is still on
// the way takes the rest to the next endpoint.
func TestSimErrorBeforeTheBodysEnd(t *testing.T) {
	s := newStage(t, calm(), HTTP, func(_ *ListenerConfig, set *upstream.Settings) { onErrors(set.Retries) }, originAddr)
	n := 0
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		if strings.Contains(p.Got(), "\r\n\r\n") && n == 0 {
			n++
			p.Send(failed(503, "early"))
		}
		if q, size := parseRequest(p.Got()); size > 0 {
			p.Take()
			p.Send(ok(q.body))
		}
		if p.Over() {
			p.Close()
		}
	})
	p := s.dial("PUT / HTTP/1.1\r\nHost: api\r\nContent-Length: 8\r\n\r\nbody")
	s.w.RunFor(500 * time.Millisecond)
	p.Send("more")
	if a := s.answered(p, 1, 5*time.Second)[0]; a.status != 200 || a.body != "bodymore" {
		t.Errorf("%+v", a)
	}
	p.Send(get1("/next"))
	if a := s.answered(p, 2, 5*time.Second); a[0].close || a[1].status != 200 {
		t.Errorf("%+v", a)
	}
	p.Close()
	s.repeats("status made")
}
