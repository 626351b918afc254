package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/sidecar/admin"
)

// decided are the decisions of the manual's example, the latest first.
func decided() []admin.DecisionView {
	at := time.Date(2026, 3, 4, 4, 6, 7, 89e6, time.UTC)
	return []admin.DecisionView{
		{ID: 9, Time: at.Add(4441 * time.Millisecond), Kind: "exchange", Reason: "no_route", Side: "downstream", Phase: "route", Listener: "web", Method: "GET",
			Authority: "api.test", Path: "/carts", Status: 404, Client: "127.0.0.1:41030", DurationMS: 0.102},
		{ID: 8, Time: at.Add(2323 * time.Millisecond), Kind: "exchange", Reason: "upstream_timeout", Side: "upstream", Phase: "wait", Error: "i/o timeout", Listener: "web",
			Service: "api", Method: "GET", Authority: "api.test", Path: "/search", Status: 504, Client: "127.0.0.1:41022", DurationMS: 1000.917, Attempts: 1,
			Tries: []admin.TryView{{Endpoint: "10.0.0.2:8000", Reason: "upstream_timeout", Phase: "wait", StartMS: 0.038, DurationMS: 1000.802}}},
		{ID: 7, Time: at, Kind: "exchange", Reason: "none", Listener: "web", Service: "api", Method: "GET", Authority: "api.test", Path: "/cart", Status: 200,
			TraceID: "4bf92f3577b34da6a3ce929d0e0e4736", Client: "127.0.0.1:41010", DurationMS: 31.204, Attempts: 2, Tries: []admin.TryView{
				{Endpoint: "10.0.0.1:8000", Reason: "connect_failed", Phase: "connect", StartMS: 0.041, DurationMS: 0.31},
				{Endpoint: "10.0.0.2:8000", Reason: "none", Status: 200, StartMS: 0.391, DurationMS: 30.702},
			}},
	}
}

func TestManualOfDecisions(t *testing.T) {
	page, err := os.ReadFile("../../examples/manual/ctl.md")
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := new(decisionsWanted).write(&out, decided()); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), "ctl decisions --service api\n"+out.String()+"```") {
		t.Errorf("the manual does not show\n%s", out.String())
	}
}

// fakeProxy answers as an admin interface does that knows decided.
func fakeProxy(t *testing.T) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v1/decisions", func(w http.ResponseWriter, r *http.Request) {
		list := decided()
		switch q := r.URL.Query(); q.Get("service") {
		case "strange":
			list = []admin.DecisionView{{Kind: "connection", Reason: "tls_no_id", Side: "downstream", Phase: "accept", Error: "\x1b[2J", Listener: "in", PeerID: "\u202egnp"}}
		case "poor":
			list = []admin.DecisionView{{Kind: "exchange", Reason: "none", Status: 503, Listener: "in", Tries: []admin.TryView{
				{Endpoint: "10.0.0.1:8000", Reason: "none", Status: 503}, {Endpoint: "10.0.0.2:8000", Reason: "none", GRPCStatus: "UNAVAILABLE"}}}}
		case "none":
			list = nil
		case "broken":
			io.WriteString(w, "<html>")
			return
		case "stuck":
			w.WriteHeader(503)
			io.WriteString(w, `{"error": "a loop does not answer"}`)
			return
		case "asked":
			if q.Get("reason") != "no_route" || q.Get("limit") != "3" || q.Get("after") != "" {
				t.Errorf("asked for %v", q)
			}
			list = list[:1]
		}
		json.NewEncoder(w).Encode(map[string]any{"decisions": list})
	})
	return mux
}

func TestCtlDecisions(t *testing.T) {
	running := httptest.NewServer(fakeProxy(t))
	defer running.Close()
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	socket := filepath.Join(t.TempDir(), "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	onSocket := &http.Server{Handler: fakeProxy(t)}
	go onSocket.Serve(l)
	defer onSocket.Close()
	at := running.Listener.Addr().String()

	for _, test := range []struct {
		name   string
		args   string
		code   int
		stdout string // part
		stderr string // part
	}{
		{"all", "--admin " + at, 0, "web GET api.test/carts", ""},
		{"by URL", "--admin http://" + at + "/", 0, "web GET api.test/carts", ""},
		{"over a socket", "--admin unix://" + socket, 0, "web GET api.test/carts", ""},
		{"over a socket, by its path", "--admin " + socket, 0, "web GET api.test/carts", ""},
		{"filters", "--service asked --reason no_route --limit 3 --admin " + at, 0, "no_route  404", ""},
		{"none", "--service none --admin " + at, 0, "no decisions of these: nothing has failed", ""},
		{"an answer that is no success", "--service poor --admin " + at, 0, "answered  503  in", ""},
		{"none as JSON", "--service none -o json --admin " + at, 0, "[]\n", ""},
		{"what would upset a terminal", "--service strange --admin " + at, 0, `tls_no_id  in connection  by \u202egnp` + "\n" + `    accept, downstream: \x1b[2J`, ""},
		{"misspelt reason", "--reason no_rout", 2, "", `unknown reason "no_rout"; did you mean "no_route"?`},
		{"limit", "--limit 0", 2, "", "--limit 0 is less than 1"},
		{"address", "--admin localhost", 2, "", `--admin "localhost" is neither HOST:PORT nor unix:///PATH`},
		{"socket without a path", "--admin unix://run/admin.sock", 2, "", "is neither"},
		{"argument", "api", 2, "", `unknown command "api"`},
		{"nobody there", "--admin unix://" + socket + "x", 1, "", "no proxy answers at unix://" + socket + "x: dial unix"},
		{"no such path", "--admin " + other.Listener.Addr().String(), 1, "", "keeps no decisions"},
		{"something else", "--service broken --admin " + at, 1, "", "not that of a proxy of ours"},
		{"stuck", "--service stuck --admin " + at, 1, "", at + ": a loop does not answer"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := larboard(t, t.TempDir(), append([]string{"ctl", "decisions"}, strings.Fields(test.args)...)...)
			if got.code != test.code {
				t.Errorf("exit code %d, want %d", got.code, test.code)
			}
			contains(t, "stdout", got.stdout, test.stdout)
			contains(t, "stderr", got.stderr, test.stderr)
		})
	}
	var list []admin.DecisionView
	got := larboard(t, t.TempDir(), "ctl", "decisions", "-o", "json", "--admin", at)
	if err := json.Unmarshal([]byte(got.stdout), &list); err != nil || len(list) != 3 || list[0].ID != 9 {
		t.Errorf("as JSON: %v\n%s", err, got.stdout)
	}
}

// Following shows what there is, then what comes, each once and in order, and ends in
// order with its context.
func TestCtlDecisionsFollow(t *testing.T) {
	asked := make(chan string, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		all, after := decided(), r.URL.Query().Get("after")
		list := []admin.DecisionView{} // nothing new
		switch after {
		case "":
			list = all[1:]
		case "8":
			list = all[:1]
		}
		json.NewEncoder(w).Encode(map[string]any{"decisions": list})
		asked <- after
	}))
	defer server.Close()
	client, err := newAdminClient(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out bytes.Buffer
	done := make(chan error, 1)
	go func() { done <- (&decisionsWanted{limit: 2, follow: true, json: true}).show(ctx, client, &out) }()
	for _, want := range []string{"", "8", "9"} {
		if got := <-asked; got != want {
			t.Errorf("asked for what is after %q, want %q", got, want)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("its end: %v", err)
	}
	var ids []uint64
	for decoder := json.NewDecoder(&out); ; {
		var d admin.DecisionView
		if err := decoder.Decode(&d); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, d.ID)
	}
	if len(ids) != 3 || ids[0] != 7 || ids[1] != 8 || ids[2] != 9 {
		t.Errorf("shown: %v", ids)
	}
}
