package e2e

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/tests/load"
	"github.com/larboard-proxy/larboard/tests/real"
)

// defined is a service registered with a sidecar, as its owner does it.
type defined struct {
	agent  *real.ConsulAgent
	name   string
	local  string // address of the application
	listen string // of the sidecar
}

func portOf(t testing.TB, address string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// define registers the service with its upstreams; again with others to change them.
func (d *defined) define(t testing.TB, settings map[string]any, upstreams ...map[string]any) {
	t.Helper()
	d.agent.Register(real.Service{
		ID: d.name + "-1", Name: d.name, Address: "127.0.0.1", Port: portOf(t, d.local),
		Connect: map[string]any{"SidecarService": map[string]any{
			"Port":  portOf(t, d.listen),
			"Check": map[string]any{"TCP": d.listen, "Interval": "100ms"},
			"Proxy": map[string]any{"Config": settings, "Upstreams": upstreams},
		}},
	})
}

func definedUpstream(t testing.TB, name, bind string, settings map[string]any) map[string]any {
	return map[string]any{"DestinationName": name, "LocalBindPort": portOf(t, bind), "Config": settings}
}

// answers waits until an address answers with a text.
func answers(t testing.TB, p *larboard, address, want string) {
	t.Helper()
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, patience, want+" answers at "+address, func() error {
		select {
		case <-p.exited:
			t.Fatalf("%s ended: %v\n%s", p.name, p.err, p.log())
		default:
		}
		resp, err := client.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Larboard-Reason") != "" {
			return errors.New(resp.Status)
		}
		return nil
	})
}

// Two services registered with sidecars run with the name alone; the definition's
// changes take effect under load.
func TestSidecarForAServiceAndNothingElse(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	api := defined{agent, "api", origin(t, named("api")), freeAddress(t)}
	db := defined{agent, "db", origin(t, named("db")), freeAddress(t)}
	web := defined{agent, "web", origin(t, named("web")), freeAddress(t)}
	toAPI, toDB := freeAddress(t), freeAddress(t)
	http := map[string]any{"protocol": "http"}
	api.define(t, http)
	db.define(t, nil)
	web.define(t, nil, definedUpstream(t, "api", toAPI, http))

	environment := []string{"CONSUL_HTTP_ADDR=" + agent.Address}
	sidecars := map[string]*larboard{}
	for _, name := range []string{"api-1", "db-1", "web"} { // by ID, and by name
		sidecars[name] = launchPlain(t, name, environment, "run", "--sidecar-for", name)
	}
	proxy := sidecars["web"]
	answers(t, proxy, toAPI, "api")

	traffic := send(t, load.Options{Addr: toAPI, Host: "api", Rate: rate(), Conns: 16})
	traffic.await(100)
	web.define(t, nil, definedUpstream(t, "api", toAPI, http), definedUpstream(t, "db", toDB, nil))
	changed := time.Now()
	answers(t, proxy, toDB, "db")
	t.Logf("the second upstream answered %v after its definition", time.Since(changed))
	traffic.await(100)

	// Intentions are enforced without being asked for.
	deny := map[string]any{"Kind": "service-intentions", "Name": "db", "Sources": []map[string]any{{"Name": "web", "Action": "deny"}}}
	if err := agent.Call("PUT", "/v1/config", deny, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, patience, "db refuses web", func() error {
		conn, err := net.Dial("tcp", toDB)
		if err != nil {
			return err
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(2 * time.Second))
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: db\r\n\r\n")
		if n, err := conn.Read(make([]byte, 12)); err == nil && n > 0 {
			return errors.New("it answers")
		}
		return nil
	})
	traffic.await(100)

	// What it comes to, for the operator's eyes.
	code, out, errs := command(t, shortDir(t), "config", "--sidecar-for", "web-1", "--consul", agent.Address)
	for _, want := range []string{"service: web", "127.0.0.1:" + strconv.Itoa(portOf(t, toAPI)), "protocol: http", "protocol: tcp"} {
		if !strings.Contains(out, want) {
			t.Errorf("config (exit code %d) does not hold %q:\n%s%s", code, want, out, errs)
		}
	}
	traffic.endClean()
}

// What cannot be done is said, with the field that asks for it.
func TestSidecarForIsRefused(t *testing.T) {
	t.Parallel()
	agent := real.Consul(t, real.ConsulOptions{})
	web := defined{agent, "web", "127.0.0.1:8000", "127.0.0.1:20000"}
	web.define(t, nil, map[string]any{"DestinationName": "api", "DestinationType": "prepared_query", "LocalBindPort": 9191})
	dir := shortDir(t)
	at := []string{"--consul", agent.Address}
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"a prepared query": {[]string{"--sidecar-for", "web-1"}, 2, `definition of "web-1-sidecar-proxy" in Consul: Proxy.Upstreams[0].DestinationType: "prepared_query" is not supported`},
		"nobody":           {[]string{"--sidecar-for", "nobody"}, 1, `find the sidecar of "nobody" at ` + agent.Address + ": none is registered"},
		"flags alone":      {nil, 2, "--consul and --token-file go with --sidecar-for"},
	} {
		code, out, errs := command(t, dir, append(append([]string{"config"}, c.args...), at...)...)
		if code != c.code || !strings.Contains(errs, c.want) {
			t.Errorf("%s: exit code %d\n%s%s\nwant %d and %q", name, code, out, errs, c.code, c.want)
		}
	}
}
