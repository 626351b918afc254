package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

// Many clients that do not read cannot push the buffers over their limit. New requests are
// told so meanwhile, those under way come to their end when their clients read, and then
// everything is as before.
func TestSlowReadersDoNotTakeAllMemory(t *testing.T) {
	const limit, clients, size = 4 << 20, 400, 24 << 20
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/small" {
			io.WriteString(w, "ok")
			return
		}
		for b := make([]byte, 64<<10); ; { // chunked, hence copied; without end
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	defer app.Close()
	r := newRig(t, HTTP, nil, app.Listener.Addr().String())
	r.engine.LimitBuffers(limit)

	small := func() (status int, reason string) {
		res, err := http.Get("http://" + r.addr + "/small")
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode, res.Header.Get(ReasonHeader)
	}
	if status, _ := small(); status != 200 {
		t.Fatalf("before: %d", status)
	}
	var conns []net.Conn
	var most int64
	refused := false
	for end := time.Now().Add(20 * time.Second); !refused && time.Now().Before(end); {
		if len(conns) < clients {
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
			fmt.Fprintf(c, "GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
		} else {
			time.Sleep(10 * time.Millisecond)
		}
		used, _ := r.engine.BufferBytes()
		most = max(most, used)
		if len(conns)%20 == 0 {
			status, reason := small()
			refused = status == 503 && reason == policy.BuffersShort.String()
		}
	}
	if !refused {
		t.Errorf("%d slow readers, %d bytes of buffers, and a new request is not refused", len(conns), most)
	}
	if most > limit+1<<20 {
		t.Errorf("%d bytes of buffers, the limit is %d", most, limit)
	}
	// What is under way goes on for a client that begins to read.
	conns[0].SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.CopyN(io.Discard, conns[0], size); err != nil {
		t.Errorf("a client that reads again: %v", err)
	}
	for _, c := range conns {
		c.Close()
	}
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if status, _ := small(); status == 200 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("refused for ever")
		}
	}
}

// A tunnel and a request that wait for their endpoint hold no buffers but the request's head.
func TestWhatWaitsHoldsNoBuffers(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	began := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			began <- c
		}
	}()
	for _, c := range []struct {
		protocol Protocol
		buffers  int
	}{{TCP, 0}, {HTTP, 1}} {
		t.Run(c.protocol.String(), func(t *testing.T) {
			r := newRig(t, c.protocol, nil, ln.Addr().String())
			client, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			io.WriteString(client, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			endpoint := <-began
			defer endpoint.Close()
			if line, err := bufio.NewReader(endpoint).ReadString('\n'); !strings.HasPrefix(line, "GET / ") {
				t.Fatalf("%q, %v", line, err)
			}
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				n := r.engine.Stats().Total().Buffers
				if n == c.buffers {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("%d buffers in use, want %d", n, c.buffers)
				}
			}
		})
	}
}
