package sidecar

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const besideAnApplication = `loops: 2
timeouts: {drain: %s}
drain: {outbound: %s}
listeners:
- {name: inbound, direction: inbound, address: 127.0.0.1:0, service: local}
- {name: out, direction: outbound, address: 127.0.0.1:0, service: far}
services:
- {name: local, endpoints: [%q]}
- {name: far, endpoints: [%q]}
`

// inboundClosed waits until nobody can connect to the inbound listener.
func inboundClosed(t *testing.T, r *rig, address string) {
	t.Helper()
	eventually(t, "the inbound listener to close", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// fresh asks over a connection of its own.
func fresh(address string) error {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + address)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			err = fmt.Errorf("status %d", resp.StatusCode)
		}
	}
	return err
}

// A workload that goes on calling after inbound has ended can connect until it has gone:
// with its port closed it is not gone while it calls.
func TestOutboundServesUntilTheWorkloadHasGone(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := newSidecar(t, fmt.Sprintf(besideAnApplication, "1h", "workload", l.Addr(), says(t, "far")), nil).begin()
	r.awaitReady()
	in, out := r.address("inbound"), r.address("out")
	r.Stop()
	inboundClosed(t, r, in)
	for end := time.Now().Add(quietFor + 2*askWorkload); time.Now().Before(end); {
		if err := fresh(out); err != nil {
			t.Fatalf("while the port is open: %v", err)
		}
	}
	open, err := net.Dial("tcp", out) // whatever happens to this test's time
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	l.Close()
	for end := time.Now().Add(quietFor + 2*askWorkload); time.Now().Before(end); {
		if err := fresh(out); err != nil {
			t.Fatalf("after the port has closed: %v", err)
		}
	}
	open.Close()
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if fresh(out) == nil {
		t.Error("the outbound listener outlived the run")
	}
}

func TestAWorkloadThatStaysHoldsUpNoMoreThanTheDeadline(t *testing.T) {
	for outbound, within := range map[string]string{"workload": "50ms", "inbound": "1h"} {
		t.Run(outbound, func(t *testing.T) {
			noLeaks(t)
			r := newSidecar(t, fmt.Sprintf(besideAnApplication, within, outbound, says(t, "app"), says(t, "far")), nil).begin()
			r.awaitReady()
			r.Stop()
			if err := r.wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
		})
	}
}

// child is an application below the proxy.
type child struct {
	asked, ended chan struct{}
	once         sync.Once
}

func newChild() *child { return &child{asked: make(chan struct{}), ended: make(chan struct{})} }

func (c *child) End()                   { c.once.Do(func() { close(c.asked) }) }
func (c *child) Ended() <-chan struct{} { return c.ended }

// An application below the proxy is asked to end once inbound has, and has its outbound
// until it has ended.
func TestAnApplicationIsAskedToEndAfterInbound(t *testing.T) {
	noLeaks(t)
	app, arrived, goOn := newChild(), make(chan struct{}), make(chan struct{})
	slow := origin(t, func(w http.ResponseWriter, _ *http.Request) {
		close(arrived)
		<-goOn
	})
	r := newSidecar(t, fmt.Sprintf(besideAnApplication, "1h", "inbound", slow, says(t, "far")), func(o *Options) { o.Application = app }).begin()
	r.awaitReady()
	in, out := r.address("inbound"), r.address("out")
	answer := make(chan error, 1)
	go func() { answer <- fresh(in) }()
	<-arrived
	r.Stop()
	inboundClosed(t, r, in)
	select {
	case <-app.asked:
		t.Error("asked to end with a request under way")
	default:
	}
	close(goOn)
	if err := <-answer; err != nil {
		t.Errorf("the request under way: %v", err)
	}
	<-app.asked
	for range 20 {
		if err := fresh(out); err != nil {
			t.Fatalf("a call of the application: %v", err)
		}
	}
	close(app.ended)
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

// Inbound that does not end leaves the application a third of the time.
func TestAnApplicationIsAskedToEndInTime(t *testing.T) {
	noLeaks(t)
	app := newChild()
	r := newSidecar(t, fmt.Sprintf(besideAnApplication, "3s", "inbound", hangs(t), says(t, "far")), func(o *Options) { o.Application = app }).begin()
	r.awaitReady()
	answer := ask(t, r.address("inbound"))
	eventually(t, "the request to be under way", func() bool { return r.inflight("local") == 1 })
	r.Stop()
	<-app.asked
	select {
	case <-r.done:
		t.Error("the run ended before the application was asked")
	default:
	}
	if err := r.wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
	<-answer
}
