package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// phase is where a saboteur breaks an exchange off.
type phase int32

const (
	never         phase = iota // the request is answered
	beforeAccept               // there is nobody at the address
	afterAccept                // the connection is reset unread
	afterHead                  // reset when the head has been read
	midBody                    // reset in the midst of the request's body
	afterBody                  // reset when the whole request has been read, and committed
	midAnswer                  // reset in the midst of the answer
	afterAnswer                // the connection ends behind an answer that did not say so
	instead                    // an error is answered, the request being committed
	silence                    // nothing is answered for a while, the request being committed
	refusedStream              // HTTP/2: the stream is refused, unread
	farewell                   // HTTP/2: GOAWAY, the stream being above the last one
	phases
)

func (p phase) String() string {
	return [...]string{"never", "before accept", "after accept", "after the head", "in the body", "after the body", "in the answer",
		"after the answer", "error", "silence", "refused stream", "goodbye"}[p]
}

// saboteur is a service of several addresses that speaks HTTP/1 and HTTP/2 and breaks off
// exchanges in every phase. It commits each request that it has read to its end, by its id,
// as a service does that books an order.
type saboteur struct {
	t         testing.TB
	addresses []string
	commits   []atomic.Int32
	seen      [2][phases]atomic.Int64 // by version

	mu     sync.Mutex
	random *rand.Rand
}

// startSaboteur commits ids below ids.
func startSaboteur(t testing.TB, seed uint64, ids int) *saboteur {
	s := &saboteur{t: t, commits: make([]atomic.Int32, ids), random: rand.New(rand.NewPCG(seed, seed))}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var all sync.WaitGroup
		var mu sync.Mutex
		open := map[net.Conn]bool{}
		all.Go(func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				mu.Lock()
				open[c] = true
				mu.Unlock()
				all.Go(func() {
					s.serve(c)
					c.Close()
					mu.Lock()
					delete(open, c)
					mu.Unlock()
				})
			}
		})
		t.Cleanup(func() {
			l.Close()
			mu.Lock()
			for c := range open {
				c.Close()
			}
			mu.Unlock()
			all.Wait()
		})
		s.addresses = append(s.addresses, l.Addr().String())
	}
	return s
}

// draw chooses what happens to an exchange, or, for a connection, whether it is reset at
// once.
func (s *saboteur) draw(version int, conn bool) phase {
	s.mu.Lock()
	n, which := s.random.IntN(100), phase(s.random.IntN(int(phases)))
	s.mu.Unlock()
	p := never
	switch {
	case conn:
		if n < 15 {
			p = afterAccept
		}
	case n < 50 && which > afterAccept && (version == 1 || which < refusedStream):
		if p = which; p == silence && n > 3 { // it takes long
			p = never
		}
	}
	if !conn || p != never {
		s.seen[version][p].Add(1)
	}
	return p
}

func (s *saboteur) commit(id string) {
	n, err := strconv.Atoi(id)
	if err != nil || n < 0 || n >= len(s.commits) {
		s.t.Errorf("a request of nobody: %q", id)
		return
	}
	s.commits[n].Add(1)
}

// beyondATry is longer than the proxy's time for an attempt.
const beyondATry = 300 * time.Millisecond

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	c.Close()
}

func (s *saboteur) serve(c net.Conn) {
	r := bufio.NewReader(c)
	start, err := r.Peek(3)
	if err != nil {
		return
	}
	if string(start) == "PRI" {
		s.serve2(c, r)
		return
	}
	if s.draw(0, true) != never {
		reset(c)
		return
	}
	for s.exchange1(c, r) {
	}
}

// exchange1 serves one request of HTTP/1 and reports whether another may follow.
func (s *saboteur) exchange1(c net.Conn, r *bufio.Reader) bool {
	q, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	p := s.draw(0, false)
	if p == midBody {
		_, _ = io.CopyN(io.Discard, q.Body, q.ContentLength/2)
	}
	if p == afterHead || p == midBody {
		reset(c)
		return false
	}
	if _, err := io.Copy(io.Discard, q.Body); err != nil {
		return false
	}
	id := q.Header.Get("X-Id")
	s.commit(id)
	answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
	switch p {
	case afterBody:
		reset(c)
		return false
	case midAnswer:
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
		reset(c)
		return false
	case instead:
		answer = "HTTP/1.1 503 Not Now\r\nContent-Length: 2\r\n\r\nno"
	case silence:
		time.Sleep(beyondATry)
		return false
	}
	_, err = io.WriteString(c, answer)
	return err == nil && p != afterAnswer
}

// stream2 is one of an HTTP/2 connection, until its request is whole.
type stream2 struct {
	id    string
	phase phase
}

// serve2 serves a connection of HTTP/2. It writes nothing but what answers a frame, so that
// one goroutine does.
func (s *saboteur) serve2(c net.Conn, r *bufio.Reader) {
	if _, err := r.Discard(len(http2.ClientPreface)); err != nil {
		return
	}
	if s.draw(1, true) != never {
		reset(c)
		return
	}
	w := bufio.NewWriter(c)
	f := http2.NewFramer(w, r)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = f.WriteSettings()
	streams, last, leaving := map[uint32]*stream2{}, uint32(0), false
	for {
		if w.Flush() != nil {
			return
		}
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		id := frame.Header().StreamID
		ended := false
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				_ = f.WriteSettingsAck()
			}
		case *http2.PingFrame:
			if !frame.IsAck() {
				_ = f.WritePing(true, frame.Data)
			}
		case *http2.MetaHeadersFrame:
			if leaving && id > last {
				continue // unread, as the GOAWAY has said
			}
			st := &stream2{phase: s.draw(1, false)}
			for _, h := range frame.Fields {
				if h.Name == "x-id" {
					st.id = h.Value
				}
			}
			streams[id], ended = st, frame.StreamEnded()
			switch st.phase {
			case afterHead:
				_ = f.WriteRSTStream(id, http2.ErrCodeInternal)
				delete(streams, id)
			case refusedStream:
				_ = f.WriteRSTStream(id, http2.ErrCodeRefusedStream)
				delete(streams, id)
			case farewell:
				_ = f.WriteGoAway(last, http2.ErrCodeNo, nil)
				delete(streams, id)
				leaving = true
			default:
				last = id
			}
		case *http2.DataFrame:
			if n := uint32(len(frame.Data())); n > 0 {
				_ = f.WriteWindowUpdate(0, n)
				if streams[id] != nil && !frame.StreamEnded() {
					_ = f.WriteWindowUpdate(id, n)
				}
			}
			if st := streams[id]; st != nil && st.phase == midBody {
				_ = w.Flush()
				reset(c) // and with it, everything that is under way
				return
			}
			ended = frame.StreamEnded()
		case *http2.RSTStreamFrame:
			delete(streams, id)
		}
		if st := streams[id]; st != nil && ended {
			delete(streams, id)
			if !s.answer2(c, w, f, id, st) {
				return
			}
		}
		if leaving && len(streams) == 0 {
			_ = w.Flush()
			return
		}
	}
}

// answer2 answers a whole request, and reports whether the connection goes on.
func (s *saboteur) answer2(c net.Conn, w *bufio.Writer, f *http2.Framer, id uint32, st *stream2) bool {
	s.commit(st.id)
	status := "200"
	switch st.phase {
	case afterBody:
		_ = f.WriteRSTStream(id, http2.ErrCodeInternal)
		return true
	case instead:
		status = "503"
	case silence:
		return true // the proxy resets the stream
	}
	var block bytes.Buffer
	_ = hpack.NewEncoder(&block).WriteField(hpack.HeaderField{Name: ":status", Value: status})
	_ = f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndHeaders: true})
	if st.phase == midAnswer {
		_ = f.WriteData(id, false, []byte("half"))
		_ = w.Flush()
		reset(c)
		return false
	}
	_ = f.WriteData(id, true, []byte(st.id))
	if st.phase == afterAnswer {
		_ = w.Flush()
		return false
	}
	return true
}

// account says what happened, and finds what was committed twice.
func (s *saboteur) account() (committed, twice int) {
	for i := range s.commits {
		switch n := s.commits[i].Load(); {
		case n > 1:
			if twice++; twice < 10 {
				s.t.Errorf("request %d was committed %d times", i, n)
			}
			fallthrough
		case n == 1:
			committed++
		}
	}
	return committed, twice
}

func (s *saboteur) String() string {
	var b strings.Builder
	for version := range s.seen {
		fmt.Fprintf(&b, "over HTTP/%d:", version+1)
		for p := range s.seen[version] {
			if n := s.seen[version][p].Load(); n > 0 {
				fmt.Fprintf(&b, " %s %d,", phase(p), n)
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}
