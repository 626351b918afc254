package proxy

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// large is a body worth splicing, and no multiple of any buffer.
func large() []byte {
	b := make([]byte, 9<<20+12345)
	r := rand.NewChaCha8([32]byte{1})
	r.Read(b)
	return b
}

func (r *rig) spliced() uint64 { return r.engine.Stats().Total().Spliced }

// awaitSpliced waits for the loops to publish that at least n bytes were spliced.
func (r *rig) awaitSpliced(n uint64) {
	r.t.Helper()
	for end := time.Now().Add(10 * time.Second); r.spliced() < n; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("%d bytes were spliced, want at least %d", r.spliced(), n)
		}
	}
}

// Large bodies go through the kernel in both directions, whole, and the connections on both
// sides carry the next exchange.
func TestLargeBodiesAreSpliced(t *testing.T) {
	body := large()
	var conns []string
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		conns = append(conns, req.RemoteAddr)
		sum := sha256.New()
		n, err := io.Copy(sum, req.Body)
		w.Header().Set("X-Got", fmt.Sprintf("%d %x %v", n, sum.Sum(nil), err))
		if req.URL.Path == "/down" {
			w.Header().Set("Content-Length", strconv.Itoa(len(body)))
			w.Write(body)
		}
	}))
	defer app.Close()
	r := newRig(t, HTTP, nil, app.Listener.Addr().String())
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	br := bufio.NewReader(c)
	ask := func(method, path string, send []byte) *http.Response {
		t.Helper()
		go func() {
			fmt.Fprintf(c, "%s %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n", method, path, len(send))
			c.Write(send)
		}()
		res, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		want := []byte(nil)
		if path == "/down" {
			want = body
		}
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%s %s: %d bytes, %v", method, path, len(got), err)
		}
		if want := fmt.Sprintf("%d %x <nil>", len(send), sha256.Sum256(send)); res.Header.Get("X-Got") != want {
			t.Errorf("%s %s: the endpoint got %s, want %s", method, path, res.Header.Get("X-Got"), want)
		}
		return res
	}
	ask("GET", "/small", nil)
	if n := r.spliced(); n != 0 {
		t.Errorf("%d bytes of a small exchange were spliced", n)
	}
	ask("GET", "/down", nil)
	ask("POST", "/small", body)
	ask("POST", "/down", body)
	ask("GET", "/small", nil)
	r.awaitSpliced(uint64(3 * len(body) / 2))
	for _, a := range conns[1:] {
		if a != conns[0] {
			t.Errorf("the endpoint saw connections %v", conns)
			break
		}
	}
	last := r.records.last(t, 4)
	if last.Reason != policy.None || last.BytesIn < int64(len(body)) || last.BytesOut < int64(len(body)) {
		t.Errorf("recorded: %v, %d in, %d out", last.Reason, last.BytesIn, last.BytesOut)
	}
}

// What the framing does not let past the codec is copied: chunks, and bodies of which little
// is left.
func TestOtherBodiesAreCopied(t *testing.T) {
	body := large()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/short" {
			w.Header().Set("Content-Length", strconv.Itoa(spliceFrom-1))
			w.Write(body[:spliceFrom-1])
			return
		}
		w.Write(body)
	}))
	defer app.Close()
	r := newRig(t, HTTP, nil, app.Listener.Addr().String())
	for path, want := range map[string]int{"/chunked": len(body), "/short": spliceFrom - 1} {
		res, err := http.Get("http://" + r.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || !bytes.Equal(got, body[:want]) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	r.records.last(t, 2)
	if n := r.spliced(); n != 0 {
		t.Errorf("%d bytes were spliced", n)
	}
}

// An answer that ends too early is not taken for whole, and is recorded as what it is.
func TestASplicedAnswerThatBreaksOff(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		http.ReadRequest(bufio.NewReader(c))
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", 8<<20)
		c.Write(make([]byte, 4<<20))
		c.Close()
	}()
	r := newRig(t, HTTP, nil, ln.Addr().String())
	res, err := http.Get("http://" + r.addr + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if n, err := io.Copy(io.Discard, res.Body); err == nil || n > 4<<20 {
		t.Errorf("%d bytes, %v", n, err)
	}
	if got := r.records.last(t, 1); got.Reason != policy.UpstreamTruncated || got.Side != policy.Upstream {
		t.Errorf("recorded as %v by %v", got.Reason, got.Side)
	}
	r.awaitSpliced(1)
}

// A client that leaves in the middle of a spliced upload or download is told apart from an
// endpoint that fails.
func TestAClientThatLeavesWhileSplicing(t *testing.T) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(1<<30))
		for b := make([]byte, 1<<20); ; {
			if _, err := w.Write(b); err != nil {
				return
			}
		}
	}))
	defer app.Close()
	r := newRig(t, HTTP, nil, app.Listener.Addr().String())
	for i, request := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"} {
		c, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(c, request)
		want := policy.ClientAborted
		if i == 0 {
			io.CopyN(io.Discard, c, 4<<20)
		} else {
			c.Write(make([]byte, 4<<20))
			want = policy.BodyAborted
		}
		r.awaitSpliced(uint64(1 + i))
		c.(*net.TCPConn).SetLinger(0)
		c.Close()
		if got := r.records.last(t, i+1); got.Side != policy.Downstream || got.Reason != want && got.Reason != policy.ClientAborted {
			t.Errorf("%q: recorded as %v by %v", request[:4], got.Reason, got.Side)
		}
	}
}

// Tunnels are copied at first and spliced then; both directions, their half-closes and their
// byte counts are what they were.
func TestTunnelsAreSpliced(t *testing.T) {
	body := large()
	for _, name := range []string{"tcp", "connect"} {
		t.Run(name, func(t *testing.T) {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			got := make(chan []byte, 1)
			go func() {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				br := bufio.NewReader(c)
				if name == "connect" {
					http.ReadRequest(br)
					io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
				}
				all, _ := io.ReadAll(br)
				got <- all
				c.Write(body) // after the client's half-close
				c.Close()
			}()
			protocol, change := TCP, (func(*ListenerConfig, *upstream.Settings))(nil)
			if name == "connect" {
				protocol, change = HTTP, func(c *ListenerConfig, _ *upstream.Settings) { c.HTTP.AllowConnect = true }
			}
			r := newRig(t, protocol, change, ln.Addr().String())
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			br := bufio.NewReader(c)
			if name == "connect" {
				io.WriteString(c, "CONNECT db:1 HTTP/1.1\r\nHost: db:1\r\n\r\n")
				line, _ := br.ReadString('\n')
				if rest, _ := br.ReadString('\n'); !strings.Contains(line, " 200 ") || rest != "\r\n" {
					t.Fatalf("%q %q", line, rest)
				}
			}
			c.Write(body)
			c.(*net.TCPConn).CloseWrite()
			if up := <-got; !bytes.Equal(up, body) {
				t.Errorf("the endpoint got %d bytes", len(up))
			}
			down, err := io.ReadAll(br)
			if err != nil || !bytes.Equal(down, body) {
				t.Errorf("the client got %d bytes, %v", len(down), err)
			}
			r.awaitSpliced(uint64(len(body)))
			record := r.records.last(t, 1)
			if record.Reason != policy.None || record.BytesIn < int64(len(body)) || record.BytesOut < int64(len(body)) {
				t.Errorf("recorded: %v, %d in, %d out", record.Reason, record.BytesIn, record.BytesOut)
			}
		})
	}
}

// A reset by either end reaches the other end and the record.
func TestAResetInASplicedTunnel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			io.CopyN(io.Discard, c, 4<<20)
			c.(*net.TCPConn).SetLinger(0)
			c.Close()
		}
	}()
	r := newRig(t, TCP, nil, ln.Addr().String())
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(30 * time.Second))
	for b := make([]byte, 1<<20); err == nil; {
		_, err = c.Write(b)
	}
	if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the client saw %v", err)
	}
	if got := r.records.last(t, 1); got.Reason != policy.UpstreamReset || got.Side != policy.Upstream {
		t.Errorf("recorded as %v by %v", got.Reason, got.Side)
	}
}

// A spliced tunnel to an endpoint that has to prove an identity from now on is cut, with the
// reason: once while bytes flow, once while it is silent.
func TestASplicedTunnelIsCut(t *testing.T) {
	for _, name := range []string{"silent", "flowing"} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, TCP, nil, echoOrigin(t))
			c, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(30 * time.Second))
			body := large()
			go c.Write(body)
			if _, err := io.ReadFull(c, make([]byte, len(body))); err != nil {
				t.Fatal(err)
			}
			r.awaitSpliced(1)
			if name == "flowing" {
				go func() {
					for _, err := c.Write(body); err == nil; _, err = c.Write(body) {
					}
				}()
			}
			next := *r.service.Settings()
			next.Mesh = &upstream.Mesh{Identity: newMesh(t).current, Path: "/api"}
			r.service.Configure(&next)
			r.proxy.Reauthorize()
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("the tunnel lives on")
			}
			if got := r.records.last(t, 1); got.Reason != policy.UpstreamTLSIdentity || got.Side != policy.Upstream {
				t.Errorf("recorded as %v by %v", got.Reason, got.Side)
			}
		})
	}
}
