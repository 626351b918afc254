package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/larboard-proxy/larboard/sidecar/config"
)

const good = `listeners:
- name: web
  address: 127.0.0.1:8080
  routes:
  - match: {path_prefix: /api}
    service: api
  - service: web
services:
- {name: web, endpoints: [127.0.0.1:9001]}
- {name: api, endpoints: [127.0.0.1:9002]}
`

func TestCheckOfAGoodFile(t *testing.T) {
	got := larboard(t, directory(t, map[string]string{"larboard.yaml": good}), "check")
	if want := (result{0, "larboard.yaml: ok (1 listener, 2 services)\n", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// A configuration may stand in a variable of the environment; names of files in it start
// from the working directory.
func TestCheckOfAVariable(t *testing.T) {
	t.Setenv("LARBOARD_TEST", good)
	dir := directory(t, nil)
	if got, want := larboard(t, dir, "check", "-c", "env:LARBOARD_TEST"), (result{0, "env:LARBOARD_TEST: ok (1 listener, 2 services)\n", ""}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	for _, c := range []struct{ text, name, want string }{
		{good + "logg: {}", "env:LARBOARD_TEST", `env:LARBOARD_TEST:11:1: logg: unknown field; did you mean "log"?`},
		{strings.Replace(good, "  routes:", "  tls: {certificates: [{cert: no.pem, key: no.key}]}\n  routes:", 1), "env:LARBOARD_TEST",
			`env:LARBOARD_TEST:4:31: listeners[0].tls.certificates[0].cert: no.pem: no such file or directory`},
		{"", "env:LARBOARD_TEST", `env:LARBOARD_TEST:1:1: listeners: nothing to do: the file has no listeners, workload or upstreams`},
		{good, "env:LARBOARD_TESTT", `env:LARBOARD_TESTT: the environment variable LARBOARD_TESTT is not set`},
		{good, "env:", `env:: "" is no name of an environment variable; write env:NAME`},
		{good, "env:a/b", `env:a/b: "a/b" is no name of an environment variable; write env:NAME`},
	} {
		t.Setenv("LARBOARD_TEST", c.text)
		got := larboard(t, dir, "check", "-c", c.name)
		if first, _, _ := strings.Cut(got.stderr, "\n"); first != c.want || got.code != 2 {
			t.Errorf("%s: exit code %d\n%s\nwant\n%s", c.name, got.code, got.stderr, c.want)
		}
	}
}

// Each kind of mistake is placed, explained and ends with exit code 2.
func TestCheckOfBrokenFiles(t *testing.T) {
	replaced := func(old, new string) string { return strings.Replace(good, old, new, 1) }
	for _, test := range []struct{ name, file, want string }{
		{"unknown field", replaced("  routes:", "  timout: {idle: 3s}\n  routes:"), `larboard.yaml:4:3: listeners[0].timout: unknown field; did you mean "timeouts"?`},
		{"unknown service", replaced("service: api", "service: apj"), `larboard.yaml:6:14: listeners[0].routes[0].service: no service is named "apj"; did you mean "api"?`},
		{"wrong type", replaced("endpoints: [127.0.0.1:9001]", "endpoints: 127.0.0.1:9001"), `larboard.yaml:9:26: services[0].endpoints: must be a list, not the text "127.0.0.1:9001"`},
		{"bad duration", good + "timeouts: {connect: 5}\n", `larboard.yaml:11:21: timeouts.connect: "5" is not a duration; write a number and a unit, like 250ms, 2s or 1m30s; did you mean "5s"?`},
		{"bad size", good + "limits:\n  head: 64KB\n", `larboard.yaml:12:9: limits.head: "64KB" is not a size; write bytes or a unit, like 8192, 64KiB or 1MiB; did you mean "64KiB"?`},
		{"bad port", replaced("127.0.0.1:8080", "127.0.0.1:80800"), `larboard.yaml:3:12: listeners[0].address: "127.0.0.1:80800": "80800" is not a port, which is a number up to 65535`},
		{"duplicate name", good + "- {name: web, endpoints: [127.0.0.1:9003]}\n", `larboard.yaml:11:10: services[2].name: services[0] already gives the service "web"`},
		{"missing field", replaced("  address: 127.0.0.1:8080\n", ""), `larboard.yaml:2:3: listeners[0].address: is missing`},
		{"conflict", replaced("name: web, endpoints", "name: web, discovery: {consul: {}, file: a}, endpoints"), `larboard.yaml:9:45: services[0].discovery.file: excludes consul, which is given too`},
		{"tab", replaced("  address", "\taddress"), `larboard.yaml:3:1: a tab in the indentation; YAML allows only spaces`},
		{"syntax", replaced("[127.0.0.1:9001]", "[127.0.0.1:9001"), `larboard.yaml:9:1: not YAML: did not find expected ',' or ']'`},
		{"duplicate key", good + "services: []\n", `larboard.yaml:11:1: services: given twice; the first is on line 8`},
		{"bad SPIFFE ID", replaced("endpoints: [127.0.0.1:9001]", "endpoints: [{address: 127.0.0.1:9001, spiffe_id: example.org/web}]"), `larboard.yaml:9:64: services[0].endpoints[0].spiffe_id: "example.org/web" is not a SPIFFE ID: scheme is missing or invalid; did you mean "spiffe://example.org/web"?`},
		{"later version", replaced("endpoints: [127.0.0.1:9001]", "endpoints: [127.0.0.1:9001], balance: ewma"), `larboard.yaml:9:53: services[0].balance: "ewma" is not in this version; there are round_robin, random, p2c`},
		{"missing certificate", replaced("  routes:", "  tls: {certificates: [{cert: no.pem, key: no.key}]}\n  routes:"), `larboard.yaml:4:31: listeners[0].tls.certificates[0].cert: no.pem: no such file or directory`},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := larboard(t, directory(t, map[string]string{"larboard.yaml": test.file}), "check", "-c", "larboard.yaml")
			if got.code != 2 || got.stdout != "" {
				t.Errorf("exit code %d, stdout %q", got.code, got.stdout)
			}
			if first, _, _ := strings.Cut(got.stderr, "\n"); first != test.want {
				t.Errorf("got\n%s\nwant\n%s", got.stderr, test.want)
			}
		})
	}
}

func TestCheckReportsEverythingInOrder(t *testing.T) {
	file := strings.Replace(good, "service: api", "service: apj", 1)
	file = strings.Replace(file, "  routes:", "  tls: {certificates: [{cert: no.pem, key: no.key}]}\n  routes:", 1) + "loops: x\n"
	got := larboard(t, directory(t, map[string]string{"larboard.yaml": file}), "check")
	var places []string
	for line := range strings.Lines(got.stderr) {
		places = append(places, strings.SplitN(line, ": ", 2)[0])
	}
	want := "larboard.yaml:4:31 larboard.yaml:4:44 larboard.yaml:7:14 larboard.yaml:12:8 larboard.yaml"
	if strings.Join(places, " ") != want || !strings.HasSuffix(got.stderr, "larboard.yaml: 4 problems\n") {
		t.Errorf("got\n%s", got.stderr)
	}
}

func TestCheckForMachines(t *testing.T) {
	for _, test := range []struct {
		name, file string
		code       int
		want       checked
	}{
		{"good", good, 0, checked{File: "f.yaml", OK: true, Listeners: 1, Services: 2, Problems: config.Problems{}}},
		{"bad", strings.Replace(good, "service: api", "service: apj", 1), 2, checked{File: "f.yaml", Problems: config.Problems{{
			File: "f.yaml", Line: 6, Column: 14, Path: "listeners[0].routes[0].service", Message: `no service is named "apj"`, Suggestion: "api",
		}}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := larboard(t, directory(t, map[string]string{"f.yaml": test.file}), "check", "-c", "f.yaml", "--output", "json")
			var answer checked
			if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
				t.Fatal(err)
			}
			want, _ := json.Marshal(test.want)
			if is, _ := json.Marshal(answer); string(is) != string(want) || got.code != test.code || got.stderr != "" {
				t.Errorf("got %s (code %d, stderr %q), want %s", is, got.code, got.stderr, want)
			}
		})
	}
}

func TestCheckOfAFileThatIsNotThere(t *testing.T) {
	got := larboard(t, t.TempDir(), "check")
	if got.code != 2 || got.stderr != "larboard.yaml: cannot be read: no such file or directory\nlarboard.yaml: 1 problem\n" {
		t.Errorf("got %+v", got)
	}
	if got := larboard(t, t.TempDir(), "check", "-c", "."); got.code != 2 || !strings.Contains(got.stderr, "is a directory") {
		t.Errorf("got %+v", got)
	}
}

func TestConfigPrintsTheExpansion(t *testing.T) {
	file := `workload: {service: web, address: 127.0.0.1:8000, listen: 0.0.0.0:20000}
upstreams: [{service: api, bind: 127.0.0.1:9191}]
identity: {spiffe: {}}
consul: {token: very-secret}
`
	dir := directory(t, map[string]string{"larboard.yaml": file})
	for _, output := range []string{"yaml", "json"} {
		got := larboard(t, dir, "config", "--output", output)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("got %+v", got)
		}
		contains(t, output, got.stdout, "inbound", "local", "127.0.0.1:8000", "0.0.0.0:20000", "connect", "[redacted]")
		if strings.Contains(got.stdout, "very-secret") {
			t.Errorf("a secret is shown:\n%s", got.stdout)
		}
	}
	if got := larboard(t, directory(t, map[string]string{"larboard.yaml": "listener: []"}), "config"); got.code != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestPaint(t *testing.T) {
	p := config.Problem{File: "f", Line: 1, Column: 2, Path: "a", Message: "m", Suggestion: "s"}
	plain := paint(p)
	for _, code := range []string{bold, red, green, normal} {
		if !strings.Contains(plain, code) {
			t.Errorf("%q is missing", code)
		}
		plain = strings.ReplaceAll(plain, code, "")
	}
	if plain != p.String() {
		t.Errorf("got %q, want %q", plain, p.String())
	}
}
