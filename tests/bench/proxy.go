package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"text/template"
	"time"
)

// contender is one of the two proxies compared.
type contender struct {
	name   string
	argv   func(config string) []string
	config string // template over site
}

// site is what a proxy's configuration is made from.
type site struct {
	HTTP, HTTPS, TCP string // where it listens
	Origin           originAddrs
	Cert, Key, Both  string
	FDs              uint64 // open files this process may have
	Buffer           int    // HAProxy's, where its default is not its best
}

// proxy is a running contender.
type proxy struct {
	*process
	site site
}

// haproxy is its best for this work: one thread, upstream connections reused, no
// log, and the same fields added to requests as Larboard adds, unless bare. no strict-limits and ulimit-n: with a maxconn that
// is never reached it would otherwise insist on twice as many descriptors.
func haproxy(name, binary string, bare bool) contender {
	fields := haproxyFields
	if bare {
		fields = ""
	}
	return contender{
		name:   name,
		argv:   func(config string) []string { return []string{binary, "-q", "-db", "-f", config} },
		config: strings.ReplaceAll(haproxyConfig, "@fields", fields),
	}
}

// haproxyFields is how HAProxy's manual says to tell the endpoint where a request
// came from, and to give it an id.
const haproxyFields = `
    option forwardfor
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(host)]
    unique-id-format %[uuid()]
    unique-id-header X-Request-ID`

const haproxyConfig = `global
    nbthread 1
    maxconn 16000
    ulimit-n {{.FDs}}
    no strict-limits{{if .Buffer}}
    tune.bufsize {{.Buffer}}{{end}}
    ssl-default-bind-options ssl-min-ver TLSv1.3
    ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
defaults
    http-reuse always
    timeout connect 5s
    timeout client 10m
    timeout server 10m
    timeout http-request 10s
    timeout http-keep-alive 10m
frontend http
    mode http
    bind {{.HTTP}}@fields
    default_backend http_origin
frontend https
    mode http
    bind {{.HTTPS}} ssl crt {{.Both}}@fields
    default_backend http_origin
frontend tcp
    mode tcp
    bind {{.TCP}}
    default_backend tcp_origin
backend http_origin
    mode http
    server origin {{.Origin.HTTP}}
backend tcp_origin
    mode tcp
    server origin {{.Origin.Echo}}
`

// larboard is one loop with what it does by default: counters, histograms,
// timeouts, forwarded headers and request ids; only the access log is off.
func larboard(name, binary string) contender {
	return contender{
		name:   name,
		argv:   func(config string) []string { return []string{binary, "run", "-c", config} },
		config: larboardConfig,
	}
}

const larboardConfig = `loops: 1
access_log: "off"
timeouts: {connect: 5s, request_head: 10s, idle: 10m, response_head: 10m, tunnel: 10m}
listeners:
- name: http
  address: {{.HTTP}}
  protocol: http
  service: http_origin
- name: https
  address: {{.HTTPS}}
  protocol: http
  tls: {certificates: [{cert: {{.Cert}}, key: {{.Key}}}]}
  service: http_origin
- name: tcp
  address: {{.TCP}}
  protocol: tcp
  service: tcp_origin
services:
- name: http_origin
  endpoints: ["{{.Origin.HTTP}}"]
- name: tcp_origin
  endpoints: ["{{.Origin.Echo}}"]
`

// start writes the configuration, starts the proxy on cpu and waits until it
// accepts on every port.
func (c contender) start(ctx context.Context, cpu int, dir string, s site) (*proxy, error) {
	ports, err := freeAddrs(3)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.name, err)
	}
	s.HTTP, s.HTTPS, s.TCP = ports[0], ports[1], ports[2]
	file, err := c.writeConfig(dir, s)
	if err != nil {
		return nil, fmt.Errorf("%s: configuration: %w", c.name, err)
	}
	process, err := startProcess(cpu, c.name, c.argv(file)...)
	if err != nil {
		return nil, err
	}
	p := &proxy{process: process, site: s}
	for _, addr := range ports {
		if err := p.waitFor(ctx, addr, 15*time.Second); err != nil {
			p.stop()
			return nil, err
		}
	}
	return p, nil
}

func (c contender) writeConfig(dir string, s site) (string, error) {
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

// waitFor polls: neither proxy says in a common way that it is ready.
func (p *proxy) waitFor(ctx context.Context, addr string, limit time.Duration) error {
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
