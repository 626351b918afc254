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
	if a.tls != nil {
		secured := tls.Client(conn, a.tls)
		if err := secured.HandshakeContext(ctx); err != nil {
			return a.failure("tls", err), false
		}
		conn = secured
	}
	if a.spec.Kind == HTTP {
		return a.request(ctx, conn)
	}
	return "connected", true
}

// request asks over HTTP/1.1. Redirects are not followed: their status is the
// answer.
func (a *attempt) request(ctx context.Context, conn net.Conn) (result string, ok bool) {
	host := a.spec.Host
	if host == "" {
		if host = a.address; strings.HasPrefix(host, "unix://") {
			host = "localhost"
		}
	}
	req, err := http.NewRequestWithContext(ctx, a.spec.Method, "http://"+host+a.spec.Path, nil)
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
