package sidecar

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

const inAndOut = `loops: 2
timeouts: {drain: %s}
listeners:
- {name: in, direction: inbound, address: 127.0.0.1:0, service: app}
- {name: out, direction: outbound, address: 127.0.0.1:0, service: far}
services:
- {name: app, endpoints: [%q]}
- {name: far, endpoints: [%q]}
`

// A workload that is still answering may still need others to answer.
func TestOutboundServesUntilInboundHasEnded(t *testing.T) {
	noLeaks(t)
	arrived, goOn, out := make(chan struct{}), make(chan struct{}), ""
	app := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-goOn
		text, err := fetch(out)
		fmt.Fprint(w, "app got ", text, err)
	})
	r := newSidecar(t, fmt.Sprintf(inAndOut, "1m", app, says(t, "far")), nil).begin()
	r.awaitReady()
	in := r.address("in")
	out = r.address("out")
	answer := make(chan string, 1)
	go func() {
		text, err := fetch(in)
		answer <- fmt.Sprint(text, err)
	}()
	<-arrived
	r.Stop()
	r.Stop()
	eventually(t, "the inbound listener to close", func() bool {
		conn, err := net.Dial("tcp", in)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	if ready, why := r.readyView(); ready || why[0] != "draining" {
		t.Errorf("ready %v %q", ready, why)
	}
	close(goOn)
	if got, want := <-answer, "200 app got 200 far<nil><nil>"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if _, err := fetch(out); err == nil {
		t.Error("the outbound listener outlived the run")
	}
}

func TestTheDeadlineOfADrainCutsWhatIsLeft(t *testing.T) {
	noLeaks(t)
	r := newSidecar(t, fmt.Sprintf(inAndOut, "50ms", hangs(t), "127.0.0.1:1"), nil).begin()
	r.awaitReady()
	answer := ask(t, r.address("in"))
	eventually(t, "the request to be under way", func() bool { return r.inflight("app") == 1 })
	r.Stop()
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if err := <-answer; err == nil {
		t.Error("an answer of one that hangs")
	}
	if n := r.inflight("app"); n != 0 {
		t.Errorf("%d in flight after the end", n)
	}
}

func TestTheEndOfTheContextCutsADrain(t *testing.T) {
	noLeaks(t)
	r := newSidecar(t, fmt.Sprintf(inAndOut, "1h", hangs(t), "127.0.0.1:1"), nil).begin()
	r.awaitReady()
	answer := ask(t, r.address("in"))
	eventually(t, "the request to be under way", func() bool { return r.inflight("app") == 1 })
	r.Stop()
	r.cancel()
	if err := r.wait(); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v, want the context's error", err)
	}
	if err := <-answer; err == nil {
		t.Error("an answer of one that hangs")
	}
}

// inflight is what is under way at the service's endpoints.
func (r *rig) inflight(service string) (n int64) {
	for _, m := range r.serviceMap()[service].Set().Members {
		n += m.Inflight()
	}
	return n
}

// hangs is an origin that never answers.
func hangs(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		var all []net.Conn
		for {
			c, err := l.Accept()
			if err != nil {
				for _, c := range all {
					c.Close()
				}
				return
			}
			all = append(all, c)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
	})
	return l.Addr().String()
}

// ask sends a request and tells how its connection ended.
func ask(t testing.TB, address string) <-chan error {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	result := make(chan error, 1)
	go func() {
		defer conn.Close()
		b, err := io.ReadAll(conn)
		if err == nil && len(b) == 0 || err == nil && string(b[:12]) == "HTTP/1.1 503" {
			err = errors.New("cut")
		}
		result <- err
	}()
	return result
}
