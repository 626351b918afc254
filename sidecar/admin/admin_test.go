package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// serve runs a server until the test ends and returns its URL.
func serve(t *testing.T, o Options) string {
	t.Helper()
	if o.Address == "" && o.Socket == "" {
		o.Address = "127.0.0.1:0"
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	return "http://" + s.Addr().String()
}

// client keeps no connections, so that Run need not wait for them.
var client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}

func call(t *testing.T, c *http.Client, r *http.Request) (int, string) {
	t.Helper()
	resp, err := c.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return call(t, client, r)
}

func TestQuitAnswersBeforeTheEnd(t *testing.T) {
	v := views()
	quits := 0
	v.Quit = func() { quits++ }
	url := serve(t, Options{Views: v})
	for range 2 {
		r, _ := http.NewRequest("POST", url+"/api/v1/quit", nil)
		if status, body := call(t, client, r); status != http.StatusAccepted || !strings.Contains(body, `"draining": true`) {
			t.Errorf("%d %s", status, body)
		}
	}
	if status, _ := get(t, url+"/api/v1/quit"); status != http.StatusMethodNotAllowed || quits != 2 {
		t.Errorf("GET: %d, asked to end %d times, want 405 and 2", status, quits)
	}
}

func TestLeaveAnswersWhenItIsDone(t *testing.T) {
	v := views()
	left := false
	v.Leave = func(context.Context) { left = true }
	url := serve(t, Options{Views: v})
	r, _ := http.NewRequest("POST", url+"/api/v1/leave", nil)
	if status, body := call(t, client, r); status != http.StatusOK || !strings.Contains(body, `"left": true`) || !left {
		t.Errorf("%d %s, left %v", status, body, left)
	}
}

func views() Views {
	at := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	return Views{
		Quit: func() {}, Leave: func(context.Context) {},
		Listeners: func() []ListenerView {
			return []ListenerView{{Name: "web", Addresses: []string{"127.0.0.1:80"}, Protocol: "http", Direction: "inbound", TLS: "mtls"}, {Name: "api"}}
		},
		Services: func() []ServiceView {
			return []ServiceView{{Name: "web", Source: "consul", UpdatedAt: at}, {Name: "api"}}
		},
		Endpoints: func() []EndpointView {
			return []EndpointView{
				{Service: "web", Address: "10.0.0.2:80", State: "down", Reason: "connect_failed", Since: at},
				{Service: "web", Address: "10.0.0.1:80", State: "up", Check: &CheckView{At: at, OK: true, DurationSeconds: 0.001}},
				{Service: "api", Address: "10.0.0.9:80", State: "up"},
			}
		},
		Limits: func() LimitsView {
			return LimitsView{Connections: 3, ConnectionsLimit: 5, Descriptors: 20, DescriptorsLimit: 1024}
		},
		Identity: func() []IdentityView {
			return []IdentityView{{Source: "dev", SPIFFEID: "spiffe://a/web", ExpiresAt: at, Bundles: []BundleView{{"b", 1}, {"a", 2}}}}
		},
		Captures:   func() []CaptureView { return nil },
		Intentions: func(string) []IntentionsView { return nil },

		Decisions: func(_ context.Context, q DecisionsQuery) ([]DecisionView, error) {
			if q.Service == "stuck" {
				return nil, errors.New("a loop does not answer")
			}
			return []DecisionView{{ID: q.After + 1, Time: at, Reason: q.Reason.String(), Service: q.Service, Attempts: q.Limit}}, nil
		},
		Config:   func() json.RawMessage { return json.RawMessage(`{"version":1,"services":[]}`) },
		Ready:    func() (bool, []string) { return true, nil },
		Metrics:  http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "up 1\n") }),
		Maintain: func(context.Context, string, string) ([]string, error) { return nil, nil },
		Reload:   func() error { return nil },

		ReopenLogs: func() ([]string, error) { return []string{"access"}, nil },
	}
}

func TestAnswers(t *testing.T) {
	url := serve(t, Options{Views: views()})
	for _, tc := range []struct {
		path   string
		status int
		want   []string // in this order
	}{
		{"/healthz", 200, []string{`"status": "alive"`}},
		{"/api/v1/decisions", 200, []string{`"decisions": [`, `"id": 1`, `"attempts": 100`, `"tries": []`}},
		{"/api/v1/decisions?reason=no_route&service=web&limit=7&after=41", 200, []string{`"id": 42`, `"reason": "no_route"`, `"service": "web"`, `"attempts": 7`}},
		{"/api/v1/decisions?reason=no_rote", 400, []string{`unknown reason \"no_rote\"`}},
		{"/api/v1/decisions?limit=0", 400, []string{"limit is a number from 1 on"}},
		{"/api/v1/decisions?after=x", 400, []string{"after is the id of a decision"}},
		{"/api/v1/decisions?service=stuck", 503, []string{"a loop does not answer"}},
		{"/api/v1/reasons", 200, []string{`"code": "bad_request"`, `"status": 400`, `"grpc_status": "INVALID_ARGUMENT"`, `"remedy": "look at the client`}},
		{"/readyz", 200, []string{`"ready": true`, `"reasons": []`}},
		{"/metrics", 200, []string{"up 1"}},
		{"/api/v1/listeners", 200, []string{`"listeners": [`, `"name": "api"`, `"addresses": []`, `"name": "web"`, `"tls": "mtls"`, `"connections_active": 0`}},
		{"/api/v1/services", 200, []string{`"services": [`, `"name": "api"`, `"name": "web"`, `"source": "consul"`, `"updated_at": "2026-03-04T05:06:07Z"`, `"p99_seconds": 0`}},
		{"/api/v1/endpoints", 200, []string{`10.0.0.9:80`, `10.0.0.1:80`, `"duration_seconds": 0.001`, `10.0.0.2:80`, `"reason": "connect_failed"`}},
		{"/api/v1/endpoints?service=api", 200, []string{"{\n  \"endpoints\": [\n    {\n      \"service\": \"api\"", "\n    }\n  ]\n}"}},
		{"/api/v1/identity", 200, []string{`"identities": [`, `"spiffe_id": "spiffe://a/web"`, `"expires_at"`, `"trust_domain": "a"`, `"trust_domain": "b"`}},
		{"/api/v1/config", 200, []string{`"version": 1`, `"services": []`}},
		{"/", 200, []string{"/healthz", "/readyz", "/metrics", "/api/v1/listeners", "/api/v1/reload"}},
		{"/api/v1/reload", 405, nil},
		{"/nothing", 404, nil},
	} {
		t.Run(tc.path, func(t *testing.T) {
			status, body := get(t, url+tc.path)
			if status != tc.status {
				t.Fatalf("status %d, want %d: %s", status, tc.status, body)
			}
			rest := body
			for _, want := range tc.want {
				i := strings.Index(rest, want)
				if i < 0 {
					t.Fatalf("no %q in its place in\n%s", want, body)
				}
				rest = rest[i+len(want):]
			}
			if strings.Contains(body, "0001-01-01") {
				t.Errorf("a zero time is shown:\n%s", body)
			}
		})
	}
}

func TestEmptyViewsShowEmptyLists(t *testing.T) {
	url := serve(t, Options{Views: Views{
		Listeners: func() []ListenerView { return nil },
		Services:  func() []ServiceView { return nil },
		Endpoints: func() []EndpointView { return nil },
		Identity:  func() []IdentityView { return nil },
	}})
	for _, path := range []string{"listeners", "services", "endpoints", "identity"} {
		if _, body := get(t, url+"/api/v1/"+path); !strings.Contains(body, ": []") {
			t.Errorf("%s: %s", path, body)
		}
	}
}

func TestViewsNotGivenAreNotServed(t *testing.T) {
	url := serve(t, Options{})
	if status, _ := get(t, url+"/api/v1/services"); status != 404 {
		t.Errorf("status %d", status)
	}
	if status, body := get(t, url+"/"); status != 200 || strings.Contains(body, "services") {
		t.Errorf("index %d:\n%s", status, body)
	}
}

func TestNotReady(t *testing.T) {
	url := serve(t, Options{Views: Views{Ready: func() (bool, []string) { return false, []string{"no identity yet"} }}})
	status, body := get(t, url+"/readyz")
	var answer struct {
		Ready   bool
		Reasons []string
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	if status != 503 || answer.Ready || !slices.Equal(answer.Reasons, []string{"no identity yet"}) {
		t.Errorf("%d %s", status, body)
	}
}

func TestReopenLogs(t *testing.T) {
	for _, tc := range []struct {
		err    error
		status int
		want   string
	}{
		{nil, 200, `"reopened": []`},
		{errors.New("no such directory"), 500, `"error": "no such directory"`},
	} {
		url := serve(t, Options{Views: Views{ReopenLogs: func() ([]string, error) { return nil, tc.err }}})
		r, _ := http.NewRequest("POST", url+"/api/v1/logs/reopen", nil)
		if status, body := call(t, client, r); status != tc.status || !strings.Contains(body, tc.want) {
			t.Errorf("%d %s", status, body)
		}
	}
}

func TestReload(t *testing.T) {
	joined := errors.Join(errors.New(`larboard.yaml:14:7: routes[2].timout: unknown field; did you mean "timeout"?`),
		errors.New("larboard.yaml:20: no such service"))
	for _, tc := range []struct {
		name   string
		err    error
		status int
		want   []Problem
	}{
		{"applied", nil, 200, []Problem{}},
		{"joined", joined, 422, []Problem{
			{"larboard.yaml", 14, 7, `routes[2].timout: unknown field; did you mean "timeout"?`},
			{"larboard.yaml", 20, 0, "no such service"}}},
		{"wrapped", fmt.Errorf("reload: %w", errors.New("a/b.yaml:1:2: x: y\nb.yaml:3:4: z")), 422, []Problem{
			{"a/b.yaml", 1, 2, "x: y"}, {"b.yaml", 3, 4, "z"}}},
		{"wrapped join", fmt.Errorf("reload: %w", joined), 422, []Problem{
			{"larboard.yaml", 14, 7, `routes[2].timout: unknown field; did you mean "timeout"?`},
			{"larboard.yaml", 20, 0, "no such service"}}},
		{"no position", errors.New("open larboard.yaml: permission denied"), 422, []Problem{
			{"", 0, 0, "open larboard.yaml: permission denied"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			url := serve(t, Options{Views: Views{Reload: func() error { return tc.err }}})
			r, _ := http.NewRequest("POST", url+"/api/v1/reload", nil)
			status, body := call(t, client, r)
			var answer reloadAnswer
			if err := json.Unmarshal([]byte(body), &answer); err != nil {
				t.Fatal(err)
			}
			if status != tc.status || answer.Applied != (tc.err == nil) || !slices.Equal(answer.Problems, tc.want) {
				t.Errorf("%d %s", status, body)
			}
		})
	}
}

func TestOneReloadAtATime(t *testing.T) {
	entered, leave := make(chan struct{}), make(chan struct{})
	url := serve(t, Options{Views: Views{Reload: func() error {
		close(entered)
		<-leave
		return nil
	}}})
	first := make(chan int, 1)
	post := func() int {
		resp, err := client.Post(url+"/api/v1/reload", "", nil)
		if err != nil {
			return 0
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	go func() { first <- post() }()
	<-entered
	if status := post(); status != http.StatusConflict {
		t.Errorf("second: %d", status)
	}
	close(leave)
	if status := <-first; status != 200 {
		t.Errorf("first: %d", status)
	}
}

func TestForeignPagesAreKeptOut(t *testing.T) {
	reloads := 0
	v := views()
	v.Reload = func() error { reloads++; return nil }
	url := serve(t, Options{Views: v})
	for _, tc := range []struct {
		name, method, path, host string
		header                   map[string]string
		status                   int
	}{
		{"own name", "GET", "/healthz", "localhost:9901", nil, 200},
		{"own name upper", "GET", "/healthz", "LOCALHOST.", nil, 200},
		{"IPv6 name", "GET", "/healthz", "[::1]:9901", nil, 200},
		{"IPv6 name without port", "GET", "/healthz", "[::1]", nil, 200},
		{"rebound name", "GET", "/api/v1/config", "evil.example:9901", nil, 403},
		{"rebound look-alike", "GET", "/api/v1/config", "127.0.0.1.evil.example", nil, 403},
		{"localhost look-alike", "GET", "/api/v1/config", "localhost.evil.example", nil, 403},
		{"any address", "GET", "/api/v1/config", "0.0.0.0:9901", nil, 403},
		{"foreign address", "GET", "/api/v1/config", "192.0.2.1", nil, 403},
		{"foreign origin", "POST", "/api/v1/reload", "127.0.0.1", map[string]string{"Origin": "https://evil.example"}, 403},
		{"null origin", "POST", "/api/v1/reload", "127.0.0.1", map[string]string{"Origin": "null"}, 403},
		{"simple form", "POST", "/api/v1/reload", "127.0.0.1", map[string]string{"Sec-Fetch-Site": "cross-site", "Content-Type": "text/plain"}, 403},
		{"same site is not same origin", "POST", "/api/v1/reload", "localhost", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"same origin", "POST", "/api/v1/reload", "localhost:1", map[string]string{"Origin": "http://localhost:1"}, 200},
		{"no browser", "POST", "/api/v1/reload", "localhost:1", nil, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			before := reloads
			r, _ := http.NewRequest(tc.method, url+tc.path, nil)
			r.Host = tc.host
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			if status, body := call(t, client, r); status != tc.status {
				t.Errorf("status %d: %s", status, body)
			}
			if tc.status == 403 && reloads != before {
				t.Error("reloaded all the same")
			}
		})
	}
}

func TestLargeBodyIsRefused(t *testing.T) {
	url := serve(t, Options{Views: views()})
	r, _ := http.NewRequest("POST", url+"/api/v1/reload", strings.NewReader(strings.Repeat("x", bodyLimit+1)))
	if status, _ := call(t, client, r); status != 413 {
		t.Errorf("status %d", status)
	}
}

func TestAddressesRefused(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		name string
		o    Options
		want string
	}{
		{"all addresses", Options{Address: "0.0.0.0:0"}, "not a loopback address"},
		{"no host", Options{Address: ":9901"}, "not a loopback address"},
		{"foreign", Options{Address: "192.0.2.1:0"}, "not a loopback address"},
		{"a name", Options{Address: "example.com:0"}, "not a loopback address"},
		{"no port", Options{Address: "127.0.0.1"}, "missing port"},
		{"nothing", Options{}, "neither"},
		{"two sockets", Options{Address: "unix:///a", Socket: "/b"}, "give one"},
		{"file in the way", Options{Socket: file}, "not a socket"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := New(tc.o)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v, want %q", err, tc.want)
			}
		})
	}
}

func TestLocalhostIsAccepted(t *testing.T) {
	url := serve(t, Options{Address: "localhost:0"})
	if status, _ := get(t, url+"/healthz"); status != 200 {
		t.Errorf("status %d", status)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	// A socket file that a dead process has left.
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	s, err := New(Options{Address: "unix://" + path, Views: views()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()

	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := New(Options{Socket: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a served socket: %v", err)
	}
	c := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(context.Context, string, string) (net.Conn, error) {
			return net.Dial("unix", path)
		},
	}}
	r, _ := http.NewRequest("GET", "http://larboard/healthz", nil)
	if status, body := call(t, c, r); status != 200 {
		t.Errorf("status %d: %s", status, body)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket file is left: %v", err)
	}
}

func FuzzParseProblem(f *testing.F) {
	f.Add("larboard.yaml:14:7: x: unknown field")
	f.Add(":1: ")
	f.Add("a:999999999999:1: b")
	f.Fuzz(func(t *testing.T, text string) {
		p := parseProblem(text)
		if !strings.HasSuffix(text, p.Message) {
			t.Errorf("%q: %+v", text, p)
		}
		for _, p := range problemsOf(errors.New(text)) {
			if p.Message == "" && p.Line == 0 {
				t.Errorf("%q: empty problem", text)
			}
		}
		loopbackHost(text)
	})
}
