package e2e

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/larboard-proxy/larboard/tests/pki"
	"github.com/larboard-proxy/larboard/tests/real"
)

// site writes a certificate for names as site.pem and site.key, and returns a
// client that trusts it and asks for the first of them.
func site(t testing.TB, dir string, names ...string) *http.Client {
	t.Helper()
	c := pki.SelfSigned(t, names...)
	pki.Write(t, filepath.Join(dir, "site"), c)
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pki.Pool(c.Leaf), ServerName: names[0]},
	}}
	return client
}

// The example of the configuration's design runs as written. What is changed:
// its ports (others may use them) and the three paths under /run (ours to make in
// a temporary directory); and the listener in front of the workload is bound to
// loopback. site.pem lies beside the file, as it says.
func TestExampleRunsAsWritten(t *testing.T) {
	t.Parallel()
	example, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		t.Fatal(err)
	}
	dir := shortDir(t)
	client := site(t, dir, "www.example.com", "api.example.com")
	agent := real.Consul(t, real.ConsulOptions{ACL: true})
	writeFile(t, dir, "token", agent.NewToken("larboard", `service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }`)+"\n")
	state := filepath.Join(dir, "authority")
	start(t, "authority", fmt.Sprintf(`
identity: {dev: {trust_domain: example.org, state: %q, socket: %q, id: "spiffe://example.org/ns/default/dc/dc1/svc/web"}}
listeners: [{name: none, address: 127.0.0.1:0, service: none}]
services: [{name: none, endpoints: [127.0.0.1:1]}]
`, state, filepath.Join(dir, "agent.sock")))
	web1, web2 := origin(t, named("web-1")), origin(t, named("web-2"))
	workload := origin(t, named("workload"))
	redis := echoServer(t)
	ports := map[string]string{"9901": freeAddress(t), "8080": freeAddress(t), "6380": freeAddress(t), "9191": freeAddress(t), "20000": freeAddress(t)}
	text := strings.NewReplacer(
		"/run/larboard/admin.sock", filepath.Join(dir, "admin.sock"),
		"/run/secrets/consul", filepath.Join(dir, "token"),
		"/run/spire/agent.sock", filepath.Join(dir, "agent.sock"),
		"127.0.0.1:8500", strings.TrimPrefix(agent.Address, "http://"),
		"127.0.0.1:9001", web1, "127.0.0.1:9002", web2, "127.0.0.1:6379", redis, "127.0.0.1:8000", workload,
		"127.0.0.1:9901", ports["9901"], "127.0.0.1:8080", ports["8080"], "127.0.0.1:6380", ports["6380"],
		"127.0.0.1:9191", ports["9191"], "0.0.0.0:20000", ports["20000"],
	).Replace(string(example))

	// Of three registered instances one lacks the tag and one is not healthy.
	registerPlain(t, agent, "api-1", "api", origin(t, named("api-1")), "v1")
	registerPlain(t, agent, "api-2", "api", origin(t, named("api-2")), "v2")
	registerPlain(t, agent, "api-3", "api", origin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health" {
			w.WriteHeader(http.StatusInternalServerError)
		}
		_, _ = io.WriteString(w, "api-3")
	})), "v1")

	p := launchIn(t, dir, "example", text)
	p.waitReady()
	eventually(t, patience, "the health of api is known", func() error {
		states := map[string]string{}
		for _, e := range endpoints(p) {
			if e.Service == "api" {
				states[e.ID] = e.State
			}
		}
		if fmt.Sprint(states) != "map[real/api-1:up real/api-3:down]" {
			return fmt.Errorf("%v", states)
		}
		return nil
	})

	ask := func(client *http.Client, host, url string) string {
		t.Helper()
		req, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s %s: %v", host, url, err)
			return ""
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return fmt.Sprintf("%d %s", resp.StatusCode, body)
	}
	seen := map[string]bool{}
	for range 4 {
		seen[ask(client, "www.example.com", "https://"+ports["8080"]+"/v1")] = true
	}
	if !seen["200 web-1"] || !seen["200 web-2"] || len(seen) != 2 {
		t.Errorf("the site is answered by %v, want web-1 and web-2 in turn", seen)
	}
	for host, want := range map[string]string{"https://" + ports["8080"] + "/v1/x": "200 api-1", "http://" + ports["9191"] + "/": "200 api-1"} {
		for range 3 {
			if got := ask(client, "api.example.com", host); got != want {
				t.Errorf("%s: %q, want %q", host, got, want)
			}
		}
	}
	conn := dial(t, ports["6380"])
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := conn.r.ReadString('\n'); err != nil || line != "PING\r\n" {
		t.Errorf("redis: %q %v", line, err)
	}
	if status, body, _ := get(t, "http://"+ports["9901"]+"/readyz"); status != 200 {
		t.Errorf("admin.address: %d %s", status, body)
	}
	// The mesh reaches the workload through the inbound listener.
	caller := start(t, "caller", fmt.Sprintf(`
identity: {dev: {trust_domain: example.org, state: %q, id: "spiffe://example.org/ns/default/dc/dc1/svc/caller"}}
upstreams: [{service: web, bind: 127.0.0.1:0, endpoints: [%q]}]
`, state, ports["20000"]))
	if status, body, _ := get(t, "http://"+caller.address("web")+"/"); status != 200 || body != "workload" {
		t.Errorf("the workload through the mesh: %d %q", status, body)
	}
}

// echoServer sends back what it gets and returns its address.
func echoServer(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = io.Copy(conn, conn)
			}()
		}
	}()
	return l.Addr().String()
}

// registerPlain registers an instance without a sidecar.
func registerPlain(t testing.TB, agent *real.ConsulAgent, id, service, address string, tags ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	agent.Register(real.Service{ID: id, Name: service, Address: host, Port: number, Tags: tags})
}

// Each kind of mistake is placed and explained, by check and by run, with exit
// code 2. What each message says is held by the tests of config and cli.
func TestBrokenFilesAreRefusedWithTheirPlace(t *testing.T) {
	const good = `listeners:
- name: web
  address: 127.0.0.1:0
  routes:
  - match: {path_prefix: /api}
    service: api
  - service: web
services:
- {name: web, endpoints: [127.0.0.1:9001]}
- {name: api, endpoints: [127.0.0.1:9002]}
`
	dir := shortDir(t)
	writeFile(t, dir, "larboard.yaml", good)
	if code, stdout, stderr := command(t, dir, "check"); code != 0 || stdout != "larboard.yaml: ok (1 listener, 2 services)\n" || stderr != "" {
		t.Fatalf("the good file: %d %q %q", code, stdout, stderr)
	}
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown field", "  routes:", "  timout: {idle: 3s}\n  routes:", `4:3: listeners[0].timout: unknown field; did you mean "timeouts"?`},
		{"unknown service", "service: api", "service: apj", `6:14: listeners[0].routes[0].service: no service is named "apj"; did you mean "api"?`},
		{"wrong type", "endpoints: [127.0.0.1:9001]", "endpoints: 127.0.0.1:9001", `9:26: services[0].endpoints: must be a list`},
		{"duration", "listeners:", "timeouts: {connect: 5}\nlisteners:", `1:21: timeouts.connect: "5" is not a duration`},
		{"size", "listeners:", "limits: {head: 64KB}\nlisteners:", `1:16: limits.head: "64KB" is not a size`},
		{"port", "127.0.0.1:0", "127.0.0.1:80800", `3:12: listeners[0].address: "127.0.0.1:80800": "80800" is not a port`},
		{"duplicate name", "services:", "services:\n- {name: web, endpoints: [127.0.0.1:9003]}", `10:10: services[1].name: services[0] already gives the service "web"`},
		{"missing field", "  address: 127.0.0.1:0\n", "", `2:3: listeners[0].address: is missing`},
		{"tab", "  address", "\taddress", `3:1: a tab in the indentation; YAML allows only spaces`},
		{"syntax", "[127.0.0.1:9001]", "[127.0.0.1:9001", `9:1: not YAML: did not find expected ',' or ']'`},
		{"duplicate key", "services:", "listeners: []\nservices:", `8:1: listeners: given twice; the first is on line 1`},
		{"missing certificate", "  routes:", "  tls: {certificates: [{cert: no.pem, key: no.key}]}\n  routes:", `4:31: listeners[0].tls.certificates[0].cert: no.pem: no such file or directory`},
	} {
		t.Run(c.name, func(t *testing.T) {
			broken := strings.Replace(good, c.old, c.new, 1)
			if broken == good {
				t.Fatal("not broken")
			}
			writeFile(t, dir, "larboard.yaml", broken)
			for _, args := range [][]string{{"check"}, {"run", "-c", "larboard.yaml"}} {
				code, stdout, stderr := command(t, dir, args...)
				first, _, _ := strings.Cut(stderr, "\n")
				if code != 2 || stdout != "" || !strings.HasPrefix(first, "larboard.yaml:"+c.want) {
					t.Errorf("%v: exit code %d, want 2 and %s in\n%s%s", args, code, c.want, stdout, stderr)
				}
			}
		})
	}
}

// What config prints is a configuration that does the same.
func TestConfigPrintsWhatRuns(t *testing.T) {
	one := origin(t, named("one"))
	dir := shortDir(t)
	writeFile(t, dir, "larboard.yaml", app(plainListener, one)+"admin: {socket: admin.sock}\n")
	code, printed, stderr := command(t, dir, "config")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d %s", code, stderr)
	}
	p := launchIn(t, dir, "printed", printed)
	p.waitReady()
	if _, body, _ := get(t, "http://"+p.address("in")+"/"); body != "one" {
		t.Errorf("%q answers", body)
	}
}

// With --origins, config says where each value comes from, and what it prints still does
// the same.
func TestConfigSaysWhereValuesComeFrom(t *testing.T) {
	one := origin(t, named("one"))
	dir := shortDir(t)
	writeFile(t, dir, "larboard.yaml", "timeouts: {connect: 3s}\n"+app(plainListener, one)+"admin: {socket: admin.sock}\n")
	code, printed, stderr := command(t, dir, "config", "--origins")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d %s", code, stderr)
	}
	for _, want := range []string{`\n  connect: 3s +# line 1\n`, `\n      connect: 3s +# timeouts\.connect, line 1\n`, `\n  idle: 1m +# default\n`} {
		if !regexp.MustCompile(want).MatchString(printed) {
			t.Errorf("%s is not in\n%s", want, printed)
		}
	}
	code, text, stderr := command(t, dir, "config", "--origins", "--output", "json")
	var answer struct {
		Config  json.RawMessage
		Origins []struct {
			Path, From, Source string
			Line               int
		}
	}
	if err := json.Unmarshal([]byte(text), &answer); code != 0 || err != nil {
		t.Fatalf("exit code %d, %v: %s%s", code, err, text, stderr)
	}
	writeFile(t, dir, "printed.json", string(answer.Config))
	if code, _, stderr := command(t, dir, "check", "-c", "printed.json"); code != 0 {
		t.Errorf("what it prints is refused: %s", stderr)
	}
	inherited := 0
	for _, o := range answer.Origins {
		if o.Path == "services[0].timeouts.connect" && o.From == "inherited" && o.Source == "timeouts.connect" && o.Line == 1 {
			inherited++
		}
	}
	if inherited != 1 {
		t.Errorf("the inherited timeout is not in %s", text)
	}
	p := launchIn(t, dir, "printed", printed)
	p.waitReady()
	if _, body, _ := get(t, "http://"+p.address("in")+"/"); body != "one" {
		t.Errorf("%q answers", body)
	}
}

// The schema that the binary prints accepts the file that it accepts, and refuses one that
// it refuses.
func TestSchemaOfTheBinary(t *testing.T) {
	dir := shortDir(t)
	code, printed, stderr := command(t, dir, "schema")
	if code != 0 || stderr != "" {
		t.Fatalf("exit code %d %s", code, stderr)
	}
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(printed))
	if err != nil {
		t.Fatal(err)
	}
	compiler := jsonschema.NewCompiler()
	if err := compiler.AddResource("larboard.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := compiler.Compile("larboard.json")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir, "larboard.yaml", app(plainListener, "127.0.0.1:9001"))
	_, whole, stderr := command(t, dir, "config", "--output", "json")
	good, err := jsonschema.UnmarshalJSON(strings.NewReader(whole))
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	if err := compiled.Validate(good); err != nil {
		t.Error(err)
	}
	good.(map[string]any)["listener"] = nil
	if err := compiled.Validate(good); err == nil {
		t.Error("an unknown field is accepted")
	}
}
