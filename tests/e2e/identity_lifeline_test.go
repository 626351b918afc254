package e2e

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// lifeline is what became of one mesh connection, seen from its test's end.
type lifeline struct {
	opened, closed time.Time
	answered       time.Time // the last time
	until          time.Time // the earlier NotAfter of both sides
	requests       int
	busy           bool // requests came all the time
	announced      bool // the last answer said that the connection closes
}

// paused reports whether at a time there had been no request for so long that the
// other side may have closed without a word: half a second with certificates of ten,
// which a busy caller only reaches on a machine that did not let it run.
func (one *lifeline) paused(at time.Time) bool { return at.Sub(one.answered) > 350*time.Millisecond }

// lifelines collects them from several goroutines.
type lifelines struct {
	mu       sync.Mutex
	all      []lifeline
	failures []string
}

func (l *lifelines) add(one lifeline) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, one)
}

func (l *lifelines) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Sprintf(format, args...))
}

// check fails the test for failures and for connections that outlived a
// certificate, and logs what was seen.
func (l *lifelines) check(t testing.TB, what string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.failures {
		t.Errorf("%s: %s", what, f)
	}
	late, announced, longest, least := 0, 0, time.Duration(0), time.Hour
	for _, one := range l.all {
		if one.closed.After(one.until) {
			late++
			t.Errorf("%s: a connection closed %v after its certificate's end, %v after its begin, %d requests",
				what, one.closed.Sub(one.until), one.closed.Sub(one.opened), one.requests)
		}
		if one.announced {
			announced++
		} else if one.busy && !one.paused(one.closed) {
			t.Errorf("%s: a busy connection was closed without a word after %d requests", what, one.requests)
		}
		longest = max(longest, one.closed.Sub(one.opened))
		least = min(least, one.until.Sub(one.closed))
	}
	if len(l.all) == 0 {
		t.Errorf("%s: no connection ended", what)
	}
	t.Logf("%s: %d connections ended, %d past their certificate, %d announced; the longest lived %v, the closest ended %v before its certificate",
		what, len(l.all), late, announced, longest.Round(time.Millisecond), least.Round(time.Millisecond))
}

// earlier of the certificates that both sides of a connection have shown.
func earlier(state tls.ConnectionState, own tls.Certificate) time.Time {
	peer := state.PeerCertificates[0].NotAfter
	if own.Leaf.NotAfter.Before(peer) {
		return own.Leaf.NotAfter
	}
	return peer
}

// caller is a mesh peer of the test that holds connections to a sidecar, one after
// another, until stop. Every pause long it sends a request; 0: only one on each
// connection, which then waits. own is asked for the certificate of each.
func (l *lifelines) caller(address string, own func() tls.Certificate, pause time.Duration, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		certificate := own()
		conn, err := tls.Dial("tcp", address, meshClient(certificate))
		if err != nil {
			l.fail("dial: %v", err)
			return
		}
		one := lifeline{opened: time.Now(), until: earlier(conn.ConnectionState(), certificate), busy: pause > 0}
		whole := l.hold(conn, &one, pause, stop)
		conn.Close()
		if !whole {
			return
		}
		l.add(one)
	}
}

// hold uses a connection until the sidecar closes it; false: stop came first, or it
// failed.
func (l *lifelines) hold(conn *tls.Conn, one *lifeline, pause time.Duration, stop <-chan struct{}) bool {
	answers, ended := make(chan *http.Response, 1), make(chan error, 1)
	go func() {
		defer close(answers)
		ended <- readAnswers(conn, answers)
	}()
	defer func() {
		conn.Close()
		for range answers {
		}
	}()
	for {
		began := time.Now()
		_, err := io.WriteString(conn, "GET /held HTTP/1.1\r\nHost: api\r\n\r\n")
		resp, ok := <-answers
		if !ok {
			if one.closed = time.Now(); one.requests > 0 && one.paused(began) {
				return true
			}
			l.fail("no answer after %d requests, %v before the certificate's end: %v, %v", one.requests, time.Until(one.until), err, <-ended)
			return false
		}
		one.answered = time.Now()
		if one.requests++; resp.StatusCode != 200 {
			l.fail("status %d %s", resp.StatusCode, resp.Header.Get("X-Larboard-Reason"))
		}
		var again <-chan time.Time
		if one.announced = resp.Close; pause > 0 && !resp.Close {
			again = time.After(pause)
		}
		select {
		case <-again:
		case err := <-ended:
			if one.closed = time.Now(); !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				l.fail("ended with %v", err)
			}
			return true
		case <-stop:
			return false
		}
	}
}

// readAnswers reads answers until it cannot, and returns why.
func readAnswers(conn net.Conn, to chan<- *http.Response) error {
	r := bufio.NewReader(conn)
	for {
		resp, err := http.ReadResponse(r, nil)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
		}
		if err != nil {
			return err
		}
		to <- resp
	}
}

// endpoint is a mesh server of the test: callers' connections to it are noted.
// own is asked for the certificate of each. It serves until the test ends.
func (l *lifelines) endpoint(t testing.TB, own func() tls.Certificate) string {
	t.Helper()
	var mu sync.Mutex
	open := map[net.Conn]lifeline{}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler: named("test"),
		ConnState: func(c net.Conn, s http.ConnState) {
			mu.Lock()
			defer mu.Unlock()
			switch s {
			case http.StateActive:
				if _, known := open[c]; !known {
					held := c.(*heldConn)
					open[c] = lifeline{opened: time.Now(), until: earlier(held.ConnectionState(), held.own)}
				}
			case http.StateClosed:
				if one, known := open[c]; known {
					one.closed = time.Now()
					l.add(one)
					delete(open, c)
				}
			}
		},
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(heldListener{listener, own})
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return listener.Addr().String()
}

// heldConn is a server's connection that knows its own certificate.
type heldConn struct {
	*tls.Conn
	own tls.Certificate
}

type heldListener struct {
	net.Listener
	own func() tls.Certificate
}

func (l heldListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	own := l.own()
	return &heldConn{tls.Server(c, serverConfig(own)), own}, nil
}

// established lists the remote ends of the connections that the kernel holds open
// on a local IPv4 port, with their inodes: one row for each connection.
func established(port string) (map[string]bool, error) {
	text, err := os.ReadFile("/proc/net/tcp")
	if err != nil {
		return nil, err
	}
	var n int
	if _, err := fmt.Sscan(port, &n); err != nil {
		return nil, err
	}
	suffix, all := fmt.Sprintf(":%04X", n), map[string]bool{}
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) > 9 && strings.HasSuffix(f[1], suffix) && f[3] == "01" {
			all[f[2]+" "+f[9]] = true
		}
	}
	return all, nil
}
