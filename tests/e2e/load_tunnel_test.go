package e2e

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
)

// summer is a TCP server that reads to the client's FIN, and only then answers: with
// the sum of what it read and with as much again. It works with half-closed
// connections or not at all.
func summer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer c.Close()
				sum := sha256.New()
				n, err := io.Copy(sum, c)
				if err == nil {
					_, _ = c.Write(sum.Sum(nil))
					_, _ = io.CopyN(c, noise(n), n)
				}
			})
		}
	})
	return l.Addr().String()
}

// noise is the same bytes for the same seed.
func noise(seed int64) io.Reader { return rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}) }

// TestTCPTunnelsWithHalfClose: a hundred at once, in each direction up to 8 MiB, the
// client's end first, while the configuration is reloaded; plain and through mTLS.
func TestTCPTunnelsWithHalfClose(t *testing.T) {
	server := summer(t)
	mesh := newAuthority(t, meshDomain)
	called := start(t, "api", newSVIDFiles(t, mesh.svid("api"), mesh).identity()+fmt.Sprintf(
		"workload: {service: api, address: %q, listen: 127.0.0.1:0, protocol: tcp}\n", server))
	p := start(t, "web", newSVIDFiles(t, mesh.svid("web"), mesh).identity()+fmt.Sprintf(
		"listeners: [{name: plain, address: 127.0.0.1:0, protocol: tcp, service: plain}]\nservices: [{name: plain, endpoints: [%q]}]\n"+
			"upstreams: [{service: api, bind: 127.0.0.1:0, protocol: tcp, endpoints: [%q]}]\n", server, called.address("inbound")))
	beforeCalled, before := called.engineState(), p.engineState()
	descriptorsCalled, descriptors := called.vitals().descriptors, p.vitals().descriptors
	addresses := []string{p.address("plain"), p.address("api")}
	done := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for {
			p.signal(syscall.SIGHUP)
			called.signal(syscall.SIGHUP)
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	})
	var all sync.WaitGroup
	for i := range 100 {
		all.Go(func() {
			if err := halfClose(addresses[i%2], int64(1)<<(i%24)); err != nil {
				t.Errorf("tunnel %d: %v", i, err)
			}
		})
	}
	all.Wait()
	close(done)
	reloads.Wait()
	called.waitBaseline(beforeCalled, descriptorsCalled, 0)
	p.waitBaseline(before, descriptors, 0)
	if n := p.scrape().sum("larboard_requests_total", `reason="none"`); n != 100 {
		t.Errorf("%v tunnels counted as whole, want 100", n)
	}
}

func halfClose(address string, size int64) error {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(2 * patience)); err != nil {
		return err
	}
	want := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(c, want), noise(size+1), size); err != nil {
		return fmt.Errorf("sending %d bytes: %w", size, err)
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	got := make([]byte, sha256.Size)
	if _, err := io.ReadFull(c, got); err != nil {
		return fmt.Errorf("after %d bytes: %w", size, err)
	}
	if !bytes.Equal(got, want.Sum(nil)) {
		return errors.New("what was sent is not what came")
	}
	return sameNoise(c, size)
}

// sameNoise reads to the end and wants the bytes that summer sends.
func sameNoise(c io.Reader, size int64) error {
	got, want := sha256.New(), sha256.New()
	n, err := io.Copy(got, c)
	if err != nil || n != size {
		return fmt.Errorf("%d bytes back, want %d: %w", n, size, err)
	}
	if _, err := io.CopyN(want, noise(size), size); err != nil {
		return err
	}
	return sameSum(got, want)
}

func sameSum(a, b hash.Hash) error {
	if !bytes.Equal(a.Sum(nil), b.Sum(nil)) {
		return errors.New("what came back is not what was sent")
	}
	return nil
}

// TestLargeBodiesBothWays: large uploads and downloads over kept connections, whole
// and unchanged, beside small requests.
func TestLargeBodiesBothWays(t *testing.T) {
	body := make([]byte, 8<<20)
	_, _ = io.ReadFull(noise(7), body)
	p := start(t, "proxy", app(plainListener, origin(t, mirror{})))
	worst, idle := p.worst(), p.vitals()
	small := send(t, load.Options{Addr: p.address("in"), Method: "POST", Body: []byte("small"), WantBody: []byte("small"), Rate: 100})
	r := load.HTTP(t.Context(), load.Options{Addr: p.address("in"), Method: "POST", Body: body, WantBody: body, Conns: 8, Requests: 64, Timeout: 2 * patience})
	mustBeClean(t, r)
	small.endClean()
	most := worst()
	t.Logf("64 bodies of 8 MiB both ways, 8 at a time: %v, at most %v", r, most)
	if grown := most.memory - idle.memory; grown > 32<<20 {
		t.Errorf("memory grew by %.1f MiB", mib(grown))
	}
}

// mirror sends a request's body back while it comes.
type mirror struct{}

func (mirror) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex()
	w.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	_, _ = io.Copy(w, r.Body)
}
