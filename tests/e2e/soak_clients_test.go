package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// abuse is clients that do not behave. What becomes of them is their affair; they only
// have to be there.
type abuse struct {
	ctx  context.Context
	stop context.CancelFunc
	all  sync.WaitGroup
	done map[string]*atomic.Int64 // begun, by kind
}

// misbehave starts them, at the listeners for web's workload and at those of the mesh.
func (s *soak) misbehave() {
	s.abuse = &abuse{done: map[string]*atomic.Int64{}}
	s.abuse.ctx, s.abuse.stop = context.WithCancel(context.Background())
	s.t.Cleanup(s.abuse.end)
	local := []string{s.apiAt, s.shopAt}
	both := []string{s.apiAt, s.shopAt, s.callsAt, s.anyAt}
	mesh := []string{s.api.address("inbound"), s.shop.address("inbound"), s.db.address("inbound"), s.calls.address("inbound"), s.mail.address("inbound")}
	stranger := meshClient(newAuthority(s.t, meshDomain).svid("web"))
	kinds := []struct {
		name    string
		clients int
		pause   time.Duration
		at      []string
		one     func(a *abuse, c net.Conn)
	}{
		{"abort", 4, 150 * time.Millisecond, local, (*abuse).breakOff},
		{"slow-read", 6, 0, []string{s.shopAt}, (*abuse).slowReader},
		{"slow-send", 4, 0, []string{s.shopAt}, (*abuse).slowSender},
		{"slow-head", 4, 0, local, (*abuse).slowHead},
		{"half-open", 4, 0, []string{s.shopAt, s.dbAt}, (*abuse).halfOpen},
		{"idle", 8, 0, append(mesh, local...), func(a *abuse, _ net.Conn) { a.wait(time.Duration(5+rand.IntN(15)) * time.Second) }},
		{"h2-rapid-reset", 1, time.Second, both, (*abuse).rapidReset},
		{"h2-changeable", 1, 500 * time.Millisecond, both, (*abuse).changeable},
		{"h2-stalled", 2, 0, both, (*abuse).stalledWindows},
		{"h2-unread", 2, 0, both, (*abuse).unread},
		{"h2-unsent", 1, 0, both, (*abuse).unsent},
		{"h2-abort", 2, 300 * time.Millisecond, both, (*abuse).breakOff2},
		{"h2-garbage", 1, 500 * time.Millisecond, both, (*abuse).garbage2},
		{"garbage", 2, 250 * time.Millisecond, mesh, (*abuse).garbage},
		{"no-cert", 1, 500 * time.Millisecond, mesh, func(_ *abuse, c net.Conn) { handshake(c, meshClient()) }},
		{"bad-cert", 1, 500 * time.Millisecond, mesh, func(_ *abuse, c net.Conn) { handshake(c, stranger) }},
	}
	for _, k := range kinds {
		s.abuse.done[k.name] = new(atomic.Int64)
	}
	for _, k := range kinds {
		for range k.clients {
			s.abuse.all.Go(func() {
				for i := 0; !s.abuse.wait(k.pause); i++ {
					s.abuse.once(k.at[i%len(k.at)], func(a *abuse, c net.Conn) {
						a.done[k.name].Add(1)
						k.one(a, c)
					})
				}
			})
		}
	}
}

// once opens a connection, does with it what is to be done, and leaves it.
func (a *abuse) once(address string, do func(*abuse, net.Conn)) {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		a.wait(100 * time.Millisecond)
		return
	}
	defer c.Close()
	defer context.AfterFunc(a.ctx, func() { c.Close() })()
	do(a, c)
}

// wait reports whether the end has come before the time is over.
func (a *abuse) wait(d time.Duration) (over bool) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-a.ctx.Done():
	case <-timer.C:
	}
	return a.ctx.Err() != nil
}

func (a *abuse) end() {
	a.stop()
	a.all.Wait()
}

// missing are the kinds that nobody has begun yet.
func (a *abuse) missing() (all []string) {
	for kind, n := range a.done {
		if n.Load() == 0 {
			all = append(all, "nobody did "+kind)
		}
	}
	return all
}

func (a *abuse) String() string {
	var b strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(a.done)) {
		fmt.Fprintf(&b, " %s %d", kind, a.done[kind].Load())
	}
	return strings.TrimSpace(b.String())
}

// breakOff resets the connection at some moment of an exchange.
func (a *abuse) breakOff(c net.Conn) {
	requests := []string{
		"",
		"GET / HTTP/1.1\r\nHo",
		"GET /128/0 HTTP/1.1\r\nHost: app\r\n\r\n",
		"GET /1048576/0 HTTP/1.1\r\nHost: app\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\nsome",
		"POST / HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
		"GET /128/0 HTTP/1.1\r\nHost: app\r\n\r\nGET /1048576/1 HTTP/1.1\r\nHost: app\r\n\r\n",
	}
	_, _ = io.WriteString(c, requests[rand.IntN(len(requests))])
	if rand.IntN(2) == 0 {
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(50)) * time.Millisecond))
		_, _ = c.Read(make([]byte, 1+rand.IntN(100_000)))
	}
	_ = c.(*net.TCPConn).SetLinger(0)
}

// slowReader takes a KiB a second of an answer that does not fit into any buffer.
func (a *abuse) slowReader(c net.Conn) {
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	_, _ = io.WriteString(c, "GET /4194304/0 HTTP/1.1\r\nHost: app\r\n\r\n")
	piece := make([]byte, 1<<10)
	for i, lasts := 0, 10+rand.IntN(30); i < lasts && !a.wait(time.Second); i++ {
		_ = c.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.ReadFull(c, piece); err != nil {
			return
		}
	}
}

// slowSender sends a body in small pieces and does not come to its end.
func (a *abuse) slowSender(c net.Conn) {
	_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\n")
	for i, lasts := 0, 10+rand.IntN(20); i < lasts && !a.wait(time.Second); i++ {
		if _, err := c.Write(make([]byte, 100)); err != nil {
			return
		}
	}
}

// slowHead sends a head byte by byte, until it is answered.
func (a *abuse) slowHead(c net.Conn) {
	for _, b := range []byte("GET /128/0 HTTP/1.1\r\nHost: app\r\nX-Slow: " + strings.Repeat("x", 100)) {
		if _, err := c.Write([]byte{b}); err != nil || a.wait(100*time.Millisecond) {
			return
		}
	}
}

// halfOpen says that no more will come, and does not read.
func (a *abuse) halfOpen(c net.Conn) {
	_, _ = io.WriteString(c, "GET /65536/0 HTTP/1.1\r\nHost: app\r\n\r\n")
	_ = c.(*net.TCPConn).CloseWrite()
	a.wait(5 * time.Second)
}

// garbage sends bytes that begin as a TLS record does, or do not.
func (a *abuse) garbage(c net.Conn) {
	junk := make([]byte, 5+rand.IntN(4<<10))
	_, _ = noise(rand.Int64()).Read(junk)
	if rand.IntN(2) == 0 {
		copy(junk, []byte{0x16, 0x03, 0x01, byte(rand.IntN(64)), byte(rand.IntN(256))})
	}
	_, _ = c.Write(junk)
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.Copy(io.Discard, c)
}

// handshake does one, and waits for what the other side says to it.
func handshake(c net.Conn, config *tls.Config) {
	_ = c.SetDeadline(time.Now().Add(patience))
	secure := tls.Client(c, config)
	if secure.Handshake() == nil {
		_, _ = secure.Read(make([]byte, 1))
	}
}

// tunnelTraffic is TCP clients that behave, of a server that sends back what it gets.
type tunnelTraffic struct {
	stop chan struct{}
	once sync.Once
	all  sync.WaitGroup
	done atomic.Int64 // echoes that were right
}

// startTunnels opens some that last 15 s, and short ones one after the other.
func startTunnels(address string, fail func(error)) *tunnelTraffic {
	r := &tunnelTraffic{stop: make(chan struct{})}
	client := func(pause time.Duration, do func(i int) error, leave func()) {
		r.all.Go(func() {
			defer leave()
			for i := 0; ; i++ {
				if err := do(i); err != nil {
					fail(fmt.Errorf("tunnel: %w", err))
				} else {
					r.done.Add(1)
				}
				select {
				case <-r.stop:
					return
				case <-time.After(pause):
				}
			}
		})
	}
	for range 4 {
		client(200*time.Millisecond, func(i int) error { return wholeEcho(address, blob(1<<(7+i%14), i%1000)) }, func() {})
		var conn net.Conn
		client(time.Second, func(i int) (err error) {
			if conn == nil {
				if conn, err = net.DialTimeout("tcp", address, patience); err != nil {
					return err
				}
			}
			err = echoes(conn, blob(4<<10, i%1000))
			if err != nil || i%15 == 14 {
				conn.Close()
				conn = nil
			}
			return err
		}, func() {
			if conn != nil {
				conn.Close()
			}
		})
	}
	return r
}

func (r *tunnelTraffic) end() {
	r.once.Do(func() { close(r.stop) })
	r.all.Wait()
}

// wholeEcho sends all, says that it is all, and wants it back with its end.
func wholeEcho(address string, text []byte) error {
	c, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := echoes(c, text); err != nil {
		return err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		return fmt.Errorf("after the end: %d bytes, %v", n, err)
	}
	return nil
}

func echoes(c net.Conn, text []byte) error {
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(text)
		sent <- err
	}()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c, got)
	if err == nil {
		err = <-sent
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes back: %w", n, len(text), err)
	}
	if !bytes.Equal(got, text) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}
