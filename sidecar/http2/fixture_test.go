package http2

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// A connection of ours on the simulated network, and a peer that speaks frames written and read
// by golang.org/x/net. Time is virtual, so that every deadline and budget is exact.

var serverAddr = netip.MustParseAddrPort("10.0.0.1:80")

func testOptions() *Options {
	return &Options{MaxStreams: 128, StreamWindow: 64 << 10, ConnectionWindow: 1 << 20, Head: 64 << 10, Fields: 100,
		Trailers: 8 << 10, HeadTimeout: 10 * time.Second, IdleTimeout: time.Minute, StallTimeout: 30 * time.Second}
}

func newWorld(t testing.TB, o sim.Options) (*sim.World, *engine.Engine) {
	t.Helper()
	w := sim.New(o)
	e, err := w.Host("10.0.0.1").Engine(engine.Options{Loops: 1, Kind: testKind(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return w, e
}

// told is what a Handler or an Owner was told.
type told struct {
	loop      *engine.Loop
	serve     func(*engine.Task, *Stream)
	opened    int
	malformed []error
	abuse     []policy.Reason
	what      error // of the last one
	rooms     int
	closed    int
	err       error
}

func (x *told) Open(s *Stream) {
	x.opened++
	x.loop.Go("serve", func(task *engine.Task) {
		defer s.Close()
		x.serve(task, s)
	})
}

func (x *told) Malformed(_ *Stream, _ int, err error) { x.malformed = append(x.malformed, err) }
func (x *told) Abuse(r policy.Reason, what error)     { x.abuse, x.what = append(x.abuse, r), what }
func (x *told) Room()                                 { x.rooms++ }
func (x *told) Closed(err error)                      { x.closed++; x.err = err }

// wire is the peer's end: frames by golang.org/x/net over a sim.Peer.
type wire struct {
	t    testing.TB
	w    *sim.World
	peer *sim.Peer
	*http2.Framer
	out  bytes.Buffer
	in   bytes.Buffer
	text bytes.Buffer
	enc  *xhpack.Encoder
	dec  *xhpack.Decoder
	read *http2.Framer
}

func newWire(t testing.TB, w *sim.World, p *sim.Peer) *wire {
	x := &wire{t: t, w: w, peer: p}
	x.Framer = http2.NewFramer(&x.out, nil)
	x.Framer.AllowIllegalWrites = true
	x.read = http2.NewFramer(nil, &x.in)
	x.read.AllowIllegalReads = true
	x.enc = xhpack.NewEncoder(&x.text)
	x.dec = xhpack.NewDecoder(4096, nil)
	return x
}

// block compresses fields, given as name and value in turn.
func (x *wire) block(fields ...string) []byte {
	x.text.Reset()
	for i := 0; i < len(fields); i += 2 {
		x.enc.WriteField(xhpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(x.text.Bytes())
}

// headers writes a HEADERS frame.
func (x *wire) headers(id uint32, end bool, fields ...string) {
	x.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: x.block(fields...), EndStream: end, EndHeaders: true})
}

func (x *wire) get(id uint32, path string, more ...string) {
	x.headers(id, true, append([]string{":method", "GET", ":scheme", "http", ":authority", "a.example", ":path", path}, more...)...)
}

func (x *wire) post(id uint32, path string, more ...string) {
	x.headers(id, false, append([]string{":method", "POST", ":scheme", "http", ":authority", "a.example", ":path", path}, more...)...)
}

// send gives what was written to the network, and lets d pass.
func (x *wire) send(d time.Duration) {
	x.peer.Send(x.out.String())
	x.out.Reset()
	x.w.RunFor(d)
}

// frames sends what was written and returns what came, one line for each frame.
func (x *wire) frames(d time.Duration) string {
	x.send(d)
	x.in.WriteString(x.peer.Take())
	var lines []string
	for x.in.Len() > 0 {
		f, err := x.read.ReadFrame()
		if err != nil {
			x.t.Fatalf("frame: %v", err)
		}
		lines = append(lines, x.describe(f))
	}
	if x.peer.Over() {
		lines = append(lines, "end")
	}
	return strings.Join(lines, "\n")
}

func (x *wire) describe(f http2.Frame) string {
	h := f.Header()
	end := ""
	if h.Flags.Has(http2.FlagDataEndStream) {
		end = " end"
	}
	switch f := f.(type) {
	case *http2.DataFrame:
		return fmt.Sprintf("DATA %d %d%s", h.StreamID, len(f.Data()), end)
	case *http2.HeadersFrame:
		return fmt.Sprintf("HEADERS %d%s%s", h.StreamID, x.fields(f.HeaderBlockFragment()), end)
	case *http2.SettingsFrame:
		if f.IsAck() {
			return "SETTINGS ack"
		}
		return "SETTINGS"
	case *http2.WindowUpdateFrame:
		return fmt.Sprintf("WINDOW %d %d", h.StreamID, f.Increment)
	case *http2.RSTStreamFrame:
		return fmt.Sprintf("RST %d %v", h.StreamID, f.ErrCode)
	case *http2.GoAwayFrame:
		return fmt.Sprintf("GOAWAY %d %v", f.LastStreamID, f.ErrCode)
	case *http2.PingFrame:
		if f.IsAck() {
			return "PING ack " + string(f.Data[:])
		}
		return "PING " + string(f.Data[:])
	}
	return h.Type.String()
}

func (x *wire) fields(block []byte) (text string) {
	x.dec.SetEmitFunc(func(f xhpack.HeaderField) { text += " " + f.Name + "=" + f.Value })
	if _, err := x.dec.Write(block); err != nil {
		x.t.Fatalf("block: %v", err)
	}
	return text
}

// served is a Server and its client.
type served struct {
	*wire
	told
	server *Server
}

// newServed serves with f; the exchange of SETTINGS is done and taken.
func newServed(t testing.TB, o *Options, f func(*engine.Task, *Stream)) *served {
	t.Helper()
	x := newRawServed(t, o, sim.Options{}, f)
	x.out.WriteString(preface)
	x.WriteSettings()
	x.WriteSettingsAck()
	x.frames(time.Millisecond)
	return x
}

func newRawServed(t testing.TB, o *Options, network sim.Options, f func(*engine.Task, *Stream)) *served {
	t.Helper()
	w, e := newWorld(t, network)
	x := &served{}
	x.serve = f
	if _, err := e.Listen("tcp", serverAddr.String(), func(l *engine.Loop, c *engine.Conn) {
		x.loop = l
		x.server = Serve(c, o, x, nil, nil)
	}); err != nil {
		t.Fatal(err)
	}
	x.wire = newWire(t, w, w.Host("10.0.0.2").Dial(serverAddr))
	w.RunFor(time.Millisecond)
	return x
}

// expect compares frames.
func (x *wire) expect(d time.Duration, want ...string) {
	x.t.Helper()
	if got := x.frames(d); got != strings.Join(want, "\n") {
		x.t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

// on runs f on the loop.
func (x *served) on(f func()) {
	x.loop.Post(f)
	x.w.RunFor(0)
}

// readAll reads a body.
func readAll(s message.Stream) (body []byte, err error) {
	for {
		p, end, err := s.ReadBody()
		body = append(body, p...)
		if end || err != nil {
			return body, err
		}
	}
}

// reply writes a whole response.
func reply(s *Stream, status int, body []byte) error {
	var h message.Head
	h.SetStatus(status)
	h.Framing.Kind, h.Framing.Length = message.Length, int64(len(body))
	if err := s.WriteHead(&h); err != nil {
		return err
	}
	return s.WriteBody(body, true)
}

// echo answers with what it reads, piece by piece.
func echo(_ *engine.Task, s *Stream) {
	var h message.Head
	if s.ReadHead(&h) != nil {
		return
	}
	h.Reset()
	h.SetStatus(200)
	h.Framing.Kind = message.Chunked
	if s.WriteHead(&h) != nil {
		return
	}
	for {
		p, end, err := s.ReadBody()
		if err != nil {
			s.Reset(policy.ReasonOf(err))
			return
		}
		if end && s.Trailers() != nil {
			if s.WriteBody(p, false) == nil {
				s.WriteTrailers(s.Trailers())
			}
			return
		}
		if s.WriteBody(p, end) != nil || end {
			return
		}
	}
}

func request(method, path string, kind message.BodyKind, length int64) *message.Head {
	h := &message.Head{}
	h.SetRequest(method, path, "a.example")
	h.Framing.Kind, h.Framing.Length = kind, length
	return h
}

func testKind(t testing.TB) engine.Kind {
	t.Helper()
	kind, err := engine.ParseKind(os.Getenv("LARBOARD_ENGINE"))
	if err != nil {
		t.Fatal(err)
	}
	return kind
}
