//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// h2Generator drives one window of HTTP/2 from one thread, closed loop: each stream
// that ends is followed by another one on its connection.
type h2Generator struct {
	// immutable
	spec loadSpec
	sa   *unix.SockaddrInet4
	tls  *tls.Config

	poll    *poller
	clients []*h2Client
	buf     [256 << 10]byte
	now     time.Time // of the event at hand
	fatal   error     // of the window
	tally
}

func newH2Generator(spec loadSpec) (driver, error) {
	g := &h2Generator{spec: spec}
	var err error
	if g.sa, err = sockaddr(spec.Addr); err != nil {
		return nil, err
	}
	if g.tls, err = spec.clientTLS(); err != nil {
		return nil, err
	}
	if g.poll, err = newPoller(); err != nil {
		return nil, err
	}
	g.clients = make([]*h2Client, spec.Conns)
	for i := range g.clients {
		if err := g.connect(i); err != nil {
			g.close()
			return nil, err
		}
	}
	return g, nil
}

func (g *h2Generator) close() {
	for _, c := range g.clients {
		if c != nil {
			c.close()
		}
	}
	g.poll.close()
}

func (g *h2Generator) connect(i int) error {
	c, err := openH2(g.sa, g.tls, &g.spec)
	if err != nil {
		return err
	}
	c.finished = func(due time.Time, err error) {
		if err == nil {
			g.answered(g.now.Sub(due))
		} else if g.fatal == nil {
			g.fatal = g.failure(err)
		}
		c.start(g.now)
	}
	g.clients[i] = c
	return g.poll.watch(unix.EPOLL_CTL_ADD, c.fd, int32(i), unix.EPOLLIN)
}

// begin starts all streams of a connection.
func (g *h2Generator) begin(i int) error {
	for range g.spec.Streams {
		g.clients[i].start(g.now)
	}
	return g.clients[i].flush()
}

func (g *h2Generator) run() (loadResult, error) {
	g.now = time.Now()
	for i := range g.clients {
		if err := g.begin(i); err != nil {
			return g.result, err
		}
	}
	return measureWindow(&g.spec, &g.tally, g.drive)
}

func (g *h2Generator) drive(length time.Duration) error {
	g.now = time.Now()
	end, quiet := g.now.Add(length), g.now
	for g.now.Before(end) {
		events, err := g.poll.wait(min(end.Sub(g.now), 200*time.Millisecond))
		if err != nil {
			return err
		}
		g.now = time.Now()
		if len(events) > 0 {
			quiet = g.now
		} else if g.now.Sub(quiet) > stallLimit {
			return fmt.Errorf("no answer for %v", stallLimit)
		}
		for _, e := range events {
			if err := g.ready(int(e.Fd)); err != nil {
				return err
			}
		}
	}
	return nil
}

// ready moves one connection on. A connection that breaks takes its exchanges with it
// and is replaced.
func (g *h2Generator) ready(i int) error {
	c := g.clients[i]
	err := c.receive(g.buf[:])
	if err == nil {
		err = c.flush()
	}
	if g.fatal != nil || err == nil {
		return g.fatal
	}
	for range c.open {
		if err := g.failure(err); err != nil {
			return err
		}
	}
	c.close()
	if err := g.connect(i); err != nil {
		return err
	}
	return g.begin(i)
}
