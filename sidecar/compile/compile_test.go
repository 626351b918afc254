package compile

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/sidecar/config"
	"github.com/larboard-proxy/larboard/sidecar/http1"
	"github.com/larboard-proxy/larboard/sidecar/identity"
	"github.com/larboard-proxy/larboard/sidecar/proxy"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// load reads a configuration as a start does.
func load(t *testing.T, text string) *config.Config {
	t.Helper()
	c, problems := config.Load("test.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return config.Expand(c)
}

func compiled(t *testing.T, text string, id *identity.Current) *Output {
	t.Helper()
	out, err := Compile(Input{Config: load(t, text), Identities: map[string]*identity.Current{"": id}, Generation: 7, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func none() *identity.Current { return identity.NewCurrent(slog.New(slog.DiscardHandler)) }

const services = "\nservices: [{name: a, endpoints: [127.0.0.1:1]}, {name: b, endpoints: [127.0.0.1:2]}]\n"

// listener is what the table below holds a listener to, in words.
func listener(l *proxy.ListenerConfig) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %v %s inbound=%v tls=%v allow=%v connect=%v", l.Name, l.Addresses, l.Protocol, l.Inbound, l.TLS != nil, l.Allow != nil, l.HTTP.AllowConnect)
	if l.Service != nil {
		fmt.Fprintf(&b, " service=%s", l.Service.Name)
	}
	for _, r := range l.Routes {
		f := r.Steps[0].(*proxy.Forwarded)
		fmt.Fprintf(&b, "\n  %s -> %s, trust %v, %s", r.Name, r.Service.Name, f.Trust, f.Proto)
	}
	return b.String()
}

func TestListeners(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"one service", "listeners: [{name: in, address: 127.0.0.1:1, service: a}]" + services,
			"in [127.0.0.1:1] http inbound=true tls=false allow=false connect=false\n  default -> a, trust false, http"},
		{"outbound trusts its workload", "listeners: [{name: out, direction: outbound, address: [127.0.0.1:1, \"[::1]:1\"], service: a, allow_connect: true}]" + services,
			"out [127.0.0.1:1 [::1]:1] http inbound=false tls=false allow=false connect=true\n  default -> a, trust true, http"},
		{"tcp", "listeners: [{name: in, address: 127.0.0.1:1, protocol: tcp, service: b}]" + services,
			"in [127.0.0.1:1] tcp inbound=true tls=false allow=false connect=false service=b"},
		{"routes keep their order and have names", "listeners:\n- name: in\n  address: 127.0.0.1:1\n  routes:\n" +
			"  - {match: {host: x.example, path_prefix: /v1}, service: b}\n  - {match: {path: /exactly}, service: a}\n" +
			"  - {match: {host: \"*.example\"}, service: b}\n  - {match: {path_prefix: /p}, service: b}\n  - {service: a}" + services,
			"in [127.0.0.1:1] http inbound=true tls=false allow=false connect=false\n  x.example/v1 -> b, trust false, http\n" +
				"  /exactly -> a, trust false, http\n  *.example -> b, trust false, http\n  /p -> b, trust false, http\n  default -> a, trust false, http"},
		{"mesh trusts whom it knows", "identity: {dev: {}}\nlisteners: [{name: in, address: 127.0.0.1:1, service: a, tls: {spiffe: {}}}]" + services,
			"in [127.0.0.1:1] http inbound=true tls=true allow=true connect=false\n  default -> a, trust true, https"},
		{"the shorthand", "identity: {dev: {}}\nworkload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000}\nupstreams: [{service: api, bind: 127.0.0.1:9191}]\n",
			"inbound [0.0.0.0:20000] http inbound=true tls=true allow=true connect=false\n  default -> local, trust true, https\n" +
				"api [127.0.0.1:9191] http inbound=false tls=false allow=false connect=false\n  default -> api, trust true, http"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := compiled(t, c.text, none())
			var all []string
			for _, l := range out.Snapshot.Listeners {
				all = append(all, listener(l))
			}
			if got := strings.Join(all, "\n"); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
			if out.Snapshot.Generation != 7 || len(out.Snapshot.Services) != len(out.Services) {
				t.Errorf("generation %d, %d services of %d", out.Snapshot.Generation, len(out.Snapshot.Services), len(out.Services))
			}
		})
	}
}

func TestRoutesMatchInTheirOrder(t *testing.T) {
	out := compiled(t, "listeners:\n- name: in\n  address: 127.0.0.1:1\n  routes:\n"+
		"  - {match: {host: x.example, path_prefix: /v1}, service: b}\n  - {match: {path_prefix: /v1}, service: a}\n  - {match: {path: /v1/x}, service: b}\n"+services, nil)
	l := out.Snapshot.Listeners[0]
	for _, c := range []struct{ host, path, want string }{
		{"x.example", "/v1/x", "x.example/v1"}, {"y.example", "/v1", "/v1"}, {"y.example", "/v1/x?q", "/v1"}, {"x.example", "/other", "none"},
	} {
		got := "none"
		if i, ok := l.Table.Match([]byte(c.host), []byte(c.path)); ok {
			got = l.Routes[i].Name
		}
		if got != c.want {
			t.Errorf("%s%s: %s, want %s", c.host, c.path, got, c.want)
		}
	}
}

func TestTimeoutsAndLimitsAreInherited(t *testing.T) {
	out := compiled(t, `
timeouts: {connect: 1s, request_head: 2s, idle: 3s, body: 4s, response_head: 5s, request: 6s, tunnel: 7s}
limits: {head: 16KiB, fields: 9, request_line: 1KiB}
listeners:
- {name: all, address: 127.0.0.1:1, service: a}
- {name: own, address: 127.0.0.1:2, service: b, timeouts: {idle: 30s}}
services:
- {name: a, endpoints: [127.0.0.1:1]}
- {name: b, endpoints: [127.0.0.1:2], balance: p2c, timeouts: {connect: 10s, request: 0s, tunnel: 70s}}
`, nil)
	s := time.Second
	if got, want := out.Snapshot.Listeners[0].Timeouts, (proxy.Timeouts{RequestHead: 2 * s, KeepAlive: 3 * s, Body: 4 * s}); got != want {
		t.Errorf("listener: %+v", got)
	}
	if got, want := out.Snapshot.Listeners[1].Timeouts, (proxy.Timeouts{RequestHead: 2 * s, KeepAlive: 30 * s, Body: 4 * s}); got != want {
		t.Errorf("listener with its own: %+v", got)
	}
	a, b := out.Services["a"].Settings(), out.Services["b"].Settings()
	if want := (upstream.Timeouts{Connect: s, ResponseHead: 5 * s, Request: 6 * s, Body: 4 * s, Idle: 3 * s, Tunnel: 7 * s}); a.Timeouts != want || a.Balance != "round_robin" {
		t.Errorf("service: %+v", a)
	}
	if want := (upstream.Timeouts{Connect: 10 * s, ResponseHead: 5 * s, Body: 4 * s, Idle: 3 * s, Tunnel: 70 * s}); b.Timeouts != want || b.Balance != "p2c" {
		t.Errorf("service with its own: %+v", b)
	}
	for _, l := range []struct{ head, fields, line int }{
		{out.Snapshot.Listeners[0].HTTP.Limits.Head, out.Snapshot.Listeners[0].HTTP.Limits.Fields, out.Snapshot.Listeners[0].HTTP.Limits.RequestLine},
		{a.HTTP.Limits.Head, a.HTTP.Limits.Fields, a.HTTP.Limits.RequestLine},
	} {
		if l.head != 16<<10 || l.fields != 9 || l.line != 1<<10 {
			t.Errorf("limits %+v", l)
		}
	}
}

func TestMeshPeers(t *testing.T) {
	const form = "identity: {dev: {}}\nconsul: {%s}\nlisteners: [{name: in, address: 127.0.0.1:1, service: a}]\nservices: [{name: a, %s, tls: {spiffe: {%s}}}]\n"
	for _, c := range []struct{ name, consul, from, spiffe, path, peers, pinned string }{
		{"Consul's convention", "", "endpoints: [127.0.0.1:1]", "", "/ns/default/dc/dc1/svc/a", "", ""},
		{"of our datacenter", "datacenter: far", "endpoints: [127.0.0.1:1]", "", "/ns/default/dc/far/svc/a", "", ""},
		{"of the service's datacenter and name", "datacenter: far", "discovery: {consul: {service: real, datacenter: near}}", "", "/ns/default/dc/near/svc/real", "", ""},
		{"of the service's namespace", "", "discovery: {consul: {namespace: team}}", "", "/ns/team/dc/dc1/svc/a", "", ""},
		{"of our namespace", "namespace: ours", "discovery: {consul: {}}", "", "/ns/ours/dc/dc1/svc/a", "", ""},
		{"of our partition", "partition: east", "discovery: [file: a, consul: {}]", "", "/ap/east/ns/default/dc/dc1/svc/a", "", ""},
		{"of the service's partition", "partition: east", "discovery: {consul: {partition: west}}", "", "/ap/west/ns/default/dc/dc1/svc/a", "", ""},
		{"ids", "", "endpoints: [127.0.0.1:1]", "ids: [\"spiffe://x.test/a\", \"spiffe://x.test/b/*\"]", "/ns/default/dc/dc1/svc/a", "spiffe://x.test/a spiffe://x.test/b/*", ""},
		{"trust domains", "", "endpoints: [127.0.0.1:1]", "trust_domains: [x.test, y.test]", "/ns/default/dc/dc1/svc/a", "spiffe://x.test/* spiffe://y.test/*", ""},
		{"an endpoint's own", "", "endpoints: [{address: 127.0.0.1:1, spiffe_id: \"spiffe://x.test/one\"}, {address: 127.0.0.1:2, id: two, spiffe_id: \"spiffe://x.test/two\"}, 127.0.0.1:3]",
			"ids: [\"spiffe://x.test/a\"]", "/ns/default/dc/dc1/svc/a", "spiffe://x.test/a", "127.0.0.1:1@127.0.0.1:1=spiffe://x.test/one two@127.0.0.1:2=spiffe://x.test/two"},
	} {
		t.Run(c.name, func(t *testing.T) {
			mesh := compiled(t, fmt.Sprintf(form, c.consul, c.from, c.spiffe), none()).Services["a"].Settings().Mesh
			want, err := identity.ParsePeers(strings.Fields(c.peers)...)
			if err != nil && c.peers != "" {
				t.Fatal(err)
			}
			if mesh.Path != c.path || mesh.Peers.Key() != want.Key() && c.peers != "" || mesh.Peers.IsZero() != (c.peers == "") {
				t.Errorf("path %s, peers %s", mesh.Path, mesh.Peers)
			}
			pinned := map[discovery.EndpointKey]spiffeid.ID{}
			for _, p := range strings.Fields(c.pinned) {
				at, name, _ := strings.Cut(p, "=")
				id, address, _ := strings.Cut(at, "@")
				pinned[discovery.EndpointKey{ID: id, Address: address}] = spiffeid.RequireFromString(name)
			}
			if fmt.Sprint(pinned) != fmt.Sprint(mesh.Pinned) {
				t.Errorf("pinned %v", mesh.Pinned)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken.pem"), []byte("no"), 0o600); err != nil {
		t.Fatal(err)
	}
	broken := filepath.Join(dir, "broken.pem")
	for _, c := range []struct{ name, text, want string }{
		{"service in a mesh, no identity", "identity: {dev: {}}\nlisteners: [{name: in, address: 127.0.0.1:1, service: a}]\nservices: [{name: a, endpoints: [127.0.0.1:1], tls: {spiffe: {}}}]\n",
			`service "a": tls.spiffe needs an identity`},
		{"listener in a mesh, no identity", "identity: {dev: {}}\nlisteners: [{name: in, address: 127.0.0.1:1, service: a, tls: {spiffe: {}}}]" + services,
			`listener "in": tls.spiffe needs an identity`},
		{"certificate that is not there", "listeners: [{name: in, address: 127.0.0.1:1, service: a, tls: {certificates: [{cert: gone.pem, key: gone.key}]}}]" + services,
			`listener "in": identity: certificate gone.pem`},
		{"certificate that is none", fmt.Sprintf("listeners: [{name: in, address: 127.0.0.1:1, service: a, tls: {certificates: [{cert: %q, key: %q}]}}]"+services, broken, broken),
			`listener "in": identity: certificate ` + broken},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := Compile(Input{Config: load(t, c.text), Log: slog.New(slog.DiscardHandler)})
			if err == nil || out != nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// Services that stay keep their handles, and nothing of the new file shows in them
// before Commit.
func TestServicesKeepTheirHandles(t *testing.T) {
	first := compiled(t, "listeners: [{name: in, address: 127.0.0.1:1, service: a}]"+services, nil)
	a := first.Services["a"]
	in := Input{Config: load(t, "listeners: [{name: in, address: 127.0.0.1:1, service: a}]\nservices: [{name: c, endpoints: [127.0.0.1:3]}, {name: a, endpoints: [127.0.0.1:1], balance: random}]\n"),
		Services: first.Services, Log: slog.New(slog.DiscardHandler)}
	second, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if second.Services["a"] != a || second.Snapshot.Listeners[0].Routes[0].Service != a || second.Services["c"] == nil || second.Services["b"] != nil || len(first.Services) != 2 {
		t.Errorf("services %v after %v", second.Services, first.Services)
	}
	if a.Settings().Balance != "round_robin" {
		t.Errorf("before Commit: %s", a.Settings().Balance)
	}
	second.Commit()
	if a.Settings().Balance != "random" {
		t.Errorf("after Commit: %s", a.Settings().Balance)
	}
}

// A mesh listener refuses everybody until there is an identity, and those that the
// list does not name afterwards.
func TestMeshListenerFailsClosed(t *testing.T) {
	domain := spiffeid.RequireTrustDomainFromString("test.mesh")
	authority, err := identity.NewAuthority(identity.AuthorityOptions{TrustDomain: domain, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	web, other := spiffeid.RequireFromPath(domain, "/web"), spiffeid.RequireFromPath(domain, "/other")
	foreign := spiffeid.RequireFromString("spiffe://elsewhere.test/web")
	for _, c := range []struct {
		name, allow         string
		web, other, foreign bool
	}{
		{"no list: our trust domain", "", true, true, false},
		{"a path of ours", "allow: [/web]", true, false, false},
		{"a foreign id", "allow: [\"spiffe://elsewhere.test/web\"]", false, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			id := none()
			text := "identity: {dev: {}}\nlisteners: [{name: in, address: 127.0.0.1:1, service: a, tls: {spiffe: {}}, " + c.allow + "}]" + services
			l := compiled(t, text, id).Snapshot.Listeners[0]
			if _, err := l.TLS(); policy.ReasonOf(err) != policy.NoIdentity {
				t.Errorf("without identity: %v", err)
			}
			if d := http1.DefaultLimits(); l.HTTP.Limits.Head < d.Head+512 || l.HTTP.Limits.Fields < d.Fields+4 {
				t.Errorf("limits %+v leave no room for what the caller's proxy adds", l.HTTP.Limits)
			}
			for _, caller := range []spiffeid.ID{web, other, foreign, {}} {
				if l.Allow.Allow(caller).Allowed() {
					t.Errorf("%s was allowed before there is an identity", caller)
				}
			}
			give(t, authority, web, id)
			m, err := l.TLS()
			if err != nil || m.Identity != id.Snapshot() || m.Config == nil {
				t.Errorf("%+v %v", m, err)
			}
			for caller, want := range map[spiffeid.ID]bool{web: c.web, other: c.other, foreign: c.foreign, {}: false} {
				if l.Allow.Allow(caller).Allowed() != want {
					t.Errorf("%q allowed %v", caller, !want)
				}
			}
		})
	}
}

// Each workload of a host calls and answers as itself, and the service that two of them
// use is two services.
func TestWorkloadsKeepTheirIdentities(t *testing.T) {
	web, db := none(), none()
	text := `
identities: {web: {dev: {}}, db: {dev: {}}}
services:
- {name: api, endpoints: [127.0.0.1:1], tls: {spiffe: {}}}
- {name: mail, discovery: {dns: {name: mail.test, port: 25}}, tls: {spiffe: {}}}
workloads:
- service: web
  address: 127.0.0.1:2
  listen: 127.0.0.1:3
  identity: web
  upstreams:
  - {service: api, bind: 127.0.0.1:4}
  - {service: mail, bind: 127.0.0.1:8}
  - {service: list, bind: 127.0.0.1:9, discovery: {file: {path: /list.yaml}}}
- {service: db, address: 127.0.0.1:5, listen: 127.0.0.1:6, identity: db, upstreams: [{service: api, bind: 127.0.0.1:7}]}
`
	in := Input{Config: load(t, text), Identities: map[string]*identity.Current{"web": web, "db": db}, Log: slog.New(slog.DiscardHandler)}
	out, err := Compile(in)
	if err != nil {
		t.Fatal(err)
	}
	if len(out.Services) != 6 || out.Services["api"] != nil {
		t.Errorf("services %v", out.Services)
	}
	for name, own := range map[string]*identity.Current{"web.api": web, "db.api": db, "web.mail": web, "web.list": web} {
		_, called, _ := strings.Cut(name, ".")
		mesh := out.Services[name].Settings().Mesh
		if mesh.Identity != own || mesh.Path != ServicePath("", called) {
			t.Errorf("%s: %+v", name, mesh)
		}
	}
	domain := spiffeid.RequireTrustDomainFromString("test.mesh")
	authority, err := identity.NewAuthority(identity.AuthorityOptions{TrustDomain: domain, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	give(t, authority, spiffeid.RequireFromPath(domain, "/web"), web)
	for _, l := range out.Snapshot.Listeners {
		if l.TLS == nil {
			continue
		}
		m, err := l.TLS()
		if want := l.Name == "web.inbound"; want != (err == nil && m.Identity == web.Snapshot()) {
			t.Errorf("%s: %+v %v", l.Name, m, err)
		}
	}

	delete(in.Identities, "db")
	if _, err := Compile(in); err == nil || !strings.Contains(err.Error(), `"db"`) {
		t.Errorf("an identity that the running proxy lacks: %v", err)
	}
}
