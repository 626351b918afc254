package load

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// bodyLimit bounds what one answer may make the client hold.
const bodyLimit = 64 << 20

// failure is one failed request: its class for the count, its error for the
// examples. retryable says that no byte of an answer was seen.
type failure struct {
	class     string
	err       error
	retryable bool
}

// worker owns one connection at a time and sends one request at a time on it.
type worker struct {
	run    *run
	conn   net.Conn
	reader *bufio.Reader
	used   bool // conn has carried a request
}

func (w *worker) loop(ctx context.Context) {
	defer w.close()
	for {
		due, ok := w.run.next()
		if !ok || !sleepUntil(ctx, due) {
			return
		}
		f := w.request(ctx)
		if ctx.Err() != nil {
			return
		}
		w.run.record(due, f)
	}
}

func sleepUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// request sends one request and repeats it at most once: only on a kept
// connection that ended before any byte of an answer, and only when the method
// may be repeated (RFC 9110 section 9.2.2, RFC 9112 section 9.3.1).
func (w *worker) request(ctx context.Context) *failure {
	ctx, cancel := context.WithTimeout(ctx, w.run.o.Timeout)
	defer cancel()
	w.dropIfClosed()
	kept := w.used
	f := w.attempt(ctx)
	if f != nil && f.retryable && kept && idempotent(w.run.o.Method) {
		w.run.count(&w.run.result.Retried)
		f = w.attempt(ctx)
	}
	return f
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete, http.MethodOptions, http.MethodTrace:
		return true
	}
	return false
}

// attempt runs one request on the connection, dialling if there is none. After
// a failure the connection is gone.
func (w *worker) attempt(ctx context.Context) *failure {
	if w.conn == nil {
		if f := w.dial(ctx); f != nil {
			return f
		}
	}
	stop := context.AfterFunc(ctx, w.expire(w.conn))
	keep, f := w.roundTrip()
	// An expiry that began just now spoils the connection for the next request.
	if expired := !stop(); f != nil || !keep || expired {
		w.close()
	}
	return f
}

// expire ends whatever conn is waiting for; ctx carries the request's timeout.
func (w *worker) expire(conn net.Conn) func() {
	return func() { conn.SetDeadline(time.Unix(1, 0)) }
}

func (w *worker) dial(ctx context.Context) *failure {
	o := w.run.o
	w.run.count(&w.run.result.Dials)
	conn, err := (&net.Dialer{}).DialContext(ctx, o.Network, o.Addr)
	if err != nil {
		return classify("dial", err)
	}
	if o.TLS != nil {
		secure := tls.Client(conn, o.TLS)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return classify("handshake", err)
		}
		conn = secure
	}
	w.conn, w.reader, w.used = conn, bufio.NewReaderSize(conn, 16<<10), false
	return nil
}

func (w *worker) close() {
	if w.conn != nil {
		w.conn.Close()
	}
	w.conn, w.reader, w.used = nil, nil, false
}

// roundTrip writes the request and judges the answer. A write that fails is
// not the end: the server may have answered before it closed.
func (w *worker) roundTrip() (keep bool, _ *failure) {
	w.used = true
	_, writeErr := w.conn.Write(w.run.request)
	if _, err := w.reader.Peek(1); err != nil {
		if writeErr != nil {
			err = writeErr
		}
		f := classify("reset", err)
		f.retryable = f.class == "reset"
		return false, f
	}
	resp, err := readFinal(w.reader, w.run.o.Method)
	if err != nil {
		return false, classify("protocol", err)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, bodyLimit))
	resp.Body.Close()
	if err != nil {
		return false, classify("truncated", err)
	}
	if resp.Close && !w.run.o.NewConn {
		w.run.count(&w.run.result.Closes)
	}
	keep = !resp.Close && !w.run.o.NewConn && writeErr == nil
	return keep, w.judge(resp, body)
}

// readFinal skips interim answers (RFC 9110 section 15.2).
func readFinal(r *bufio.Reader, method string) (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
}

func (w *worker) judge(resp *http.Response, body []byte) *failure {
	o := w.run.o
	if resp.StatusCode/100 != 2 {
		first, _, _ := strings.Cut(string(body), "\n")
		return &failure{class: "status " + strconv.Itoa(resp.StatusCode), err: fmt.Errorf("%s %.200q", resp.Status, first)}
	}
	if o.WantBody != nil && !bytes.Equal(body, o.WantBody) {
		return &failure{class: "body", err: fmt.Errorf("%d bytes %.60q, want %d bytes %.60q", len(body), body, len(o.WantBody), o.WantBody)}
	}
	if o.Check != nil {
		if err := o.Check(resp, body); err != nil {
			return &failure{class: "check", err: err}
		}
	}
	return nil
}

// classify names an error; phase is the class when it has no closer name.
func classify(phase string, err error) *failure {
	class := phase
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		class = "timeout"
	case phase == "dial" || phase == "handshake" || phase == "truncated":
	case errors.Is(err, io.ErrUnexpectedEOF):
		class = "truncated"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		class = "reset"
	}
	return &failure{class: class, err: err}
}
