package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// TestSlowHeadsAreCutOff: clients that send a byte of a head now and then hold a
// connection for as long as request_head allows, and nobody else notices.
func TestSlowHeadsAreCutOff(t *testing.T) {
	const clients, allowed = 200, time.Second
	p := start(t, "proxy", app("{name: in, address: 127.0.0.1:0, service: app, timeouts: {request_head: 1s}}", origin(t, named("one"))))
	address := p.address("in")
	before, idle := p.engineState(), p.vitals()
	others := send(t, load.Options{Addr: address, Conns: 4, WantBody: []byte("one")})
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			status, held, err := dribble(address)
			if err != nil || status != http.StatusRequestTimeout || held < allowed/2 || held > allowed+5*time.Second {
				t.Errorf("answered %d after %v: %v; want 408 after %v", status, held, err, allowed)
			}
		})
	}
	all.Wait()
	r := others.endClean()
	t.Logf("beside %d slow clients: p99 %v", clients, r.P99)
	if n := p.scrape().sum("larboard_requests_total", `reason="request_timeout"`); n != clients {
		t.Errorf("%v requests counted with request_timeout, want %d", n, clients)
	}
	p.waitBaseline(before, idle.descriptors, 64)
}

// dribble sends a head byte by byte, a byte every 50 ms, until it is answered.
func dribble(address string) (status int, held time.Duration, err error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	began := time.Now()
	answered := make(chan struct{})
	var resp *http.Response
	go func() {
		defer close(answered)
		resp, err = http.ReadResponse(bufio.NewReader(c), nil)
	}()
	head := strings.NewReader("GET / HTTP/1.1\r\nHost: app\r\nX-Slow: " + strings.Repeat("x", 1<<10))
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-answered:
			if err != nil {
				return 0, time.Since(began), err
			}
			return resp.StatusCode, time.Since(began), nil
		case <-tick.C:
			b, _ := head.ReadByte()
			_, _ = c.Write([]byte{b}) // refused when the answer is on its way
		}
	}
}

// TestClientsThatResetLeaveNothing: thousands of clients go away without a word at
// every moment of an exchange.
func TestClientsThatResetLeaveNothing(t *testing.T) {
	slow := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			for range 64 {
				if _, err := w.Write(make([]byte, 32<<10)); err != nil {
					return
				}
			}
		case "/wait":
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return
			}
			select {
			case <-r.Context().Done():
			case <-time.After(patience):
			}
		default:
			named("one")(w, r)
		}
	})
	p := start(t, "proxy", app(plainListener, origin(t, slow))+"")
	address := p.address("in")
	others := send(t, load.Options{Addr: address, Conns: 4, WantBody: []byte("one")})
	others.await(20)
	before, idle := p.engineState(), p.vitals()
	clients := 2000
	if long() {
		clients = 20_000
	}
	requests := []string{
		"",                                    // nothing at all
		"GET / HTTP/1.1\r\nHo",                // in the head
		"GET / HTTP/1.1\r\nHost: app\r\n\r\n", // at the answer
		"GET /big HTTP/1.1\r\nHost: app\r\n\r\n",
		"GET /wait HTTP/1.1\r\nHost: app\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 100000\r\n\r\nsome",
		"POST /wait HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
		"GET / HTTP/1.1\r\nHost: app\r\n\r\nGET /big HTTP/1.1\r\nHost: app\r\n\r\nGET /wait HTTP/1.1\r\nHost: app\r\n\r\n",
	}
	work := make(chan int)
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for i := range work {
				if err := breakOff(address, requests[i%len(requests)], i/len(requests)%2 == 0); err != nil {
					t.Errorf("client %d: %v", i, err)
				}
			}
		})
	}
	for i := range clients {
		work <- i
	}
	close(work)
	workers.Wait()
	others.endClean()
	p.waitBaseline(before, idle.descriptors, 64)
	t.Logf("after %d clients: %v, before: %v", clients, p.vitals(), idle)
	if status, body, _ := get(t, "http://"+address+"/"); status != 200 || body != "one" {
		t.Errorf("afterwards: %d %q", status, body)
	}
}

// breakOff sends text and resets the connection, at once or when a byte has come.
func breakOff(address, text string, early bool) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.WriteString(c, text); err != nil {
		return err
	}
	if !early {
		_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(20)) * time.Millisecond))
		_, _ = c.Read(make([]byte, 1))
	}
	return c.(*net.TCPConn).SetLinger(0)
}

// TestStalledReadersHoldNoMemory: downloads that nobody reads, and uploads that no
// endpoint takes, wait in the kernel's buffers and the proxy's few of a fixed size.
func TestStalledReadersHoldNoMemory(t *testing.T) {
	const clients, size, each = 200, 64 << 20, 512 << 10
	release := make(chan struct{})
	endpoint := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/down":
			w.Header().Set("Content-Length", fmt.Sprint(size))
			piece := make([]byte, 64<<10)
			for range size / len(piece) {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "/up":
			<-release
		default:
			named("one")(w, r)
		}
	})
	p := start(t, "proxy", app(plainListener, origin(t, endpoint)))
	var once sync.Once
	t.Cleanup(func() { once.Do(func() { close(release) }) })
	address := p.address("in")
	others := send(t, load.Options{Addr: address, Conns: 4, WantBody: []byte("one")})
	others.await(20)
	before, idle := p.engineState(), p.vitals()
	worst := p.worst()
	var conns []net.Conn
	var stuffing sync.WaitGroup
	defer func() {
		for _, c := range conns {
			c.Close()
		}
		stuffing.Wait()
	}()
	for i := range clients {
		c, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		if i%2 == 0 {
			if _, err := io.WriteString(c, "GET /down HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			continue
		}
		stuffing.Go(func() {
			_, _ = fmt.Fprintf(c, "POST /up HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n", size)
			stuff(t, c)
		})
	}
	stuffing.Wait()
	others.await(200)
	most := worst()
	t.Logf("%d stalled transfers: %v before, at most %v: %.0f KiB each", clients, idle, most, float64(most.memory-idle.memory)/clients/1024)
	if grown := most.memory - idle.memory; grown > clients*each {
		t.Errorf("grown by %.1f MiB for %d stalled transfers", mib(grown), clients)
	}
	for _, c := range conns {
		c.Close()
	}
	once.Do(func() { close(release) })
	others.endClean()
	p.waitBaseline(before, idle.descriptors, 64)
}

// stuff writes until nothing more goes in.
func stuff(t testing.TB, c net.Conn) {
	t.Helper()
	piece := make([]byte, 256<<10)
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := c.Write(piece); err != nil {
			var timeout net.Error
			if !errors.As(err, &timeout) || !timeout.Timeout() {
				t.Errorf("upload: %v", err)
			}
			return
		}
	}
}
