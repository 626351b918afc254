package proxy

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// What these targets hold of any bytes a client or an endpoint sends to a whole proxy: no
// panic and nothing left behind (stage.end), one record for each request at most, and answers
// that are in proportion to what was sent. How one codec reads its bytes is judged beside it.

// script makes frames of a fuzzer's bytes: two or three for each, so that many of them make
// sense. What is left over follows as it is.
type script struct {
	data  []byte
	out   bytes.Buffer
	block bytes.Buffer
	*http2.Framer
	enc  *hpack.Encoder
	asks int // HEADERS frames that may be requests
}

func newScript(data []byte) *script {
	x := &script{data: data}
	x.Framer = http2.NewFramer(&x.out, nil)
	x.AllowIllegalWrites = true
	x.enc = hpack.NewEncoder(&x.block)
	return x
}

// next is the next byte, 0 where there is none.
func (x *script) next() int {
	if len(x.data) == 0 {
		return 0
	}
	b := x.data[0]
	x.data = x.data[1:]
	return int(b)
}

func (x *script) fields(all ...string) []byte {
	x.block.Reset()
	for i := 0; i < len(all); i += 2 {
		x.enc.WriteField(hpack.HeaderField{Name: all[i], Value: all[i+1]})
	}
	return bytes.Clone(x.block.Bytes())
}

var methods = [...]string{"GET", "POST", "HEAD", "PUT", "CONNECT", "DELETE"}

// head is a head of a request, or of an answer, with a mistake now and then.
func (x *script) head(client bool, b int) []byte {
	more := []string{"content-length", "5"}
	switch b >> 5 {
	case 0:
		more = []string{"te", "trailers", "content-type", "application/grpc", "grpc-timeout", "1S"}
	case 1:
		more = []string{":protocol", "websocket"}
	case 2:
		more = []string{"connection", "close"}
	case 3:
		more = []string{"cookie", "a=1", "cookie", "b=2", "expect", "100-continue"}
	case 4:
		more = nil
	}
	if client {
		return x.fields(append([]string{":method", methods[b%len(methods)], ":scheme", "http", ":authority", "a", ":path", "/x"}, more...)...)
	}
	return x.fields(append([]string{":status", [...]string{"200", "204", "100", "101", "304", "503", "x"}[b%7]}, more...)...)
}

// frames plays the script.
func (x *script) frames(client bool) []byte {
	if client {
		x.out.WriteString(http2.ClientPreface)
	}
	x.WriteSettings()
	for steps := 0; len(x.data) > 0 && steps < 200; steps++ {
		op, b := x.next(), x.next()
		id := uint32(b%8)*2 + 1
		switch op % 12 {
		case 0, 1, 2:
			x.asks++
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: x.head(client, x.next()), EndStream: op&16 != 0, EndHeaders: op&32 == 0})
		case 3, 4:
			x.WriteData(id, op&16 != 0, make([]byte, x.next()*b))
		case 5:
			x.WriteRSTStream(id, http2.ErrCode(x.next()%16))
		case 6:
			x.WriteWindowUpdate(id*uint32(op>>7), uint32(x.next())<<(op%23))
		case 7:
			x.WriteSettings(http2.Setting{ID: http2.SettingID(b % 10), Val: uint32(x.next()) << (op % 20)})
		case 8:
			x.WritePing(op&16 != 0, [8]byte{byte(b)})
		case 9:
			x.WriteGoAway(id, http2.ErrCode(x.next()%16), nil)
		case 10:
			x.WriteContinuation(id, op&16 != 0, x.fields("sum", "1"))
		default:
			n := min(b%32, len(x.data))
			x.WriteRawFrame(http2.FrameType(op/12), http2.Flags(b), id, x.data[:n])
			x.data = x.data[n:]
		}
	}
	x.out.Write(x.data)
	return x.out.Bytes()
}

// pieces sends text, a piece at a time.
func (s *stage) pieces(p *sim.Peer, text []byte, size int) {
	for size > 0 && len(text) > size && !p.Over() {
		p.Send(string(text[:size]))
		text = text[size:]
		s.w.RunFor(time.Microsecond)
	}
	p.Send(string(text))
}

// FuzzListener lets a client send anything to a listener that tells protocols apart: bytes as
// they are, behind a header of the PROXY protocol, or a script of frames.
func FuzzListener(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), uint8(0))
	f.Add([]byte("9000"), uint8('v')) // GOAWAY, and half of a header block behind it
	f.Add([]byte("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), uint8(1))
	for kind := range uint8(16) {
		f.Add([]byte{16, 1, 128, 3, 1, 9, 0, 2, 40, 19, 2, 1, 5, 1, 8, 7, 3, 0, 8, 9, 9, 0, 0}, kind<<2|2)
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		o := calm()
		if kind&4 != 0 {
			o = rough(uint64(kind))
		}
		version := upstream.OnlyHTTP1
		if kind&8 != 0 {
			version = upstream.OnlyHTTP2
		}
		s := newStage(t, o, Auto, withHTTP2(version, func(c *ListenerConfig, _ *upstream.Settings) {
			c.Detect = Detect{Within: 20 * time.Millisecond}
			if kind&3 == 1 {
				c.Proxied = Proxied{From: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}}
			}
		}), originAddr)
		if version == upstream.OnlyHTTP1 {
			s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(ok("hello")) })
		} else {
			s.endpoint2(hello)
		}
		asks := len(data)
		if kind&2 != 0 {
			x := newScript(data)
			data = x.frames(true)
			asks = x.asks + len(x.data)
		}
		p := s.dial("")
		s.pieces(p, data, int(kind)>>4*7)
		s.w.RunFor(time.Second)
		if p.Size() > 4096+100*len(data) {
			t.Errorf("%d bytes are answered with %d", len(data), p.Size())
		}
		p.Close()
		s.w.RunFor(30 * time.Second)
		if n := len(s.records.all); n > asks+1 {
			t.Errorf("%d requests have %d records", asks, n)
		}
	})
}

// endpoint2 makes an endpoint of HTTP/2 that answers by f, which is told of each frame of a
// connection; the preface is frame nil.
func (s *stage) endpoint2(f func(x *script, frame []byte)) {
	scripts := map[*sim.Peer]*script{}
	s.w.Host("10.0.2.1").Serve(originAddr, func(p *sim.Peer) {
		x, n := scripts[p], len(http2.ClientPreface)
		if x == nil && p.Size() >= n {
			x = newScript(nil)
			scripts[p] = x
			p.Return(p.Take()[n:])
			f(x, nil)
		}
		for x != nil && p.Size() >= 9 {
			text := []byte(p.Take())
			n := 9 + int(text[0])<<16 + int(text[1])<<8 + int(text[2])
			if len(text) < n {
				p.Return(string(text))
				break
			}
			p.Return(string(text[n:]))
			f(x, text[:n])
		}
		if x != nil {
			p.Send(x.out.String())
			x.out.Reset()
		}
		if p.Over() {
			p.Close()
		}
	})
}

// hello answers each request with a head alone.
func hello(x *script, frame []byte) {
	switch {
	case frame == nil:
		x.WriteSettings()
	case http2.FrameType(frame[3]) == http2.FrameHeaders:
		x.WriteHeaders(http2.HeadersFrameParam{StreamID: binary.BigEndian.Uint32(frame[5:]), BlockFragment: x.fields(":status", "200"), EndStream: true, EndHeaders: true})
	}
}

// FuzzEndpoint lets an endpoint answer anything, in HTTP/1 or in a script of frames, to three
// requests over HTTP/2. Each client's request has one record, whatever comes of it.
func FuzzEndpoint(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"), uint8(0))
	for kind := range uint8(16) {
		f.Add([]byte{0, 0, 128, 3, 1, 9, 0, 2, 40, 19, 2, 1, 5, 1, 8, 7, 3, 0, 8, 9, 9, 0, 0}, kind<<2|2)
	}
	f.Fuzz(func(t *testing.T, data []byte, kind uint8) {
		o := calm()
		if kind&4 != 0 {
			o = rough(uint64(kind))
		}
		version := upstream.OnlyHTTP1
		if kind&2 != 0 {
			version = upstream.OnlyHTTP2
		}
		s := newStage(t, o, HTTP, withHTTP2(version), originAddr)
		if version == upstream.OnlyHTTP1 {
			s.origin(originAddr, func(p *sim.Peer, _ request) { p.Send(string(data)) })
		} else {
			s.endpoint2(func(x *script, frame []byte) {
				if frame == nil {
					x.data = data
					x.frames(false)
				}
			})
		}
		x := newScript(nil)
		x.out.WriteString(http2.ClientPreface)
		x.WriteSettings()
		for i, b := range []int{128, 129, 1} {
			x.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(2*i + 1), BlockFragment: x.head(true, b), EndStream: i == 0, EndHeaders: true})
			if i > 0 {
				x.WriteData(uint32(2*i+1), true, []byte("hello"))
			}
		}
		p := s.dial(x.out.String())
		s.w.RunFor(time.Minute)
		if n := len(s.records.all); n != 3 {
			t.Errorf("3 requests have %d records", n)
		}
		p.Close()
	})
}
