//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"
	"time"
)

// contender is one of the two sides compared: one proxy, or two in a row.
type contender struct {
	name  string
	parts []part // started in this order
	// setup runs before the parts; what it returns runs after them. May be nil.
	setup func(ctx context.Context, s *site) (undo func(), err error)
	// answers is where a request must succeed before anything is measured; may be nil.
	answers func(*site) string
}

// part is one process.
type part struct {
	name    string
	argv    func(config string, s *site) []string
	config  string // template over site; empty: it has none
	listens func(*site) []string
}

// site is what configurations are made from.
type site struct {
	HTTP, HTTPS, TCP, Bulk, Mutual string // where one proxy listens
	H2, H2Down, H2TLS              string // HTTP/2: to HTTP/2; to HTTP/1.1; over TLS to HTTP/1.1
	Near, Far                      string // of two in a row: plain in, mutual TLS between
	Agent, Consul                  string // address of the agent, path of the binary
	Origin                         originAddrs
	Sinks                          sinkAddrs
	Dir                            string // for files that a proxy writes
	Files                          certificates
	FDs                            uint64 // open files this process may have
	Buffer                         int    // HAProxy's, where its default is not its best
	WantH2                         bool   // the HTTP/2 listeners are measured
	WantMutual                     bool   // a mutual TLS listener is measured
	NoTickets                      bool   // and HAProxy issues no session tickets there
}

// proxy is a running contender.
type proxy struct {
	name  string
	parts []*process
	site  site
	undo  func()
}

func (p *proxy) pids() (pids []int) {
	for _, part := range p.parts {
		pids = append(pids, part.pid())
	}
	return pids
}

// stop ends the parts, the last first.
func (p *proxy) stop() {
	for _, part := range slices.Backward(p.parts) {
		part.stop()
	}
	if p.undo != nil {
		p.undo()
	}
}

// start writes the configurations, starts the parts on cpu and waits until they
// accept everywhere.
func (c contender) start(ctx context.Context, cpu int, dir string, s site) (*proxy, error) {
	addrs := []*string{&s.HTTP, &s.HTTPS, &s.TCP, &s.Bulk, &s.Mutual, &s.H2, &s.H2Down, &s.H2TLS, &s.Near, &s.Far}
	free, err := freeAddrs(len(addrs))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	for i, addr := range addrs {
		*addr = free[i]
	}
	p := &proxy{name: c.name}
	if c.setup != nil {
		if p.undo, err = c.setup(ctx, &s); err != nil {
			return nil, fmt.Errorf("%s: %w", c.name, err)
		}
	}
	p.site = s
	if err := p.run(ctx, c, cpu, dir); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

func (p *proxy) run(ctx context.Context, c contender, cpu int, dir string) error {
	for _, part := range c.parts {
		file, err := part.writeConfig(dir, &p.site)
		if err != nil {
			return fmt.Errorf("%s: configuration: %w", part.name, err)
		}
		process, err := startProcess(cpu, part.name, part.argv(file, &p.site)...)
		if err != nil {
			return err
		}
		p.parts = append(p.parts, process)
		for _, addr := range part.listens(&p.site) {
			if err := process.waitFor(ctx, addr, 15*time.Second); err != nil {
				return err
			}
		}
	}
	if c.answers == nil {
		return nil
	}
	return waitForAnswer(ctx, c.answers(&p.site), 15*time.Second)
}

func (c part) writeConfig(dir string, s *site) (string, error) {
	if c.config == "" {
		return "", nil
	}
	t, err := template.New(c.name).Parse(c.config)
	if err != nil {
		return "", err
	}
	var text strings.Builder
	if err := t.Execute(&text, s); err != nil {
		return "", err
	}
	f, err := os.CreateTemp(dir, "proxy-*.conf")
	if err != nil {
		return "", err
	}
	defer f.Close()
	_, err = f.WriteString(text.String())
	return filepath.Clean(f.Name()), err
}

// waitFor polls: the proxies do not say in a common way that they are ready.
func (p *process) waitFor(ctx context.Context, addr string, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-p.ended:
			return p.failure(nil)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s: does not accept on %s after %v: %s", p.name, addr, limit, p.stderr.text())
		}
	}
}

// waitForAnswer asks until an HTTP request succeeds: a pair that accepts may still
// lack its certificates.
func waitForAnswer(ctx context.Context, addr string, limit time.Duration) error {
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	deadline := time.Now().Add(limit)
	for {
		resp, err := client.Get("http://" + addr + "/1")
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("no request got through %s within %v: %w", addr, limit, err)
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return err
		}
	}
}

// freeAddrs finds ports that were free a moment ago.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close()
		addrs = append(addrs, l.Addr().String())
	}
	return addrs, nil
}
