//go:build linux

package attack

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// recorder is a victim that takes everything, defends itself against nothing and
// counts what comes in.
type recorder struct {
	address string
	mu      sync.Mutex
	frames  map[string]int
	fault   string
	began   int // connections
	ended   int
}

// heard waits until so many connections have come and all that came have been read to
// their end: what a busy machine has not read yet was sent nevertheless.
func (r *recorder) heard(t *testing.T, conns int) {
	t.Helper()
	eventually(t, time.Minute, "the victim has read everything", func() error {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.began < conns || r.ended < r.began {
			return fmt.Errorf("of %d connections %d have come and %d were read", conns, r.began, r.ended)
		}
		return nil
	})
}

func record(t *testing.T) *recorder {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{address: l.Addr().String(), frames: map[string]int{}}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r.mu.Lock()
			r.began++
			r.mu.Unlock()
			all.Go(func() {
				r.connection(c)
				r.mu.Lock()
				r.ended++
				r.mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return r
}

func (r *recorder) connection(c net.Conn) {
	defer c.Close()
	if _, err := c.Write(frame(nil, http2.FrameSettings, 0, 0, nil)); err != nil {
		return
	}
	first := make([]byte, len(preface))
	if _, err := io.ReadFull(c, first); err != nil {
		return
	}
	if string(first) != preface {
		r.mu.Lock()
		r.fault = "not the preface: " + string(first)
		r.mu.Unlock()
	}
	in := reading{from: c}
	for {
		f, err := in.next()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.frames[f.sort()]++
		r.mu.Unlock()
	}
}

// TestAttacksSendWhatTheySay: frames counted at a victim that takes everything.
func TestAttacksSendWhatTheySay(t *testing.T) {
	for _, a := range clients() {
		t.Run(a.name, func(t *testing.T) {
			t.Parallel()
			var r *recorder
			var done *account
			try(t, 400*time.Millisecond, func(ctx context.Context) bool {
				r = record(t)
				done = a.run(ctx, r.address)
				return done.conns > 0 && (a.rate == 0 || a.drain != 0 || done.steps > 0)
			})
			r.heard(t, done.conns)
			r.mu.Lock()
			defer r.mu.Unlock()
			t.Logf("%v; victim: %s", done, counts(r.frames))
			if r.fault != "" {
				t.Error(r.fault)
			}
			for sort, each := range a.sends {
				// A close with something unread cuts off what was not yet taken.
				if got, want := r.frames[sort], done.steps*each/2; got < want {
					t.Errorf("%d frames of %s for %d steps, want %d at least", got, sort, done.steps, want)
				}
			}
		})
	}
}

// try does something for a time, and again for a longer one where that was too short
// for anything to be done, as on a busy machine.
func try(t *testing.T, d time.Duration, do func(ctx context.Context) (done bool)) {
	t.Helper()
	for ; ; d *= 3 {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		done := do(ctx)
		cancel()
		if done {
			return
		}
		if d > 20*time.Second {
			t.Fatalf("nothing was done in %v", d)
		}
	}
}

// TestHeadsAreWellEncoded: what is malformed is malformed on purpose. The server of
// net/http takes the requests of attacks that are bombs by size alone.
func TestHeadsAreWellEncoded(t *testing.T) {
	var mu sync.Mutex
	var fields, largest int
	server := &http.Server{MaxHeaderBytes: 1 << 30, Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		for _, values := range r.Header {
			fields = max(fields, len(values))
			for _, v := range values {
				largest = max(largest, len(v))
			}
		}
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go server.Serve(l)
	defer server.Close()
	for _, c := range []struct {
		name            string
		fields, largest int
	}{{"fields", 4000, 0}, {"long-value", 1, 1 << 20}, {"hpack-bomb", 16001, 4000}, {"cookie-crumbs", 1, 8001*5 - 2}} {
		for _, a := range clients() {
			if a.name != c.name {
				continue
			}
			mu.Lock()
			fields, largest = 0, 0
			mu.Unlock()
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			running.Go(func() { a.run(ctx, l.Addr().String()) })
			eventually(t, 30*time.Second, c.name, func() error {
				mu.Lock()
				defer mu.Unlock()
				if fields < c.fields || largest < c.largest {
					return fmt.Errorf("%d fields of one name, %d bytes in the largest, want %d and %d", fields, largest, c.fields, c.largest)
				}
				return nil
			})
			cancel()
			running.Wait()
		}
	}
}

// TestEndsAreToldApart: a victim that says why, one that resets, one that closes.
func TestEndsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		want string
		do   func(c *net.TCPConn)
	}{
		{calm, func(c *net.TCPConn) {
			_, _ = c.Write(frame(nil, http2.FrameGoAway, 0, 0, goAway(0, http2.ErrCodeEnhanceYourCalm)))
		}},
		{"closed", func(c *net.TCPConn) {}},
		{"reset", func(c *net.TCPConn) { _ = c.SetLinger(0) }},
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				buffer := make([]byte, 4<<10)
				_, _ = conn.Read(buffer)
				c.do(conn.(*net.TCPConn))
				conn.Close()
			}
		}()
		a := attack{conns: 1}
		try(t, 300*time.Millisecond, func(ctx context.Context) bool {
			done := a.run(ctx, l.Addr().String())
			t.Logf("want %q: %v", c.want, done)
			return done.ends[c.want] > 0
		})
		l.Close()
	}
}

// clients are all attacks of clients.
func clients() []attack {
	var all []attack
	for _, group := range [][]attack{resets(), controls(), empties(), heads(), stalls()} {
		all = append(all, group...)
	}
	return all
}

// TestEndpointsSendWhatTheySay: frames counted at a client that asks and takes all.
func TestEndpointsSendWhatTheySay(t *testing.T) {
	e := listen(t)
	for _, u := range upstreams() {
		e.become(&u)
		c, err := net.Dial("tcp", e.address)
		if err != nil {
			t.Fatal(err)
		}
		p := newPeer(c)
		go p.receive(c, nil)
		p.raw(preface)
		p.add(http2.FrameSettings, 0, 0, nil)
		for range 4 {
			p.request("/hostile")
		}
		if err := p.flush(); err != nil && u.sends == "" {
			t.Errorf("%s: %v", u.name, err)
		}
		select { // silence has no other end
		case <-p.done:
		case <-time.After(200 * time.Millisecond):
		}
		if u.sends != "" {
			eventually(t, 30*time.Second, u.name+" sends what it says", func() error {
				p.mu.Lock()
				defer p.mu.Unlock()
				if p.got[u.sends] <= u.rate/200 {
					return fmt.Errorf("%s", counts(p.got))
				}
				return nil
			})
		}
		c.Close()
		<-p.done
		p.mu.Lock()
		t.Logf("%s: %s; %s", u.name, counts(p.got), p.told)
		if u.silent && len(p.got) > 0 {
			t.Errorf("%s speaks", u.name)
		}
		p.mu.Unlock()
		e.become(nil)
	}
}
