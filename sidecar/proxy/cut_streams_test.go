package proxy

import (
	"bytes"
	"io"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// TestCutCallerOpensNoStreams: a caller whose bundle has been withdrawn may have streams under way
// and more on their way, and does not listen to a GOAWAY. None of them is served.
func TestCutCallerOpensNoStreams(t *testing.T) {
	m := newMesh(t)
	r := newRig(t, HTTP, func(c *ListenerConfig, s *upstream.Settings) {
		m.listener(c, s)
		c.HTTP2 = streamOptions()
	}, slowOrigin(t))
	c := m.dial(r.addr)
	io.WriteString(c, xhttp2.ClientPreface)
	f := xhttp2.NewFramer(c, c)
	f.WriteSettings()
	get := func(id uint32, path string) {
		var block bytes.Buffer
		e := hpack.NewEncoder(&block)
		for _, field := range [][2]string{{":method", "GET"}, {":scheme", "https"}, {":authority", "api"}, {":path", path}} {
			e.WriteField(hpack.HeaderField{Name: field[0], Value: field[1]})
		}
		f.WriteHeaders(xhttp2.HeadersFrameParam{StreamID: id, BlockFragment: block.Bytes(), EndStream: true, EndHeaders: true})
	}
	get(1, "/slow")
	eventually(t, "the request to reach the endpoint", func() bool { return r.service.Set().Members[0].Inflight() == 1 })
	m.current.Set(m.material(false))
	r.proxy.Reauthorize()
	eventually(t, "the cut", func() bool { return len(r.records.cuts()) == 1 })
	get(3, "/")
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	refused := false
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			break
		}
		switch frame := frame.(type) {
		case *xhttp2.HeadersFrame:
			if frame.StreamID == 3 {
				t.Error("a stream is served after the cut")
			}
		case *xhttp2.RSTStreamFrame:
			refused = refused || frame.StreamID == 3 && frame.ErrCode == xhttp2.ErrCodeRefusedStream
		}
	}
	if !refused {
		t.Error("the stream was not refused")
	}
	eventually(t, "nothing to be left", func() bool { return r.records.conns.Load() == 0 && r.engine.Stats().Total().Tasks == 0 })
}
