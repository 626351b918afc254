package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// TestMemoryAfterABurstOfStreams has many HTTP/2 connections at once with twenty requests
// under way on each, and looks what the process keeps a minute after they have ended.
func TestMemoryAfterABurstOfStreams(t *testing.T) {
	conns, streams := 200, 20
	if long() {
		conns = 1000
	}
	var arrived atomic.Int64
	release := make(chan struct{})
	letGo := sync.OnceFunc(func() { close(release) })
	t.Cleanup(letGo)
	answer := blob(16<<10, 0)
	address := http2Origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		<-release
		_, _ = w.Write(answer)
	}))
	p := start(t, "proxy", fmt.Sprintf(`
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, protocol: http2, endpoints: [%q], timeouts: {connect: 2m, response_head: 5m}}]
`, address))
	before, state := p.vitals(), p.engineState()
	worst := p.worst()
	done := make(chan error, conns)
	for range conns {
		go func() { done <- askManyTimes(p.address("in"), streams, len(answer)) }()
	}
	eventually(t, 2*time.Minute, "all requests are under way", func() error {
		if n := arrived.Load(); n < int64(conns*streams) {
			return fmt.Errorf("%d of %d", n, conns*streams)
		}
		return nil
	})
	during := p.vitals()
	letGo()
	ended := time.Now()
	for range conns {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	most := worst()
	// The runtime keeps a record of half a KiB for each coroutine that there ever was, and they
	// lie far apart.
	allowed := before.memory + 12<<20 + int64(conns*streams)<<10 + (most.memory-before.memory)/16
	var now vitals
	err := poll(90*time.Second, func() error {
		if now = p.vitals(); now.memory > allowed {
			return fmt.Errorf("%v, allowed are %.1f MiB", now, mib(allowed))
		}
		return nil
	})
	t.Logf("%d connections with %d streams each: %v before, %v while all are under way, %v at most, %v after %v", conns, streams,
		before, during, most, now, time.Since(ended).Round(time.Second))
	if err != nil {
		t.Error(err)
	}
	p.waitBaseline(state, before.descriptors, 200)
}

// askManyTimes has n streams of one connection ask at once, and insists on whole answers.
func askManyTimes(address string, n, size int) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Minute))
	h := newIntruder(c, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 20})
	h.do(func() error { return h.frames.WriteWindowUpdate(0, 1<<24) })
	for range n {
		h.open("GET", "/")
	}
	if h.err != nil {
		return h.err
	}
	in, bytes := http2.NewFramer(io.Discard, c), 0
	for n > 0 {
		frame, err := in.ReadFrame()
		if err != nil {
			return fmt.Errorf("%d streams are open: %w", n, err)
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			bytes -= len(f.Data())
			if f.StreamEnded() {
				n--
				bytes += size
			}
		case *http2.RSTStreamFrame, *http2.GoAwayFrame:
			return fmt.Errorf("%d streams are open: %v", n, frame)
		}
	}
	if bytes != 0 {
		return fmt.Errorf("%d bytes are missing", bytes)
	}
	return nil
}
