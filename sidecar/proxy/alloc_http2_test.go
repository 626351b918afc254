//go:build !race && !larboard_debug

package proxy

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"testing"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/observability"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestStreamsAllocateNothing is TestPlainPathAllocatesNothing for HTTP/2, from stream to
// HTTP/1 and from stream to stream.
func TestStreamsAllocateNothing(t *testing.T) {
	answer := "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 128\r\n\r\n" + string(bytes.Repeat([]byte("x"), 128))
	for _, c := range []struct {
		name    string
		version upstream.Version
	}{{"to HTTP/1", upstream.OnlyHTTP1}, {"to HTTP/2", upstream.OnlyHTTP2}} {
		t.Run(c.name, func(t *testing.T) {
			addr := cannedOrigin(t, []byte(answer))
			if c.version == upstream.OnlyHTTP2 {
				addr = countingRig(t, upstream.OnlyHTTP1, addr).addr
			}
			r := countingRig(t, c.version, addr)
			s := newFrameClient(t, r.addr)
			costsNothing(t, 200, 1000, s.exchange)
		})
	}
}

// countingRig counts like the real thing, and records nothing.
func countingRig(t *testing.T, version upstream.Version, endpoint string) *rig {
	r := newRigOn(t, engine.Options{Loops: 1, Log: slog.New(slog.NewTextHandler(testWriter{t}, nil))}, HTTP, withHTTP2(version), endpoint)
	meter := metrics.New(2)
	r.proxy.observers, r.proxy.meter = []observability.Observer{meter}, meter
	return r
}

// frameClient sends the same request again and again, and allocates nothing for it.
type frameClient struct {
	t    *testing.T
	conn net.Conn
	out  []byte // HEADERS and DATA
	in   []byte
	r, w int
	id   uint32
}

const frameHead = 9

func newFrameClient(t *testing.T, addr string) *frameClient {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	var hello bytes.Buffer
	hello.WriteString(xhttp2.ClientPreface)
	f := xhttp2.NewFramer(&hello, nil)
	f.WriteSettings(xhttp2.Setting{ID: xhttp2.SettingInitialWindowSize, Val: 1 << 30})
	f.WriteSettingsAck() // of what is about to come
	f.WriteWindowUpdate(0, 1<<30)
	if _, err := conn.Write(hello.Bytes()); err != nil {
		t.Fatal(err)
	}
	var block, out bytes.Buffer
	e := hpack.NewEncoder(&block)
	e.SetMaxDynamicTableSize(0) // each block says so again, and then the same
	for _, h := range [][2]string{{":method", "POST"}, {":scheme", "http"}, {":path", "/a?b=c"}, {":authority", "api.example"}, {"user-agent", "test"}, {"content-length", "5"}} {
		e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]})
	}
	f = xhttp2.NewFramer(&out, nil)
	f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes(), EndHeaders: true})
	f.WriteData(1, true, []byte("hello"))
	return &frameClient{t: t, conn: conn, out: out.Bytes(), in: make([]byte, 64<<10), id: 1}
}

// exchange sends n requests, one after the other.
func (c *frameClient) exchange(n int) {
	for range n {
		size := int(c.out[1])<<8 | int(c.out[2])
		binary.BigEndian.PutUint32(c.out[5:], c.id)
		binary.BigEndian.PutUint32(c.out[frameHead+size+5:], c.id)
		if _, err := c.conn.Write(c.out); err != nil {
			c.t.Fatal(err)
		}
		for !c.ended(c.id) {
		}
		c.id += 2
	}
}

// ended takes one frame and reports whether it is the end of stream id.
func (c *frameClient) ended(id uint32) bool {
	c.need(frameHead)
	h := c.in[c.r : c.r+frameHead]
	size := int(h[0])<<16 | int(h[1])<<8 | int(h[2])
	kind, flags, stream := h[3], h[4], binary.BigEndian.Uint32(h[5:])
	c.need(frameHead + size)
	c.r += frameHead + size
	if kind == byte(xhttp2.FrameGoAway) || kind == byte(xhttp2.FrameRSTStream) {
		c.t.Fatalf("frame %d: %q", kind, c.in[c.r-size:c.r])
	}
	return stream == id && kind <= byte(xhttp2.FrameHeaders) && flags&byte(xhttp2.FlagDataEndStream) != 0
}

func (c *frameClient) need(n int) {
	if c.w-c.r < n && c.r > 0 {
		c.w = copy(c.in, c.in[c.r:c.w])
		c.r = 0
	}
	for c.w-c.r < n {
		m, err := c.conn.Read(c.in[c.w:])
		if err != nil && err != io.EOF || m == 0 {
			c.t.Fatal(err)
		}
		c.w += m
	}
}
