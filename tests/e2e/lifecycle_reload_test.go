package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/larboard-proxy/larboard/tests/load"
)

// app is a configuration of one listener `in` and one service.
func app(listener, endpoint string) string {
	return fmt.Sprintf("listeners: [%s]\nservices: [{name: app, endpoints: [%q]}]\n", listener, endpoint)
}

const plainListener = "{name: in, address: 127.0.0.1:0, service: app}"

func TestSIGHUPTakesEffectWithoutALostRequest(t *testing.T) {
	one, two := origin(t, named("one")), origin(t, named("two"))
	p := start(t, "proxy", app(plainListener, one))
	keep := send(t, load.Options{Addr: p.address("in")})
	fresh := send(t, load.Options{Addr: p.address("in"), NewConn: true, Rate: 100})
	reloads := 0
	for range 5 {
		for _, to := range []struct{ name, endpoint string }{{"two", two}, {"one", one}} {
			before := keep.counts()[to.name]
			p.configure(app(plainListener, to.endpoint))
			p.signal(syscall.SIGHUP)
			reloads++
			eventually(t, patience, to.name+" answers after SIGHUP", func() error {
				if got := keep.counts()[to.name]; got < before+5 {
					return fmt.Errorf("%d answers", got)
				}
				return nil
			})
		}
	}
	result := keep.endClean()
	fresh.endClean()
	if result.Dials != 8 || result.Closes != 0 {
		t.Errorf("%d connections opened and %d closed by the proxy; want the 8 of the start to live on", result.Dials, result.Closes)
	}
	if n := p.scrape().sum("larboard_config_reloads_total", `result="applied"`); n != float64(reloads) {
		t.Errorf("%v reloads counted, want %d", n, reloads)
	}
}

func TestReloadOfABadFileKeepsTheOldOne(t *testing.T) {
	one := origin(t, named("one"))
	p := start(t, "proxy", app(plainListener, one))
	traffic := send(t, load.Options{Addr: p.address("in")})
	p.configure("listeners:\n- name: in\n  adress: 127.0.0.1:0\n  service: apq\nservices: [{name: app, endpoints: [" + one + "]}]\n")

	p.signal(syscall.SIGHUP)
	p.waitLog(`larboard.yaml:3:3: listeners[0].adress: unknown field; did you mean \"address\"?`)
	p.waitLog(`larboard.yaml:4:12: listeners[0].service: no service is named \"apq\"; did you mean \"app\"?`)

	status, body := p.reload()
	for _, want := range []string{`"applied": false`, `"line": 3`, `"column": 3`, `"line": 4`, `did you mean`} {
		if status != http.StatusUnprocessableEntity || !strings.Contains(body, want) {
			t.Errorf("POST reload: %d, want 422 with %s in\n%s", status, want, body)
		}
	}
	if n := p.scrape().sum("larboard_config_reloads_total", `result="refused"`); n != 2 {
		t.Errorf("%v refused reloads counted, want 2", n)
	}
	traffic.await(20)
	traffic.endClean()
	p.configure(app(plainListener, one))
	if status, body := p.reload(); status != http.StatusOK {
		t.Errorf("POST reload of the good file: %d %s", status, body)
	}
	var config struct{ Services []struct{ Name string } }
	p.view("/api/v1/config", &config)
	if len(config.Services) != 1 || config.Services[0].Name != "app" {
		t.Errorf("/api/v1/config: %+v", config)
	}
}

// A reload may do anything to listeners; what it leaves alone goes on.
func TestReloadAddsRemovesAndMovesListeners(t *testing.T) {
	one := origin(t, named("one"))
	a, b, c := freeAddress(t), freeAddress(t), freeAddress(t)
	at := func(name, address string) string {
		return fmt.Sprintf("{name: %s, address: %s, service: app}", name, address)
	}
	steady := at("steady", "127.0.0.1:0")
	p := start(t, "proxy", app(steady+", "+at("x", a), one))
	traffic := send(t, load.Options{Addr: p.address("steady"), NewConn: true})
	onA := send(t, load.Options{Addr: a, NewConn: true, Rate: 100})
	for _, step := range []struct {
		name, listeners string
		open, closed    []string
	}{
		{"added", at("x", a) + ", " + at("y", b), []string{a, b}, []string{c}},
		{"addresses swapped", at("x", b) + ", " + at("y", a), []string{a, b}, []string{c}},
		{"renamed", at("z", a), []string{a}, []string{b, c}},
		{"a second address", at("z", "["+a+", "+c+"]"), []string{a, c}, []string{b}},
		{"one address fewer", at("z", a), []string{a}, []string{b, c}},
		{"another protocol", "{name: z, address: " + a + ", protocol: tcp, service: app}", []string{a}, []string{b, c}},
	} {
		p.configure(app(steady+", "+step.listeners, one))
		if status, body := p.reload(); status != http.StatusOK {
			t.Fatalf("%s: reload answered %d %s", step.name, status, body)
		}
		for _, address := range step.open {
			if status, body, _ := get(t, "http://"+address+"/"); status != 200 || body != "one" {
				t.Errorf("%s: %s answers %d %q", step.name, address, status, body)
			}
		}
		for _, address := range step.closed {
			eventually(t, patience, step.name+": "+address+" is closed", func() error {
				conn, err := net.Dial("tcp", address)
				if err != nil {
					return nil
				}
				conn.Close()
				return fmt.Errorf("it accepts")
			})
		}
		onA.await(10)
	}
	onA.endClean()
	traffic.endClean()
}

func TestReloadThatCannotBindChangesNothing(t *testing.T) {
	one, two := origin(t, named("one")), origin(t, named("two"))
	p := start(t, "proxy", app(plainListener, one))
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	p.configure(app(plainListener+fmt.Sprintf(", {name: late, address: %s, service: app}", taken.Addr()), two))
	status, body := p.reload()
	if status != http.StatusUnprocessableEntity || !strings.Contains(body, `listener \"late\"`) || !strings.Contains(body, "address already in use") {
		t.Errorf("reload answered %d %s", status, body)
	}
	if _, body, _ := get(t, "http://"+p.address("in")+"/"); body != "one" {
		t.Errorf("%q answers, want the service as it was", body)
	}
}

func TestReloadLeavesTunnelsAndConnectionsAlone(t *testing.T) {
	echo := echoServer(t)
	one := origin(t, named("one"))
	configuration := func(listeners string) string {
		return fmt.Sprintf("listeners: [%s]\nservices: [{name: echo, endpoints: [%q]}, {name: app, endpoints: [%q]}]\n", listeners, echo, one)
	}
	const tcp, web = "{name: tcp, address: 127.0.0.1:0, protocol: tcp, service: echo}", "{name: web, address: 127.0.0.1:0, service: app}"
	p := start(t, "proxy", configuration(tcp+","+web))
	tunnel, kept := dial(t, p.address("tcp")), dial(t, p.address("web"))
	say := func(when string) {
		t.Helper()
		if _, err := io.WriteString(tunnel, when+"\n"); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		if line, err := tunnel.r.ReadString('\n'); err != nil || line != when+"\n" {
			t.Fatalf("%s: the tunnel says %q, %v", when, line, err)
		}
	}
	ask := func(when string) *http.Response {
		t.Helper()
		if _, err := io.WriteString(kept, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		resp, err := http.ReadResponse(kept.r, nil)
		if err != nil {
			t.Fatalf("%s: %v", when, err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != "one" {
			t.Fatalf("%s: %q, %v", when, body, err)
		}
		return resp
	}
	say("before")
	ask("before")
	p.configure(configuration(tcp + "," + web + ",{name: more, address: 127.0.0.1:0, service: app}"))
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("reload answered %d %s", status, body)
	}
	say("after a listener was added")
	if ask("after a listener was added").Close {
		t.Error("a reload that does not concern it closes a connection")
	}
	p.configure(configuration("{name: more, address: 127.0.0.1:0, service: app}"))
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("reload answered %d %s", status, body)
	}
	say("after its own listener has gone")
	if !ask("after its own listener has gone").Close {
		t.Error("the connection of a listener that has gone is not told to close")
	}
}

// connection is a client's, with a reader.
type connection struct {
	net.Conn
	r *bufio.Reader
}

func dial(t testing.TB, address string) connection {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return connection{conn, bufio.NewReader(conn)}
}

// A connection that lives through a reload finds what its listener has become.
func TestReloadChangesWhatAListenerSpeaks(t *testing.T) {
	one := origin(t, named("one"))
	p := start(t, "proxy", app(plainListener, one))
	conn := dial(t, p.address("in"))
	ask := func() (*http.Response, error) {
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			return nil, err
		}
		resp, err := http.ReadResponse(conn.r, nil)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
		}
		return resp, err
	}
	if resp, err := ask(); err != nil || resp.StatusCode != 200 {
		t.Fatalf("%v %v", resp, err)
	}
	p.configure(app("{name: in, address: 127.0.0.1:0, protocol: tcp, service: app}", one))
	if status, body := p.reload(); status != http.StatusOK {
		t.Fatalf("reload answered %d %s", status, body)
	}
	if resp, err := ask(); err != nil || resp.StatusCode != 200 {
		t.Errorf("a request on a connection from before: %v %v", resp, err)
	}
	if n := p.scrape().sum("larboard_engine_panics_total"); n != 0 {
		t.Errorf("%v panics", n)
	}
	if status, body, _ := get(t, "http://"+p.address("in")+"/"); status != 200 || body != "one" {
		t.Errorf("a new connection: %d %q", status, body)
	}
}
