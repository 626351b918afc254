package proxy

import (
	"bytes"
	"net"
	"net/http"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"

	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// A connection without a stream hears a goodbye as soon as there is a reason for one: it need
// not ask again first.
func TestIdleStreamsHearAGoodbye(t *testing.T) {
	addr := origin(t, func(http.ResponseWriter, *http.Request) {})
	for _, c := range []struct {
		name   string
		before func(*rig, *Downstream) // on the loop, before anything is said
		after  func(*rig)
	}{
		{name: "certificate about to expire", before: func(_ *rig, d *Downstream) { d.expires = d.loop.loop.Nanos() + int64(50*time.Millisecond) }},
		{name: "listener gone at a reload", after: func(r *rig) {
			if err := r.proxy.Apply(&Snapshot{Services: []*upstream.Service{r.service}, Generation: 2}); err != nil {
				t.Error(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, HTTP, withHTTP2(upstream.OnlyHTTP1), addr)
			conn, err := net.Dial("tcp", r.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(10 * time.Second))
			if c.before != nil {
				r.onTheConnection(func(d *Downstream) { c.before(r, d) })
			}
			var hello bytes.Buffer
			hello.WriteString(xhttp2.ClientPreface)
			f := xhttp2.NewFramer(&hello, conn)
			f.WriteSettings()
			conn.Write(hello.Bytes())
			if _, err := f.ReadFrame(); err != nil { // SETTINGS: it is known to speak HTTP/2
				t.Fatal(err)
			}
			if c.after != nil {
				c.after(r)
			}
			for {
				frame, err := f.ReadFrame()
				if err != nil {
					t.Fatalf("no goodbye: %v", err)
				}
				if g, is := frame.(*xhttp2.GoAwayFrame); is {
					if g.ErrCode != xhttp2.ErrCodeNo {
						t.Errorf("told %v", g.ErrCode)
					}
					return
				}
			}
		})
	}
}

// onTheConnection waits for the one connection there is, and runs f on its loop.
func (r *rig) onTheConnection(f func(*Downstream)) {
	r.t.Helper()
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, l := range r.proxy.loops {
			found := make(chan bool)
			l.loop.Post(func() {
				d := l.conns.next
				if d != &l.conns {
					f(d)
				}
				found <- d != &l.conns
			})
			if <-found {
				return
			}
		}
	}
	r.t.Fatal("no connection")
}
