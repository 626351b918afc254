package e2e

import (
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// intruder is the client's end of an HTTP/2 connection that keeps to no rule but its own.
type intruder struct {
	c       net.Conn
	frames  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32 // stream
	err     error  // of the first write that failed
}

// newIntruder sends the preface with these settings, and acknowledges the other side's
// before it has seen them.
func newIntruder(c net.Conn, settings ...http2.Setting) *intruder {
	h := &intruder{c: c, frames: http2.NewFramer(c, nil), next: 1}
	h.encoder = hpack.NewEncoder(&h.block)
	_ = c.SetWriteDeadline(time.Now().Add(patience))
	_, h.err = io.WriteString(c, http2.ClientPreface)
	h.do(func() error { return h.frames.WriteSettings(settings...) })
	h.do(h.frames.WriteSettingsAck)
	return h
}

func (h *intruder) do(write func() error) {
	if h.err == nil {
		_ = h.c.SetWriteDeadline(time.Now().Add(patience))
		h.err = write()
	}
}

// open sends a request's head and returns the stream.
func (h *intruder) open(method, path string) (id uint32) {
	id, h.next = h.next, h.next+2
	h.block.Reset()
	for _, field := range [][2]string{{":method", method}, {":scheme", "http"}, {":authority", "app"}, {":path", path}} {
		_ = h.encoder.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]}) // into memory
	}
	h.do(func() error {
		return h.frames.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: h.block.Bytes(), EndStream: method == "GET", EndHeaders: true})
	})
	return id
}

func (h *intruder) reset(id uint32) {
	h.do(func() error { return h.frames.WriteRSTStream(id, http2.ErrCodeCancel) })
}

// rapidReset asks and takes it back, until it is told to calm down.
func (a *abuse) rapidReset(c net.Conn) {
	go io.Copy(io.Discard, c) // to the connection's end
	h := newIntruder(c)
	for n := 0; n < 2000 && h.err == nil; n++ {
		h.reset(h.open("GET", "/128/0"))
	}
	a.wait(100 * time.Millisecond)
}

// changeable takes back a few of its requests while they are answered, which is no attack.
func (a *abuse) changeable(c net.Conn) {
	go io.Copy(io.Discard, c)
	h := newIntruder(c)
	for n := 0; n < 20 && !a.wait(time.Duration(rand.IntN(100))*time.Millisecond); n++ {
		id := h.open("GET", "/1048576/0")
		a.wait(time.Duration(rand.IntN(20)) * time.Millisecond)
		h.reset(id)
	}
}

// stalledWindows asks for large answers and lets nothing of them come.
func (a *abuse) stalledWindows(c net.Conn) {
	go io.Copy(io.Discard, c)
	h := newIntruder(c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
	for range 40 {
		h.open("GET", "/1048576/0")
	}
	a.wait(time.Duration(5+rand.IntN(20)) * time.Second)
}

// unread opens all windows and reads nothing.
func (a *abuse) unread(c net.Conn) {
	_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
	h := newIntruder(c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1<<31 - 1})
	h.do(func() error { return h.frames.WriteWindowUpdate(0, 1<<30) })
	for range 20 {
		h.open("GET", "/1048576/0")
	}
	a.wait(time.Duration(5+rand.IntN(20)) * time.Second)
}

// unsent begins uploads and does not go on.
func (a *abuse) unsent(c net.Conn) {
	go io.Copy(io.Discard, c)
	h := newIntruder(c)
	for range 20 {
		id := h.open("POST", "/")
		h.do(func() error { return h.frames.WriteData(id, false, make([]byte, 1000)) })
	}
	a.wait(time.Duration(5+rand.IntN(20)) * time.Second)
}

// breakOff2 resets the connection while streams are at different stages.
func (a *abuse) breakOff2(c net.Conn) {
	h := newIntruder(c)
	for range rand.IntN(20) {
		h.open("GET", []string{"/128/0", "/1048576/0", "/missing"}[rand.IntN(3)])
		if rand.IntN(4) == 0 {
			h.open("POST", "/")
		}
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(50)) * time.Millisecond))
	_, _ = io.ReadFull(c, make([]byte, 1+rand.IntN(100_000)))
	_ = c.(*net.TCPConn).SetLinger(0)
}

// garbage2 sends frames of all kinds with anything in them.
func (a *abuse) garbage2(c net.Conn) {
	go io.Copy(io.Discard, c)
	h := newIntruder(c)
	junk := make([]byte, rand.IntN(1<<10))
	_, _ = noise(rand.Int64()).Read(junk)
	for n := 0; n < 50 && h.err == nil; n++ {
		h.open("GET", "/128/0")
		h.do(func() error {
			return h.frames.WriteRawFrame(http2.FrameType(rand.IntN(12)), http2.Flags(rand.IntN(256)), uint32(rand.IntN(40)), junk[:rand.IntN(1+len(junk))])
		})
	}
}
