package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"testing"
	"time"
)

// TestMemoryAfterABurst has thousands of requests under way at once and looks what the
// process keeps when they have ended: it is near where it began within a minute. Part of
// what stays is the runtime's own: a record for each coroutine that there ever was.
func TestMemoryAfterABurst(t *testing.T) {
	requests := 1500
	if long() {
		requests = 6000
	}
	var arrived atomic.Int64
	release := make(chan struct{})
	endpoint := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		arrived.Add(1)
		<-release
		fmt.Fprint(w, "late")
	}))
	t.Cleanup(endpoint.Close)
	p := start(t, "proxy", `
listeners: [{name: in, address: 127.0.0.1:0, service: app}]
services: [{name: app, endpoints: ["`+endpoint.Listener.Addr().String()+`"], timeouts: {response_head: 5m, idle: 1s}}]
`)
	if status, err := oneAnswer(p.address("in"), func() { close(release) }); status != 200 {
		t.Fatal(status, err)
	}
	release = make(chan struct{})
	arrived.Store(0)
	before := resident(t, p.pid())

	done := make(chan error, requests)
	for range requests {
		go func() {
			status, err := oneAnswer(p.address("in"), nil)
			if err == nil && status != 200 {
				err = fmt.Errorf("status %d", status)
			}
			done <- err
		}()
	}
	eventually(t, time.Minute, "all requests are under way", func() error {
		if n := arrived.Load(); n < int64(requests) {
			return fmt.Errorf("%d of %d", n, requests)
		}
		return nil
	})
	most := resident(t, p.pid())
	close(release)
	ended := time.Now()
	for range requests {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	allowed := before + 12<<20 + (most-before)/16
	eventually(t, time.Minute, "memory is near where it began", func() error {
		if now := resident(t, p.pid()); now > allowed {
			return fmt.Errorf("%d KiB, %d before, %d with %d requests", now>>10, before>>10, most>>10, requests)
		}
		return nil
	})
	t.Logf("%d KiB before, %d with %d requests, %d after %v", before>>10, most>>10, requests, resident(t, p.pid())>>10,
		time.Since(ended).Round(time.Second))
}

// oneAnswer sends a request on a connection of its own and returns the status.
func oneAnswer(address string, sent func()) (int, error) {
	c, err := net.Dial("tcp", address)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Minute))
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")); err != nil {
		return 0, err
	}
	if sent != nil {
		sent()
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, err
	}
	return resp.StatusCode, errors.Join(resp.Body.Close())
}

// resident is the memory of a process, in bytes.
func resident(t *testing.T, pid int) int {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`(?m)^VmRSS:\s*(\d+) kB`).FindSubmatch(data)
	if m == nil {
		t.Fatal("no VmRSS")
	}
	n, _ := strconv.Atoi(string(m[1]))
	return n << 10
}
