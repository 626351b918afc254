package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// openConnections is the number of the claim. Clients and proxy are processes of
// their own, so that each has its descriptors.
const openConnections = 10_000

// opened is that number, or what the host's descriptors allow where that is less: the
// proxy keeps two for each connection.
func (p *larboard) opened() int {
	most := int(p.limits().ConnectionsLimit)
	if most < openConnections {
		p.t.Logf("this host's descriptors allow %d connections", most)
	}
	return min(openConnections, most)
}

// TestTenThousandOpenConnections: all are open at once, and each is answered at the
// beginning, in between while the others are open, and at the end.
func TestTenThousandOpenConnections(t *testing.T) {
	one := startWorkload(t, "one")
	p := start(t, "proxy", app(plainListener, one.address))
	before, idle := p.engineState(), p.vitals()
	address := p.address("in")
	count := p.opened()
	conns := make([]net.Conn, count)
	defer func() {
		for _, c := range conns {
			if c != nil {
				c.Close()
			}
		}
	}()
	each := func(do func(i int) error) {
		t.Helper()
		var next, failed atomic.Int64
		var workers sync.WaitGroup
		for range 32 {
			workers.Go(func() {
				for i := next.Add(1) - 1; i < int64(count); i = next.Add(1) - 1 {
					if err := do(int(i)); err != nil && failed.Add(1) < 5 {
						t.Errorf("connection %d: %v", i, err)
					}
				}
			})
		}
		workers.Wait()
		if n := failed.Load(); n > 0 {
			t.Fatalf("%d of %d failed", n, count)
		}
	}
	began := time.Now()
	each(func(i int) (err error) {
		conns[i], err = net.DialTimeout("tcp", address, patience)
		if err != nil {
			return err
		}
		return exchange(conns[i], "one")
	})
	opened := time.Since(began)
	if n := p.scrape().sum("larboard_connections_active", `listener="in"`); n != float64(count) {
		t.Errorf("%v connections are open, want %d", n, count)
	}
	for range 2 {
		each(func(i int) error { return exchange(conns[i], "one") })
	}
	full, state := p.vitals(), p.engineState()
	t.Logf("%d connections opened and answered in %v, answered three times each in %v; %v idle, %v full (%.0f bytes a connection), %v tasks",
		count, opened.Round(time.Millisecond), time.Since(began).Round(time.Millisecond), idle, full,
		float64(full.memory-idle.memory)/float64(count), state.tasks)
	if state.tasks > 100 {
		t.Errorf("%v tasks for connections that wait", state.tasks)
	}
	if n := p.scrape().sum("larboard_requests_total", `code_class="2xx"`); n != float64(3*count) {
		t.Errorf("%v requests answered, want %d", n, 3*count)
	}
	for i, c := range conns {
		c.Close()
		conns[i] = nil
	}
	p.waitBaseline(before, idle.descriptors, 64)
}

// exchange sends a request over a connection that is kept and wants an answer.
func exchange(c net.Conn, want string) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: app\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(c, 1<<10), nil)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != 200 || string(body) != want) {
		err = fmt.Errorf("answered %d %q", resp.StatusCode, body)
	}
	return err
}
