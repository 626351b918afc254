package proxy

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/upstream"
	"github.com/larboard-proxy/larboard/tests/pki"
)

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// settled waits until each loop has done what was posted to it.
func (r *rig) settled() {
	for _, l := range r.engine.Loops() {
		done := make(chan struct{})
		l.Post(func() { close(done) })
		<-done
	}
}

// A connection that the kernel has accepted for us and the loop has not yet is one
// that a drain has to wait for.
func TestDrainCountsWhatWaitsToBeAccepted(t *testing.T) {
	r := newRig(t, HTTP, nil, origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }))
	release := make(chan struct{})
	for _, l := range r.engine.Loops() {
		l.Post(func() { <-release })
	}
	var conns []net.Conn
	for range 40 {
		conn, err := net.Dial("tcp", r.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		conns = append(conns, conn)
	}
	r.proxy.Drain(true)
	if r.proxy.Active(true) == 0 {
		t.Error("the drain passes for over while connections wait")
	}
	close(release)
	for i, conn := range conns {
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != 200 || !resp.Close {
			t.Fatalf("connection %d: %v %v", i, resp, err)
		}
	}
	eventually(t, "the drain to end", func() bool { return r.proxy.Active(true) == 0 })
}

// Where the head of an answer has left before the drain began, it could not announce
// the end of its connection: that comes after the drain's idle time.
func TestDrainEndsConnectionsThatWereAnswering(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	r := newRig(t, HTTP, nil, origin(t, func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "one ")
		http.NewResponseController(w).Flush()
		close(begun)
		<-goOn
		io.WriteString(w, "two")
	}))
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.Close {
		t.Fatal(resp, err)
	}
	<-begun
	r.proxy.Drain(true)
	r.settled()
	close(goOn)
	if b, err := io.ReadAll(resp.Body); err != nil || string(b) != "one two" {
		t.Fatalf("%q %v", b, err)
	}
	eventually(t, "the connection to end", func() bool { return r.proxy.Active(true) == 0 })
}

// halting sends its first write in two halves, the second when told to.
type halting struct {
	net.Conn
	half, goOn chan struct{}
	begun      bool
}

func (h *halting) Write(p []byte) (int, error) {
	if h.begun {
		return h.Conn.Write(p)
	}
	h.begun = true
	n, err := h.Conn.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	close(h.half)
	<-h.goOn
	m, err := h.Conn.Write(p[len(p)/2:])
	return n + m, err
}

// A drain that begins in the middle of a handshake leaves it to its task.
func TestDrainInAHandshake(t *testing.T) {
	asked, goOn, count := make(chan struct{}, 8), make(chan struct{}), &atomic.Int32{}
	config := selfSigned(t)
	r := newRig(t, HTTP, func(c *ListenerConfig, _ *upstream.Settings) {
		c.TLS = func() (TLSMaterial, error) { return TLSMaterial{Config: config}, nil }
	}, origin(t, func(w http.ResponseWriter, _ *http.Request) {
		count.Add(1)
		asked <- struct{}{}
		<-goOn
		io.WriteString(w, "ok")
	}))
	raw, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	h := &halting{Conn: raw, half: make(chan struct{}), goOn: make(chan struct{})}
	conn := tls.Client(h, &tls.Config{InsecureSkipVerify: true})
	shaken := make(chan error, 1)
	go func() { shaken <- conn.Handshake() }()
	<-h.half
	eventually(t, "the handshake's task", func() bool { return r.engine.Stats().Total().Tasks == 1 })
	r.proxy.Drain(true)
	r.settled()
	close(h.goOn)
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}
	io.WriteString(conn, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	<-asked
	io.WriteString(conn, "GET /2 HTTP/1.1\r\nHost: x\r\n\r\n") // while the first is under way
	r.settled()
	r.settled()
	close(goOn)
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != 200 || !resp.Close || count.Load() != 1 {
		t.Errorf("%v %v, %d requests reached the endpoint", resp, err, count.Load())
	}
	eventually(t, "the connection to end", func() bool { return r.proxy.Active(true) == 0 })
	if n := r.engine.Stats().Total().Panics; n != 0 {
		t.Errorf("%d panics", n)
	}
}

func selfSigned(t *testing.T) *tls.Config {
	return &tls.Config{Certificates: []tls.Certificate{pki.SelfSigned(t)}}
}
