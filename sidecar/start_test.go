package sidecar

import (
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// waiting is an identity that never comes.
func waiting(t testing.TB) string {
	return fmt.Sprintf("identity: {spiffe: {socket: \"unix://%s\"}}\n", filepath.Join(t.TempDir(), "none.sock"))
}

const oneListener = "loops: 2\nlisteners: [{name: in, address: %q, service: app}]\nservices: [{name: app, endpoints: [%q]}]\n"

func TestATakenPortEndsTheStartAtOnce(t *testing.T) {
	noLeaks(t)
	address := taken(t)
	r := newSidecar(t, waiting(t)+fmt.Sprintf(oneListener, address, "127.0.0.1:1"), nil)
	began := time.Now()
	err := r.begin().wait()
	if err == nil || !strings.Contains(err.Error(), `listener "in"`) || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("Run: %v", err)
	}
	if took := time.Since(began); took > identityWithin/2 {
		t.Errorf("after %v: it waited for an identity first", took)
	}
	if r.Ready() {
		t.Error("ready")
	}
}

func TestAStopWhileStartingEndsInPeace(t *testing.T) {
	for name, end := range map[string]func(*rig){"stop": func(r *rig) { r.Stop() }, "context": func(r *rig) { r.cancel() }} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			address := free(t)
			r := newSidecar(t, waiting(t)+fmt.Sprintf(oneListener, address, "127.0.0.1:1"), nil).begin()
			dialUntilBound(t, address).Close()
			end(r)
			if err := r.wait(); err != nil {
				t.Errorf("Run: %v", err)
			}
			if err := r.Reload(); err == nil {
				t.Error("a reload of what has ended")
			}
		})
	}
}

func TestAStopBeforeTheStart(t *testing.T) {
	noLeaks(t)
	r := newSidecar(t, fmt.Sprintf(oneListener, "127.0.0.1:0", "127.0.0.1:1"), nil)
	r.Stop()
	if err := r.begin().wait(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func dialUntilBound(t testing.TB, address string) net.Conn {
	t.Helper()
	var conn net.Conn
	eventually(t, "the address to be taken", func() bool {
		var err error
		conn, err = net.Dial("tcp", address)
		return err == nil
	})
	return conn
}

// Ready means that the first request is answered; who comes earlier waits.
func TestReadyComesAfterTheEndpoints(t *testing.T) {
	app, address, registry := says(t, "app"), free(t), &slow{}
	r := newSidecar(t, fmt.Sprintf("loops: 2\nlisteners: [{name: in, address: %q, service: app}]\nservices: [{name: app, discovery: {consul: {}}}]\n", address),
		func(o *Options) { o.Source = registry.source }).begin()
	early := dialUntilBound(t, address)
	defer early.Close()
	io.WriteString(early, "GET / HTTP/1.0\r\nHost: x\r\n\r\n")
	eventually(t, "the source to begin", func() bool { return registry.times("app") == 1 })
	if ready, why := r.readyView(); ready || len(why) != 1 || why[0] != "starting" || r.Ready() {
		t.Errorf("ready %v %q", ready, why)
	}
	if n := r.proxy.Active(true); n != 0 {
		t.Errorf("%d connections accepted before there are endpoints", n)
	}
	registry.answer("app", app)
	r.awaitReady()
	if got := get(t, address); got != "200 app" {
		t.Errorf("the first request after ready: %s", got)
	}
	early.SetReadDeadline(time.Now().Add(patience))
	if b, err := io.ReadAll(early); err != nil || !strings.HasSuffix(string(b), "app") {
		t.Errorf("who came early: %q %v", b, err)
	}
}

// A process that starts and ends many proxies has nothing left of them.
func TestNothingIsLeftBehind(t *testing.T) {
	app := says(t, "app")
	state := t.TempDir()
	noLeaks(t)
	for i := range 20 {
		text := fmt.Sprintf("admin: {address: 127.0.0.1:0}\nidentity: {dev: {state: %q}}\n", state) +
			fmt.Sprintf("access_log: {path: %q}\ndrain: {outbound: inbound}\n", filepath.Join(state, "access.log")) +
			fmt.Sprintf("loops: 2\nlisteners: [{name: in, address: 127.0.0.1:0, service: app}]\n"+
				"services: [{name: app, endpoints: [%q], health: {tcp: {}}}]\nworkload: {service: w, address: %q, listen: 127.0.0.1:0}\n", app, app)
		r := newSidecar(t, text, nil).begin()
		r.awaitReady()
		if got := get(t, r.address("in")); got != "200 app" {
			t.Fatal(got)
		}
		if err := r.Reload(); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			r.Stop()
		} else {
			r.cancel()
		}
		if err := r.wait(); err != nil {
			t.Fatal(err)
		}
	}
}
