package health

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"
)

// mostRead bounds what is read of an answer: head and as much of the body as fits,
// so that a short body does not end in a reset.
const mostRead = 64 << 10

// attempt is one check: one connection, closed at its end. The deadline of run's
// context is hard.
type attempt struct {
	dial    func(ctx context.Context, network, address string) (net.Conn, error)
	address string
	spec    *Spec
	tls     *tls.Config // nil: plain
}

// run returns what it found in words for log and API, and whether that is good.
func (a *attempt) run(ctx context.Context) (result string, ok bool) {
	network, address := "tcp", a.address
	if path, unix := strings.CutPrefix(address, "unix://"); unix {
		network, address = "unix", path
	}
	conn, err := a.dial(ctx, network, address)
	if err != nil {
		return a.failure("connect", err), false
	}
	defer func() { conn.Close() }()
	// The end of ctx, be it the timeout or our stop, ends whatever waits on conn.
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	if a.spec.First != "" {
		if _, err := io.WriteString(conn, a.spec.First); err != nil {
			return a.failure("send", err), false
		}
	}
	if a.tls != nil {
		secured := tls.Client(conn, a.config())
		if err := secured.HandshakeContext(ctx); err != nil {
			return a.failure("tls", err), false
		}
		if a.spec.Kind == GRPC && secured.ConnectionState().NegotiatedProtocol != http2 {
			return "tls: the endpoint does not offer HTTP/2 (ALPN h2), which gRPC needs", false
		}
		conn = secured
	}
	switch a.spec.Kind {
	case HTTP:
		return a.request(ctx, conn)
	case GRPC:
		return a.call(ctx, conn)
	}
	return "connected", true
}

// http2 is the name of HTTP/2 in a TLS handshake.
const http2 = "h2"

// config is that of the handshake.
func (a *attempt) config() *tls.Config {
	if a.spec.Kind != GRPC {
		return a.tls
	}
	c := a.tls.Clone()
	c.NextProtos = []string{http2}
	return c
}

// host is how the request names the endpoint where the spec does not say.
func (a *attempt) host() string {
	switch {
	case a.spec.Host != "":
		return a.spec.Host
	case strings.HasPrefix(a.address, "unix://"):
		return "localhost"
	}
	return a.address
}

// request asks over HTTP/1.1. Redirects are not followed: their status is the
// answer.
func (a *attempt) request(ctx context.Context, conn net.Conn) (result string, ok bool) {
	req, err := http.NewRequestWithContext(ctx, a.spec.Method, "http://"+a.host()+a.spec.Path, nil)
	if err != nil {
		return a.failure("request", err), false
	}
	req.Close = true
	req.Header.Set("User-Agent", "larboard-health")
	if err := req.Write(conn); err != nil {
		return a.failure("send", err), false
	}
	answer, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, mostRead)), req)
	if err != nil {
		return a.failure("answer", err), false
	}
	io.Copy(io.Discard, answer.Body) // bounded above; the verdict stands already
	return a.judge(answer.StatusCode)
}

func (a *attempt) judge(status int) (result string, ok bool) {
	expected := make([]string, 0, len(a.spec.Expect))
	for _, r := range a.spec.Expect {
		if r.Low <= status && status <= r.High {
			return fmt.Sprintf("status %d", status), true
		}
		expected = append(expected, r.String())
	}
	return fmt.Sprintf("status %d, expected %s", status, strings.Join(expected, ", ")), false
}

// failure words an error briefly: the phase, and the cause without the addresses
// that stand beside it in the log anyway.
func (a *attempt) failure(phase string, err error) string {
	var no syscall.Errno
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("%s: no answer within %s", phase, a.spec.Timeout)
	case errors.As(err, &no):
		return phase + ": " + no.Error()
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return phase + ": connection closed by the endpoint"
	}
	return phase + ": " + err.Error()
}
