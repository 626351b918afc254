package capture

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/tests/real"
)

// The addresses by which services are called that are somewhere else in fact.
const (
	shop, shop6 = "240.0.0.1", "2001:db8:5::1"
	store       = "240.0.0.2"
)

func configuration(capture, rest string) string {
	return `
capture: {` + capture + `}
identity: {dev: {trust_domain: example.org}}
workload: {service: web, address: 127.0.0.1:8080, listen: 0.0.0.0:20000}
listeners:
- {name: shop, direction: outbound, captures: ["` + shop + `:80", "[` + shop6 + `]:80"], service: shop}
- {name: store, direction: outbound, captures: ["` + store + `", "` + here + `:4711"], protocol: tcp, service: store}
services:
- {name: shop, endpoints: ["` + there + `:80"]}
- {name: store, endpoints: ["` + there + `:6379"]}
` + rest
}

// curlFailed reports whether curl has got nothing, because nothing was there.
func curlFailed(got string) bool { return strings.HasPrefix(got, "curl: exit code ") }

// redis starts a server on another machine.
func redis(t *testing.T, n *real.NetworkNamespace, address string) {
	t.Helper()
	cmd := n.Command("redis-server", "--bind", address, "--port", "6379", "--save", "", "--appendonly", "no", "--protected-mode", "no")
	cmd.Dir = t.TempDir()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// TestTraffic: programs that know nothing of a proxy call what they always called, and each connection
// is the listener's that stands for the address that it called.
func TestTraffic(t *testing.T) {
	for _, backend := range backends() {
		t.Run(backend, func(t *testing.T) {
			app, other := machines(t)
			serve(other, "other", 80, 81)
			serve(app, "app", 8080, 8081)
			redis(t, other, there)
			p := begin(t, app, configuration("outbound: true, inbound: true", ""))
			capture(t, app, "--backend", backend, "--exclude-users", fmt.Sprint(excluded))
			outbound(t, p, app)
			inbound(t, p, app, other)
			loops(t, p, app, other)
			refusing(t, p, app, other)

			before := p.accepted()
			capture(t, app, "--remove")
			expect(t, "out, without rules", get(app, application, there+":81"), "other "+there+":81")
			expect(t, "in, without rules", get(other, application, here+":8080"), "app "+here+":8080")
			if got := get(app, application, shop+":80"); !curlFailed(got) {
				t.Errorf("without rules, somebody answers for %s: %s", shop, got)
			}
			if after := p.accepted(); after != before {
				t.Errorf("without rules, %d connections", after-before)
			}
		})
	}
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func outbound(t *testing.T, p *proxied, app *real.NetworkNamespace) {
	t.Helper()
	through := func(e exchange) bool { return e.Service == "shop" && e.Endpoint == there+":80" && e.Status == 200 }
	expect(t, "a service", get(app, application, shop+":80"), "other "+there+":80")
	p.recorded("a service", "shop", through)
	expect(t, "a service over IPv6", get(app, application, "["+shop6+"]:80"), "other "+there+":80")
	p.recorded("a service over IPv6", "shop", func(e exchange) bool { return through(e) && strings.Contains(e.Client, here6) })

	ran := larboard(app, nil, "ctl", "captures", "--admin", "unix://"+p.admin, shop+":80")
	if !strings.Contains(ran.Stdout, "\nshop ") || strings.Contains(ran.Stdout, "store") {
		t.Errorf("who has %s: %s%s", shop, ran.Stdout, ran.Stderr)
	}

	said := func(args ...string) string {
		ran := app.Run(within, "setpriv", real.As(application, append([]string{"redis-cli", "-h", store, "-p", "6390"}, args...)...)...)
		return strings.TrimSpace(ran.Stdout + ran.Stderr)
	}
	expect(t, "redis", said("set", "colour", "blue"), "OK")
	expect(t, "redis", said("get", "colour"), "blue")
	p.recorded("redis", "store", func(e exchange) bool { return e.Protocol == "tcp" && e.Endpoint == there+":6379" })

	expect(t, "somebody unknown", get(app, application, there+":81"), "other "+there+":81")
	p.recorded("somebody unknown", "captured-outbound", func(e exchange) bool { return e.Service == "passthrough" && e.Endpoint == there+":81" })
	expect(t, "somebody unknown over IPv6", get(app, application, "["+there6+"]:81"), "other ["+there6+"]:81")
	p.recorded("somebody unknown over IPv6", "captured-outbound", func(e exchange) bool { return e.Endpoint == "["+there6+"]:81" })
	if got := get(app, application, there+":82"); !curlFailed(got) {
		t.Errorf("nobody there: %s", got)
	}
	p.recorded("nobody there", "captured-outbound", func(e exchange) bool { return e.Reason == "connect_failed" })

	before := p.accepted()
	expect(t, "who is excluded", get(app, excluded, there+":81"), "other "+there+":81")
	if after := p.accepted(); after != before {
		t.Errorf("who is excluded: %d connections", after-before)
	}
}

func inbound(t *testing.T, p *proxied, app, other *real.NetworkNamespace) {
	t.Helper()
	if got := get(other, application, here+":8080"); !curlFailed(got) {
		t.Errorf("plain text for the workload: %s", got)
	}
	p.until("plain text is refused", func() bool { return p.refusals("inbound", "tls_plain_text") == 1 })
	expect(t, "another port", get(other, application, here+":8081"), "app "+here+":8081")
	p.recorded("another port", "captured-inbound", func(e exchange) bool { return e.Endpoint == here+":8081" && strings.Contains(e.Client, there) })
	expect(t, "another port over IPv6", get(other, application, "["+here6+"]:8081"), "app ["+here6+"]:8081")

	p.reload(configuration("outbound: true, inbound: {plain: pass}", ""))
	expect(t, "plain text, while it passes", get(other, application, here+":8080"), "app 127.0.0.1:8080")
	p.recorded("plain text, while it passes", "inbound-plain", func(e exchange) bool {
		return e.Service == "local" && e.PeerID == "" && strings.Contains(e.Client, there)
	})
	expect(t, "plain text over IPv6", get(other, application, "["+here6+"]:8080"), "app 127.0.0.1:8080")
	p.reload(configuration("outbound: true, inbound: true", ""))
	if got := get(other, application, here+":8080"); !curlFailed(got) {
		t.Errorf("plain text for the workload, again: %s", got)
	}
}

// loops tries to have the proxy call itself.
func loops(t *testing.T, p *proxied, app, other *real.NetworkNamespace) {
	t.Helper()
	n := 0
	looped := func(what, listener string, from *real.NetworkNamespace, address string) {
		t.Helper()
		if got := get(from, application, address); !curlFailed(got) {
			t.Errorf("%s: %s", what, got)
		}
		n++
		p.until(what+" is refused", func() bool {
			return p.refusals("captured-outbound", "capture_loop")+p.refusals("captured-inbound", "capture_loop") == n
		})
	}
	looped("the capture port itself", "captured-outbound", app, "127.0.0.1:15001")
	looped("the capture port itself over IPv6", "captured-outbound", app, "[::1]:15001")
	looped("the inbound capture port, from elsewhere", "captured-inbound", other, here+":15006")

	// Rules of somebody else's that redirect what ours leave alone.
	table := filepath.Join(t.TempDir(), "more.nft")
	writeFile(t, table, `table inet more { chain output { type nat hook output priority -150
meta skuid != 1337 ip daddr `+here+` tcp dport { 15001, 15006, 20000 } redirect to :15001
}
}
`)
	app.MustRun("nft", "-f", table)
	for _, port := range []int{15001, 15006, 20000} {
		looped(fmt.Sprintf("port %d of the proxy's, redirected", port), "captured-outbound", app, fmt.Sprintf("%s:%d", here, port))
	}
	app.MustRun("nft", "delete", "table", "inet", "more")
}

func refusing(t *testing.T, p *proxied, app, other *real.NetworkNamespace) {
	t.Helper()
	p.reload(configuration("outbound: {unknown: refuse}, inbound: {unknown: refuse}", ""))
	for what, c := range map[string]struct {
		from     *real.NetworkNamespace
		address  string
		listener string
	}{
		"out":            {app, there + ":81", "captured-outbound"},
		"in":             {other, here + ":8081", "captured-inbound"},
		"in, over IPv6":  {other, "[" + here6 + "]:8081", "captured-inbound"},
		"out, over IPv6": {app, "[" + there6 + "]:81", "captured-outbound"},
	} {
		before := p.refusals(c.listener, "capture_unknown")
		if got := get(c.from, application, c.address); !curlFailed(got) {
			t.Errorf("%s, while the unknown is refused: %s", what, got)
		}
		p.until(what+" is refused", func() bool { return p.refusals(c.listener, "capture_unknown") == before+1 })
	}
	expect(t, "a service, while the unknown is refused", get(app, application, shop+":80"), "other "+there+":80")
}

// TestMutualTLS: on two machines with a proxy and rules each, an application calls the plain address of
// another. The connection between the machines is mutual TLS, and the called side knows who calls.
func TestMutualTLS(t *testing.T) {
	app, other := machines(t)
	serve(other, "other", 8080)
	state := openDir(t)
	const side = `
capture: {outbound: true, inbound: true}
identity: {dev: {trust_domain: example.org, state: %q}}
workload: {service: %s, address: 127.0.0.1:8080, listen: 0.0.0.0:20000, allow: ["/ns/default/dc/dc1/svc/web"]}
upstreams: [{service: %s, captures: %q, endpoints: [%q], ids: ["spiffe://example.org/ns/default/dc/dc1/svc/%s"]}]
`
	caller := begin(t, app, fmt.Sprintf(side, state, "web", "shop", there+":8080", there+":8080", "shop"))
	called := begin(t, other, fmt.Sprintf(side, state, "shop", "web", here+":8080", here+":8080", "web"))
	capture(t, app, "--exclude-users", fmt.Sprint(excluded))
	capture(t, other)
	expect(t, "the plain address", get(app, application, there+":8080"), "other 127.0.0.1:8080")
	caller.recorded("who called", "shop", func(e exchange) bool { return e.Endpoint == there+":8080" && e.Status == 200 })
	called.recorded("who was called", "inbound", func(e exchange) bool {
		return e.PeerID == "spiffe://example.org/ns/default/dc/dc1/svc/web" && strings.Contains(e.Client, here) && e.Status == 200
	})
	if got := get(app, excluded, there+":8080"); !curlFailed(got) {
		t.Errorf("without a proxy: %s", got)
	}
	called.until("plain text is refused", func() bool { return called.refusals("inbound", "tls_plain_text") == 1 })
}

// TestRulesThatSpareTheWrongUser: the proxy's own connections come back to it. It notices.
func TestRulesThatSpareTheWrongUser(t *testing.T) {
	app, other := machines(t)
	serve(other, "other", 81)
	p := begin(t, app, configuration("outbound: true", ""))
	capture(t, app, "--user", "4242", "--inbound-port", "0")
	if got := get(app, application, there+":81"); !curlFailed(got) {
		t.Errorf("got %q", got)
	}
	p.until("the loop is refused", func() bool { return p.refusals("captured-outbound", "capture_loop") > 0 })
	if n := p.accepted(); n > 5 {
		t.Errorf("%d connections were made of one", n)
	}
	if text := p.log.String(); !strings.Contains(text, fmt.Sprintf("spare the proxy's user, which is %d", proxy)) {
		t.Errorf("the log does not say whose connections are to be left alone:\n%s", text)
	}
	capture(t, app, "--inbound-port", "0")
	expect(t, "with the right user", get(app, application, there+":81"), "other "+there+":81")
}
