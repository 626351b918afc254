package http2

import (
	"bytes"
	"testing"
	"time"

	"golang.org/x/net/http2"
	xhpack "golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/engine/sim"
	"github.com/larboard-proxy/larboard/sidecar/message"
)

// What the fuzz targets hold of any bytes a peer sends: no panic, nothing left behind when it has
// gone, the memory bounds kept, and the same verdict in whatever pieces the bytes come.

// seeds are conversations to begin with: a request with body and trailers, resets, windows,
// settings, and header blocks in pieces.
func seeds(f *testing.F, client bool) {
	var text bytes.Buffer
	enc := xhpack.NewEncoder(&text)
	block := func(fields ...string) []byte {
		text.Reset()
		for i := 0; i < len(fields); i += 2 {
			enc.WriteField(xhpack.HeaderField{Name: fields[i], Value: fields[i+1]})
		}
		return bytes.Clone(text.Bytes())
	}
	for kind := range 4 {
		var out bytes.Buffer
		fr := http2.NewFramer(&out, nil)
		fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
		first := block(":method", "POST", ":scheme", "http", ":authority", "a", ":path", "/")
		if client {
			first = block(":status", "200", "a", "b")
		}
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: first[:2], PadLength: uint8(kind)})
		fr.WriteContinuation(1, true, first[2:])
		fr.WriteDataPadded(1, false, []byte("hello"), make([]byte, kind))
		switch kind {
		case 0:
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block("sum", "1"), EndStream: true, EndHeaders: true})
		case 1:
			fr.WriteRSTStream(1, http2.ErrCodeCancel)
			fr.WriteData(1, true, nil)
		case 2:
			fr.WriteWindowUpdate(1, 7)
			fr.WriteWindowUpdate(0, 1<<30)
			fr.WritePriority(1, http2.PriorityParam{StreamDep: 3})
			fr.WritePing(false, [8]byte{1})
		case 3:
			fr.WriteGoAway(1, http2.ErrCodeNo, []byte("bye"))
		}
		f.Add(out.Bytes(), uint8(kind))
	}
}

func FuzzServer(f *testing.F) {
	seeds(f, false)
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		whole := verdictOfServer(t, data, 0)
		if pieces := verdictOfServer(t, data, int(cut)%23+1); pieces != whole {
			t.Errorf("in pieces: %s\nwhole: %s", pieces, whole)
		}
	})
}

// verdictOfServer lets a server read data, in pieces of a size.
func verdictOfServer(t *testing.T, data []byte, piece int) string {
	x := newRawServed(t, testOptions(), sim.Options{}, func(_ *engine.Task, s *Stream) {
		var h message.Head
		s.ReadHead(&h)
		if body, err := readAll(s); err == nil {
			reply(s, 200, body[:min(len(body), 5)])
		}
	})
	x.out.WriteString(preface)
	give(x.wire, data, piece)
	if n := len(x.server.out) + x.server.t.Queued(); n > outPause+turnBytes+outClass {
		t.Errorf("%d bytes wait", n)
	}
	x.peer.Close()
	x.w.RunFor(time.Minute)
	if x.closed != 1 || x.server.Streams() != 0 || x.server.open != 0 {
		t.Errorf("closed %d times, %d streams, %d open", x.closed, x.server.Streams(), x.server.open)
	}
	if x.err == nil {
		return "in order"
	}
	return x.err.Error()
}

func give(x *wire, data []byte, piece int) {
	for piece > 0 && len(data) > piece && !x.peer.Over() {
		x.out.Write(data[:piece])
		data = data[piece:]
		x.send(time.Nanosecond)
	}
	x.out.Write(data)
	x.send(time.Millisecond)
}

func FuzzClient(f *testing.F) {
	seeds(f, true)
	f.Fuzz(func(t *testing.T, data []byte, cut uint8) {
		x := newAsking(t, testOptions())
		ended := 0
		for range 2 {
			x.do(func(_ *engine.Task, s *Stream) {
				defer func() { ended++ }()
				s.ReadWithin(5 * time.Second)
				ask(s, &message.Head{})
			})
		}
		give(x.wire, data, int(cut)%23)
		x.peer.Close()
		x.w.RunFor(time.Minute)
		if x.closed != 1 || ended != 2 || x.c.Streams() != 0 || x.c.open != 0 {
			t.Errorf("closed %d times, %d ended, %d streams, %d open", x.closed, ended, x.c.Streams(), x.c.open)
		}
	})
}
