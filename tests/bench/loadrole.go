//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// roleLoad is the argument that makes this binary the load.
const roleLoad = "load"

// loadSpec is one window of load, or one set of idle connections; it reaches
// the child as JSON in its argument.
type loadSpec struct {
	Addr    string        `json:"addr"`
	Watch   watched       `json:"watch"`
	HTTP    bool          `json:"http"`
	Size    int           `json:"size"` // of the answer's body, or of the message echoed
	Conns   int           `json:"conns"`
	NewConn bool          `json:"new_conn"` // a connection for each request
	TLS     tlsMode       `json:"tls"`
	CA      string        `json:"ca"`   // PEM files, with TLS
	Cert    string        `json:"cert"` // with mutual TLS
	Key     string        `json:"key"`
	Rate    float64       `json:"rate"` // requests per second; 0: closed loop
	Window  time.Duration `json:"window"`
	User    bool          `json:"user"`    // take the proxy's time outside the kernel, too
	Idle    bool          `json:"idle"`    // open, one request each, then hold
	Streams int           `json:"streams"` // on each connection, which then speaks HTTP/2; 0: HTTP/1.1
	GRPC    bool          `json:"grpc"`    // unary calls, over HTTP/2
	Bulk    bool          `json:"bulk"`    // read a stream without end; Requests counts MiB
}

// tlsMode is what the client speaks.
type tlsMode string

const (
	plainText tlsMode = ""
	serverTLS tlsMode = "server"
	mutualTLS tlsMode = "mutual" // with a client certificate
)

// loadResult is what the child prints.
type loadResult struct {
	Requests int           `json:"requests"`
	Failed   int           `json:"failed"`
	Example  string        `json:"example"`
	CPU      time.Duration `json:"cpu"`  // of the proxy within Elapsed
	User     time.Duration `json:"user"` // the part of it outside the kernel
	Elapsed  time.Duration `json:"elapsed"`
	Foreign  float64       `json:"foreign"` // share of one CPU that went to others
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
}

// runLoad is the child: it prints one loadResult, and with Idle a second one
// when told to look at its connections again by a byte on in. The end of in
// ends it.
func runLoad(argument string, in io.Reader, out io.Writer) error {
	var spec loadSpec
	if err := json.Unmarshal([]byte(argument), &spec); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	if spec.Idle {
		return holdIdle(spec, bufio.NewReader(in), json.NewEncoder(out))
	}
	// One window allocates little, and a collection would be in its latency.
	debug.SetGCPercent(-1)
	runtime.LockOSThread()
	// Without this the kernel may deliver a wake-up 50 us late.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("load: timer slack: %w", err)
	}
	if spec.Bulk {
		result, err := readBulk(spec)
		if err != nil {
			return fmt.Errorf("load: %w", err)
		}
		return json.NewEncoder(out).Encode(result)
	}
	start := newGenerator
	if spec.Streams > 0 {
		start = newH2Generator
	}
	g, err := start(spec)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	defer g.close()
	result, err := g.run()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return json.NewEncoder(out).Encode(result)
}

// holdIdle opens its connections one after the other, each with one request,
// and keeps them.
func holdIdle(spec loadSpec, in io.ByteReader, out *json.Encoder) error {
	sa, err := sockaddr(spec.Addr)
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	config, err := spec.clientTLS()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	clients := make([]held, 0, spec.Conns)
	buf := make([]byte, 64<<10)
	for range spec.Conns {
		c, err := hold(sa, config, &spec, buf)
		if err != nil {
			return fmt.Errorf("load: connection %d: %w", len(clients)+1, err)
		}
		clients = append(clients, c)
	}
	if err := out.Encode(loadResult{Requests: len(clients)}); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	for {
		if _, err := in.ReadByte(); err != nil {
			return nil
		}
		if err := out.Encode(count(clients)); err != nil {
			return fmt.Errorf("load: %w", err)
		}
	}
}

// held is an idle connection.
type held interface{ alive() bool }

// hold opens a connection and does one request on it.
func hold(sa *unix.SockaddrInet4, config *tls.Config, spec *loadSpec, buf []byte) (held, error) {
	if spec.Streams > 0 {
		c, err := openH2(sa, config, spec)
		if err != nil {
			return nil, err
		}
		return c, c.exchange(buf)
	}
	c, err := open(sa, config)
	if err != nil {
		return nil, err
	}
	c.http = true
	return c, c.exchange(spec.request(), body(spec.Size), buf)
}

func count(clients []held) loadResult {
	var r loadResult
	for _, c := range clients {
		if c.alive() {
			r.Requests++
		} else {
			r.Failed++
		}
	}
	return r
}

// exchange does one request and waits for its answer.
func (c *client) exchange(request, want, buf []byte) error {
	if err := c.send(request, want, time.Now()); err != nil {
		return err
	}
	for {
		if err := awaitReadable(c.fd, c.due); err != nil {
			return err
		}
		if complete, err := c.receive(buf); err != nil || complete {
			return err
		}
	}
}

// awaitReadable waits until fd may have something to read, at most until stallLimit
// after since.
func awaitReadable(fd int, since time.Time) error {
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(stallLimit.Milliseconds())); err != nil && err != unix.EINTR {
		return fmt.Errorf("poll: %w", err)
	}
	if time.Since(since) > stallLimit {
		return fmt.Errorf("no answer for %v", stallLimit)
	}
	return nil
}

func (s loadSpec) request() []byte {
	end := "\r\n"
	if s.NewConn {
		end = "Connection: close\r\n\r\n"
	}
	return fmt.Appendf(nil, "GET /%d HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: larboard-bench\r\nAccept: */*\r\n%s", s.Size, end)
}

// clientTLS asks for what both proxies speak, so that both do the same work:
// TLS 1.3 and X25519. AES-128-GCM is first in what crypto/tls offers.
func (s loadSpec) clientTLS() (*tls.Config, error) {
	if s.TLS == plainText {
		return nil, nil
	}
	pem, err := os.ReadFile(s.CA)
	if err != nil {
		return nil, fmt.Errorf("certificate: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("certificate: none in %s", s.CA)
	}
	config := &tls.Config{
		RootCAs:          pool,
		ServerName:       serverName,
		MinVersion:       tls.VersionTLS13,
		CurvePreferences: []tls.CurveID{tls.X25519},
	}
	if s.Streams > 0 {
		config.NextProtos = []string{"h2"}
	}
	if s.TLS == mutualTLS {
		pair, err := tls.LoadX509KeyPair(s.Cert, s.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
