package proxy

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/http2"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// overStreams lets a listener, and where endpoints is set its service too, speak HTTP/2.
func overStreams(endpoints bool, change ...func(*ListenerConfig, *upstream.Settings)) func(*ListenerConfig, *upstream.Settings) {
	return func(c *ListenerConfig, s *upstream.Settings) {
		c.HTTP2, s.HTTP2 = streamOptions(), streamOptions()
		if endpoints {
			s.Version = upstream.OnlyHTTP2
		}
		for _, f := range change {
			f(c, s)
		}
	}
}

func streamOptions() *http2.Options {
	l := http1.DefaultLimits()
	return &http2.Options{MaxStreams: 100, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20,
		Head: l.Head, Fields: l.Fields, Trailers: l.Trailers,
		HeadTimeout: 5 * time.Second, IdleTimeout: 30 * time.Second, StallTimeout: 5 * time.Second}
}

// framed is a scripted peer that speaks HTTP/2, with a codec that is not ours.
type framed struct {
	p       *sim.Peer
	in, out bytes.Buffer
	framer  *xhttp2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	all     map[uint32]*framedStream
	order   []*framedStream
	next    uint32
	preface int // bytes of it still to come
	// opens is called with each request, where the peer is an endpoint.
	opens   func(*framedStream)
	goAway  []uint32
	initial int // window of a stream, for what the peer sends
	window  int // of the connection
}

// framedStream is what a peer knows of one stream.
type framedStream struct {
	f     *framed
	id    uint32
	head  map[string]string
	heads int
	data  strings.Builder
	ended bool
	reset xhttp2.ErrCode
	broke bool // by a reset

	window  int  // beside the initial one
	stalled bool // its window is not given back
	owed    uint32
}

func newFramed(p *sim.Peer) *framed {
	f := &framed{p: p, all: map[uint32]*framedStream{}, next: 1, initial: 65535, window: 65535}
	f.framer = xhttp2.NewFramer(&f.out, &f.in)
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.encoder = hpack.NewEncoder(&f.block)
	p.React(func(*sim.Peer) { f.react() })
	return f
}

// dialStreams opens a client's connection.
func (s *stage) dialStreams() *framed {
	f := newFramed(s.dial(xhttp2.ClientPreface))
	f.write(f.framer.WriteSettings())
	return f
}

// streamOrigin serves addr; opens is called with each request.
func (s *stage) streamOrigin(addr string, opens func(*framedStream), settings ...xhttp2.Setting) (all *[]*framed) {
	all = new([]*framed)
	s.w.Host(addr[:strings.IndexByte(addr, ':')]).Serve(addr, func(p *sim.Peer) {
		f := newFramed(p)
		f.opens, f.preface = opens, len(xhttp2.ClientPreface)
		*all = append(*all, f)
		f.write(f.framer.WriteSettings(settings...))
		f.react()
	})
	return all
}

// extended is what an endpoint says that takes WebSockets.
var extended = xhttp2.Setting{ID: xhttp2.SettingEnableConnectProtocol, Val: 1}

// write sends what the framer has written.
func (f *framed) write(err error) {
	if err != nil {
		panic(err)
	}
	f.p.Send(f.out.String())
	f.out.Reset()
}

// react takes the whole frames that have come.
func (f *framed) react() {
	text := f.p.Take()
	n := min(f.preface, len(text))
	f.preface -= n
	f.in.WriteString(text[n:])
	for f.preface == 0 {
		b := f.in.Bytes()
		if len(b) < 9 || len(b) < 9+(int(b[0])<<16|int(b[1])<<8|int(b[2])) {
			break
		}
		frame, err := f.framer.ReadFrame()
		if err != nil {
			panic(fmt.Sprintf("%v, %v", err, f.framer.ErrorDetail()))
		}
		f.take(frame)
	}
	if f.p.Over() {
		f.p.Close()
	}
}

func (f *framed) take(frame xhttp2.Frame) {
	s := f.all[frame.Header().StreamID]
	switch frame := frame.(type) {
	case *xhttp2.SettingsFrame:
		if size, has := frame.Value(xhttp2.SettingInitialWindowSize); has {
			f.initial = int(size)
		}
		if !frame.IsAck() {
			f.write(f.framer.WriteSettingsAck())
		}
	case *xhttp2.WindowUpdateFrame:
		if s != nil {
			s.window += int(frame.Increment)
		} else {
			f.window += int(frame.Increment)
		}
	case *xhttp2.PingFrame:
		if !frame.IsAck() {
			f.write(f.framer.WritePing(true, frame.Data))
		}
	case *xhttp2.GoAwayFrame:
		f.goAway = append(f.goAway, frame.LastStreamID)
	case *xhttp2.MetaHeadersFrame:
		if s == nil {
			s = f.add(frame.StreamID)
		}
		s.heads++
		for _, field := range frame.Fields {
			s.head[field.Name] = field.Value
		}
		s.ended = s.ended || frame.StreamEnded()
		if f.opens != nil && s.heads == 1 {
			f.opens(s)
		}
	case *xhttp2.DataFrame:
		s.data.Write(frame.Data())
		s.ended = s.ended || frame.StreamEnded()
		if n := uint32(len(frame.Data())); n > 0 {
			f.write(f.framer.WriteWindowUpdate(0, n))
			s.owed += n
			s.pay()
		}
	case *xhttp2.RSTStreamFrame:
		s.broke, s.reset = true, frame.ErrCode
	}
}

func (f *framed) add(id uint32) *framedStream {
	s := &framedStream{f: f, id: id, head: map[string]string{}}
	f.all[id] = s
	f.order = append(f.order, s)
	return s
}

// open begins a stream with these fields, in pairs.
func (f *framed) open(end bool, fields ...string) *framedStream {
	s := f.add(f.next)
	f.next += 2
	s.headers(end, fields...)
	return s
}

// webSocket begins a stream that asks for one.
func (f *framed) webSocket(fields ...string) *framedStream {
	return f.open(false, append([]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat",
		":authority", "api", "sec-websocket-version", "13"}, fields...)...)
}

// get begins a stream with a request that needs no more.
func (f *framed) get(path string) *framedStream {
	return f.open(true, ":method", "GET", ":scheme", "http", ":path", path, ":authority", "api")
}

func (s *framedStream) headers(end bool, fields ...string) {
	f := s.f
	f.block.Reset()
	for i := 0; i < len(fields); i += 2 {
		if err := f.encoder.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}); err != nil {
			panic(err)
		}
	}
	f.write(f.framer.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: s.id, BlockFragment: f.block.Bytes(), EndHeaders: true, EndStream: end}))
}

// room is how much the peer may send.
func (s *framedStream) room() int { return max(0, min(s.f.window, s.f.initial+s.window)) }

// pay gives the window back.
func (s *framedStream) pay() {
	if !s.stalled && s.owed > 0 {
		s.f.write(s.f.framer.WriteWindowUpdate(s.id, s.owed))
		s.owed = 0
	}
}

// Stall gives the stream's window back no more, Resume does.
func (s *framedStream) Stall()  { s.stalled = true }
func (s *framedStream) Resume() { s.stalled = false; s.pay() }

// The following make a stream one of the ends that a test of tunnels has; see tunnelEnd.

func (s *framedStream) Send(text string) {
	for len(text) > 0 {
		n := min(len(text), 16<<10)
		s.window -= n
		s.f.window -= n
		s.f.write(s.f.framer.WriteData(s.id, false, []byte(text[:n])))
		text = text[n:]
	}
}

func (s *framedStream) CloseWrite() { s.f.write(s.f.framer.WriteData(s.id, true, nil)) }
func (s *framedStream) Reset()      { s.f.write(s.f.framer.WriteRSTStream(s.id, xhttp2.ErrCodeCancel)) }
func (s *framedStream) Got() string { return s.data.String() }
func (s *framedStream) Ended() bool { return s.ended }

// Err is the reset, or the end of the connection.
func (s *framedStream) Err() error {
	switch {
	case s.broke:
		return xhttp2.StreamError{StreamID: s.id, Code: s.reset}
	case s.f.p.Over():
		return io.ErrUnexpectedEOF
	}
	return nil
}

// Close leaves the connection, and all its streams.
func (s *framedStream) Close() { s.f.p.Close() }
