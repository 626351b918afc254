//go:build linux

package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"golang.org/x/sys/unix"
)

const (
	warmup      = 300 * time.Millisecond
	stallLimit  = 3 * time.Second // without any event
	maxFailures = 1000
)

// generator drives one window of load from one thread. Closed loop: each
// connection sends its next request when the last one is answered. Open loop
// (Rate set): requests are due at exponentially distributed intervals, the
// same in every run, whatever the server does; latency runs from when a
// request was due, also where it had to wait for a free connection.
type generator struct {
	// immutable
	spec    loadSpec
	sa      *unix.SockaddrInet4
	tls     *tls.Config
	message []byte
	want    []byte

	poll    *poller
	clients []*client
	idle    []int32 // open loop: connections without an exchange, oldest first
	next    time.Time
	gaps    *rand.Rand
	buf     [64 << 10]byte

	tally
}

// driver is a load of one protocol; run warms up, measures and is called once.
type driver interface {
	run() (loadResult, error)
	close()
}

// tally is what a window counts.
type tally struct {
	result  loadResult
	latency load.Histogram
}

// answered books one exchange.
func (t *tally) answered(took time.Duration) {
	t.latency.Add(took)
	t.result.Requests++
}

// failure books one that failed; an error ends the window.
func (t *tally) failure(err error) error {
	t.result.Failed++
	if t.result.Example == "" {
		t.result.Example = err.Error()
	}
	if t.result.Failed >= maxFailures {
		return fmt.Errorf("%d failed requests, the first: %s", t.result.Failed, t.result.Example)
	}
	return nil
}

// measureWindow warms up, then measures: the proxy's CPU is read at the edges of the
// very window whose requests are counted.
func measureWindow(spec *loadSpec, t *tally, drive func(time.Duration) error) (loadResult, error) {
	if err := drive(warmup); err != nil {
		return t.result, err
	}
	*t = tally{}
	clock, err := openUserClock(spec)
	if err != nil {
		return t.result, err
	}
	defer clock.close()
	before, err := spec.Watch.read()
	if err != nil {
		return t.result, err
	}
	if err := drive(spec.Window); err != nil {
		return t.result, err
	}
	after, err := spec.Watch.read()
	t.result.CPU, t.result.Elapsed, t.result.Foreign = after.between(before, len(spec.Watch.CPUs))
	t.result.User = clock.read()
	t.result.P50, t.result.P99 = t.latency.Quantile(0.5), t.latency.Quantile(0.99)
	return t.result, err
}

func newGenerator(spec loadSpec) (driver, error) {
	g := &generator{spec: spec, gaps: rand.New(rand.NewPCG(1, 2))}
	var err error
	if g.sa, err = sockaddr(spec.Addr); err != nil {
		return nil, err
	}
	if g.tls, err = spec.clientTLS(); err != nil {
		return nil, err
	}
	g.want = body(spec.Size)
	g.message = g.want
	if spec.HTTP {
		g.message = spec.request()
	}
	if g.poll, err = newPoller(); err != nil {
		return nil, err
	}
	g.clients = make([]*client, spec.Conns)
	for i := range g.clients {
		if err := g.connect(int32(i)); err != nil {
			return nil, err
		}
	}
	return g, nil
}

func (g *generator) close() {
	for _, c := range g.clients {
		if c != nil {
			c.close()
		}
	}
	g.poll.close()
}

func (g *generator) connect(i int32) error {
	c, err := open(g.sa, g.tls)
	if err != nil {
		return err
	}
	c.http = g.spec.HTTP
	g.clients[i] = c
	return g.poll.watch(unix.EPOLL_CTL_ADD, c.fd, i, unix.EPOLLIN)
}

func (g *generator) run() (loadResult, error) {
	if err := g.begin(time.Now()); err != nil {
		return g.result, err
	}
	return measureWindow(&g.spec, &g.tally, g.drive)
}

func (g *generator) begin(now time.Time) error {
	g.next = now
	for i := range g.clients {
		if err := g.free(int32(i), now); err != nil {
			return err
		}
	}
	return nil
}

func (g *generator) drive(length time.Duration) error {
	end := time.Now().Add(length)
	quiet := time.Now()
	for {
		now := time.Now()
		if !now.Before(end) {
			return nil
		}
		if err := g.sendDue(now); err != nil {
			return err
		}
		events, err := g.poll.wait(g.pause(now, end))
		if err != nil {
			return err
		}
		now = time.Now()
		if len(events) > 0 || g.spec.Rate > 0 && len(g.idle) == len(g.clients) {
			quiet = now
		} else if now.Sub(quiet) > stallLimit {
			return fmt.Errorf("no answer for %v", stallLimit)
		}
		for _, e := range events {
			if err := g.ready(e.Fd, now); err != nil {
				return err
			}
		}
	}
}

// pause is how long to wait for events: until the next request is due, where
// a connection is there to send it on.
func (g *generator) pause(now, end time.Time) time.Duration {
	until := min(end.Sub(now), 200*time.Millisecond)
	if g.spec.Rate > 0 && len(g.idle) > 0 {
		until = min(until, g.next.Sub(now))
	}
	return until
}

// ready moves one connection on.
func (g *generator) ready(i int32, now time.Time) error {
	c := g.clients[i]
	complete, err := c.receive(g.buf[:])
	switch {
	case err == nil && !complete:
		return nil
	case err == nil && g.spec.NewConn && g.spec.HTTP:
		return nil // the proxy closes; that it does is part of the exchange
	case errors.Is(err, io.EOF) && c.done:
	case err != nil:
		return g.failed(i, now, err)
	}
	g.answered(now.Sub(c.due))
	if g.spec.NewConn {
		c.close()
		if err := g.connect(i); err != nil {
			return err
		}
	}
	return g.free(i, now)
}

// failed books a failure and replaces the connection.
func (g *generator) failed(i int32, now time.Time, err error) error {
	if err := g.failure(err); err != nil {
		return err
	}
	g.clients[i].close()
	if err := g.connect(i); err != nil {
		return err
	}
	return g.free(i, now)
}

// free takes a connection back: to send at once, or to wait for its turn.
func (g *generator) free(i int32, now time.Time) error {
	if g.spec.Rate == 0 {
		return g.send(i, now)
	}
	g.idle = append(g.idle, i)
	return nil
}

// sendDue sends what the schedule asks for. A request with no connection free
// stays due, with the time at which it should have gone.
func (g *generator) sendDue(now time.Time) error {
	if g.spec.Rate == 0 {
		return nil
	}
	for len(g.idle) > 0 && !g.next.After(now) {
		i := g.idle[0]
		g.idle = append(g.idle[:0], g.idle[1:]...)
		if err := g.send(i, g.next); err != nil {
			return err
		}
		g.next = g.next.Add(time.Duration(g.gaps.ExpFloat64() / g.spec.Rate * float64(time.Second)))
	}
	return nil
}

func (g *generator) send(i int32, due time.Time) error {
	if err := g.clients[i].send(g.message, g.want, due); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
