package e2e

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"testing"
)

// wholeSize is how much goes through at once, in bytes.
func wholeSize() int64 {
	if long() {
		return 8 << 30
	}
	return 1 << 30
}

// TestBulkArrivesWhole: through a TCP tunnel and as an HTTP download, spliced, and the bytes
// that arrive are those that were sent.
func TestBulkArrivesWhole(t *testing.T) {
	size := wholeSize()
	block := make([]byte, 1<<20)
	noise(99).Read(block)
	sum := sha256.New()
	for range size >> 20 {
		sum.Write(block)
	}
	want := sum.Sum(nil)

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				sendBlocks(c, block, size)
			}()
		}
	}()
	app := origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		sendBlocks(w, block, size)
	}))
	p := start(t, "larboard", fmt.Sprintf(`
listeners:
- {name: tcp, address: 127.0.0.1:0, protocol: tcp, service: tcp}
- {name: http, address: 127.0.0.1:0, service: http}
services: [{name: tcp, endpoints: [%q]}, {name: http, endpoints: [%q]}]
`, l.Addr(), app))

	c, err := net.Dial("tcp", p.address("tcp"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	compareBulk(t, "tunnel", c, size, want)
	res, err := http.Get("http://" + p.address("http") + "/")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	compareBulk(t, "download", res.Body, size, want)
	if n := p.scrape().sum("larboard_engine_spliced_bytes_total"); n < float64(2*size-4<<20) {
		t.Errorf("%.0f bytes of %d were spliced", n, 2*size)
	}
}

func sendBlocks(w io.Writer, block []byte, size int64) {
	for range size >> 20 {
		if _, err := w.Write(block); err != nil {
			return
		}
	}
}

func compareBulk(t *testing.T, what string, r io.Reader, size int64, want []byte) {
	t.Helper()
	sum := sha256.New()
	n, err := io.CopyBuffer(sum, struct{ io.Reader }{r}, make([]byte, 256<<10))
	if err != nil || n != size || !bytes.Equal(sum.Sum(nil), want) {
		t.Errorf("%s: %d bytes of %d, %v, the same sum: %v", what, n, size, err, bytes.Equal(sum.Sum(nil), want))
	}
}
