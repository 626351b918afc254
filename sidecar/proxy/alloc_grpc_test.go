//go:build !race && !larboard_debug

package proxy

import (
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// Peers of HTTP/2 that allocate nothing: frames written by hand, fields without compression.

const (
	frameData, frameHeaders, frameSettings = 0, 1, 4
	flagEnd, flagAck, flagEndHeaders       = 1, 1, 4
	preface                                = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

func appendFrame(dst []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	dst = append(dst, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	dst = binary.BigEndian.AppendUint32(dst, stream)
	return append(dst, payload...)
}

// literal is a field that is not indexed, with a name of its own.
func literal(name, value string) string {
	return "\x00" + string(rune(len(name))) + name + string(rune(len(value))) + value
}

// frames reads a connection's frames.
type frames struct {
	conn net.Conn
	buf  []byte
	r, w int
}

// next returns the next frame's kind, flags and stream.
func (f *frames) next() (kind, flags byte, stream uint32, err error) {
	for {
		if have := f.w - f.r; have >= 9 {
			h := f.buf[f.r:f.w]
			if n := 9 + int(h[0])<<16 + int(h[1])<<8 + int(h[2]); have >= n {
				f.r += n
				return h[3], h[4], binary.BigEndian.Uint32(h[5:]), nil
			}
		}
		copy(f.buf, f.buf[f.r:f.w])
		f.r, f.w = 0, f.w-f.r
		n, err := f.conn.Read(f.buf[f.w:])
		f.w += n
		if err != nil {
			return 0, 0, 0, err
		}
	}
}

// callOrigin answers each call with one message and trailers.
func callOrigin(t *testing.T) string {
	t.Helper()
	return serveEach(t, answerCalls)
}

func answerCalls(c net.Conn) {
	defer c.Close()
	head := []byte("\x88" + literal("content-type", "application/grpc"))
	message, trailers := []byte("\x00\x00\x00\x00\x01x"), []byte(literal("grpc-status", "0"))
	if _, err := io.ReadFull(c, make([]byte, len(preface))); err != nil {
		return
	}
	out := appendFrame(make([]byte, 0, 4<<10), frameSettings, 0, 0, nil)
	f := frames{conn: c, buf: make([]byte, 64<<10)}
	for {
		if _, err := c.Write(out); err != nil {
			return
		}
		out = out[:0]
		for len(out) == 0 {
			kind, flags, stream, err := f.next()
			switch {
			case err != nil:
				return
			case kind == frameSettings && flags&flagAck == 0:
				out = appendFrame(out, frameSettings, flagAck, 0, nil)
			case kind == frameData && flags&flagEnd != 0:
				out = appendFrame(out, frameHeaders, flagEndHeaders, stream, head)
				out = appendFrame(out, frameData, 0, stream, message)
				out = appendFrame(out, frameHeaders, flagEndHeaders|flagEnd, stream, trailers)
			}
		}
	}
}

// TestCallAllocatesNothing drives gRPC calls through the proxy over HTTP/2 on both sides.
func TestCallAllocatesNothing(t *testing.T) {
	o := http2.Options{MaxStreams: 128, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, Head: 64 << 10, Fields: 100, Trailers: 8 << 10,
		HeadTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, StallTimeout: 5 * time.Second}
	r := newRig(t, HTTP, func(c *ListenerConfig, s *upstream.Settings) { c.HTTP2, s.HTTP2 = &o, &o }, callOrigin(t))
	meter := metrics.New(2)
	r.proxy.observers, r.proxy.meter = []observability.Observer{meter}, meter
	conn, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	head := []byte("\x83\x86" + "\x04\x05/s/Do" + "\x01\x03api" + literal("content-type", "application/grpc") +
		literal("te", "trailers") + literal("grpc-timeout", "1S"))
	message := []byte("\x00\x00\x00\x00\x01x")
	out := appendFrame(append(make([]byte, 0, 4<<10), preface...), frameSettings, 0, 0, nil)
	f := frames{conn: conn, buf: make([]byte, 64<<10)}
	stream := uint32(1)
	calls := func(n int) {
		for range n {
			out = appendFrame(out, frameHeaders, flagEndHeaders, stream, head)
			out = appendFrame(out, frameData, flagEnd, stream, message)
			if _, err := conn.Write(out); err != nil {
				t.Fatal(err)
			}
			out = out[:0]
			for done := false; !done; {
				kind, flags, of, err := f.next()
				if err != nil {
					t.Fatal(err)
				}
				if kind == frameSettings && flags&flagAck == 0 {
					out = appendFrame(out, frameSettings, flagAck, 0, nil)
				}
				done = kind == frameHeaders && flags&flagEnd != 0 && of == stream
			}
			stream += 2
		}
	}
	costsNothing(t, 500, 5000, calls)
	if sum := meter.Totals("api"); sum.Requests < 5500 || sum.Failures != 0 {
		t.Errorf("%d calls, %d failed", sum.Requests, sum.Failures)
	}
}
