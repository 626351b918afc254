package e2e

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
)

// reasonRow is a row of what `larboard ctl reasons` prints.
type reasonRow struct {
	Code     string
	Status   int
	GRPC     int
	Sentence string
	Remedy   string
}

// reasonTable is the binary's own.
func reasonTable(t testing.TB) (rows []reasonRow) {
	t.Helper()
	code, out, stderr := command(t, t.TempDir(), "ctl", "reasons", "--output", "json")
	if err := json.Unmarshal([]byte(out), &rows); err != nil || code != 0 {
		t.Fatalf("%d %v %s", code, err, stderr)
	}
	return rows
}

// provocation makes the proxy give an answer of its own, twice: at the listener "told" and at
// the listener "hidden", which has reason_header: false and is the same otherwise.
type provocation struct {
	reason   string
	listener string                  // what both have beside their names and addresses
	rest     func(testing.TB) string // the rest of the configuration
	before   func(testing.TB, *larboard)
	ask      func(t testing.TB, p *larboard, address string) reply // nil: a GET
	// late: the answer has begun before it fails; its status is that of the endpoint.
	late bool
	// refused: the connection is, before there is a request.
	refused bool
	// silent: the connection ends without an answer.
	silent bool
	// untraced: there is no span, since no head of a request could be read.
	untraced bool
}

// reply is what a client got; status 0: nothing.
type reply struct {
	status       int
	reason, body string
	problem      error
}

func TestEveryReasonIsTheSameEverywhere(t *testing.T) {
	rows, provoked := map[string]reasonRow{}, map[string]bool{}
	for _, r := range reasonTable(t) {
		rows[r.Code] = r
	}
	for _, c := range provocations() {
		row, known := rows[c.reason]
		if !known {
			t.Errorf("%s is no reason", c.reason)
			continue
		}
		provoked[c.reason] = true
		t.Run(c.reason, func(t *testing.T) { c.run(t, row) })
	}
	for code, row := range rows {
		why, listed := unprovoked[code]
		switch {
		case provoked[code] && listed:
			t.Errorf("%s is provoked here and listed as one that is not", code)
		case !provoked[code] && !listed:
			t.Errorf("%s (status %d) is neither provoked nor listed with why not", code, row.Status)
		case listed && why.test != "":
			source, err := os.ReadFile(filepath.FromSlash("../../" + why.file))
			if err != nil || !strings.Contains(string(source), "func "+why.test+"(") {
				t.Errorf("%s: %s has no %s", code, why.file, why.test)
			}
		}
	}
	for code := range unprovoked {
		if _, known := rows[code]; !known {
			t.Errorf("%s is listed and no reason", code)
		}
	}
}

func (c *provocation) run(t *testing.T, row reasonRow) {
	ask := c.ask
	if ask == nil {
		ask = sends(plainGet)
	}
	spans := newSpanSink(t)
	p := launch(t, c.reason, fmt.Sprintf("listeners:\n- {name: told, address: 127.0.0.1:0%s}\n- {name: hidden, address: 127.0.0.1:0, reason_header: false%s}\n",
		c.listener, c.listener)+c.rest(t)+"access_log: {path: stdout, format: json}\ntracing: {otlp: {endpoint: "+spans.url+", interval: 100ms}, sample: 100%}\n")
	var told, hidden string
	eventually(t, patience, "listeners", func() error { // one that lacks an identity is never ready
		if status, _, err := p.get("/api/v1/listeners"); err != nil || status != 200 {
			return fmt.Errorf("%d %v", status, err)
		}
		if a, b := p.addresses("told"), p.addresses("hidden"); len(a) == 1 && len(b) == 1 {
			told, hidden = a[0], b[0]
			return nil
		}
		return errors.New("not there")
	})
	if c.before != nil {
		c.before(t, p)
	}
	got := ask(t, p, told)
	switch {
	case c.silent || c.late && got.status == 200:
		if got.reason != "" || c.silent && got.status != 0 {
			t.Errorf("told: %+v", got)
		}
	case got.status != row.Status || got.reason != c.reason || got.body != "" && got.body != c.reason+": "+row.Sentence+"\n":
		t.Errorf("told: %+v, want %d", got, row.Status)
	}
	got = ask(t, p, hidden)
	if wanted := row.Status; got.reason != "" || !c.silent && !c.late && got.status != wanted ||
		strings.Contains(got.body, c.reason) || strings.Contains(got.body, row.Sentence) {
		t.Errorf("hidden: %+v, want %d", got, wanted)
	}
	eventually(t, patience, "the same in log, metrics and decisions", func() error {
		for _, listener := range []string{"told", "hidden"} {
			if err := c.seen(p, listener, row.Status); err != nil {
				return fmt.Errorf("%s: %w", listener, err)
			}
		}
		if !c.refused && !c.untraced && !spans.told(c.reason) {
			return errors.New("no span tells it")
		}
		return nil
	})
}

// spanSink takes what is sent by OTLP over HTTP, unread.
type spanSink struct {
	url string

	mu  sync.Mutex
	all []byte
}

func newSpanSink(t testing.TB) *spanSink {
	s := &spanSink{}
	s.url = "http://" + origin(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.all = append(s.all, body...)
	}))
	return s
}

// told reports whether a span has the reason, an attribute as protocol buffers write it:
// each text behind its field's number and its length.
func (s *spanSink) told(reason string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Contains(s.all, fmt.Appendf(nil, "\x0a\x0flarboard.reason\x12%c\x0a%c%s", len(reason)+2, len(reason), reason))
}

// seen looks for the reason where operators see it.
func (c *provocation) seen(p *larboard, listener string, status int) error {
	metric := "larboard_requests_total"
	if c.refused {
		metric = "larboard_refused_total"
	}
	if n := p.scrape().sum(metric, `listener="`+listener+`"`, `reason="`+c.reason+`"`); n < 1 {
		return fmt.Errorf("%v in %s", n, metric)
	}
	var kept struct {
		Decisions []struct {
			Listener, Reason, Phase, Side string
			Status                        int
		}
	}
	p.view("/api/v1/decisions?reason="+c.reason, &kept)
	found := false
	for _, d := range kept.Decisions {
		found = found || d.Listener == listener && d.Phase != "" && d.Side != "" && (c.refused || c.late || d.Status == status)
	}
	if !found {
		return fmt.Errorf("decisions: %+v", kept.Decisions)
	}
	if c.refused {
		return p.logged("connection refused", "reason="+c.reason+" ", "listener="+listener+" ")
	}
	for line := range strings.Lines(p.stdout.String()) {
		var entry struct {
			Listener, Reason string
			Status           int
		}
		if err := json.Unmarshal([]byte(line), &entry); err == nil && entry.Listener == listener && entry.Reason == c.reason && (c.late || entry.Status == status) {
			return nil
		}
	}
	return errors.New("no line in the access log")
}

const plainGet = "GET / HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"

// replyTo sends the text of a request over a new connection, in TLS where config is not
// nil, and reads what comes.
func replyTo(t testing.TB, address string, config *tls.Config, request string) reply {
	t.Helper()
	var conn net.Conn
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if config != nil {
		conn = tls.Client(conn, config)
	}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, request); err != nil {
		return reply{problem: err}
	}
	return replyOn(t, conn)
}

// replyOn reads what comes.
func replyOn(t testing.TB, conn net.Conn) reply {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return reply{problem: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return reply{resp.StatusCode, resp.Header.Get("x-larboard-reason"), string(body), err}
}

// sends provokes with the text of a request.
func sends(request string) func(testing.TB, *larboard, string) reply {
	return func(t testing.TB, _ *larboard, address string) reply { return replyTo(t, address, nil, request) }
}

// TestDrainingIsTold: what is under way when the time for draining is over is answered as
// such. The process ends with it, so that its log has to do.
func TestDrainingIsTold(t *testing.T) {
	p := start(t, "proxy", "timeouts: {drain: 300ms}\nlisteners:\n- {name: told, address: 127.0.0.1:0, service: app}\n"+
		"- {name: hidden, address: 127.0.0.1:0, service: app, reason_header: false}\n"+toHanging(t)+"access_log: {path: stdout, format: json}\n")
	replies := make(chan reply, 2)
	told, hidden := p.address("told"), p.address("hidden")
	for _, address := range []string{told, hidden} {
		go func() { replies <- replyTo(t, address, nil, plainGet) }()
	}
	eventually(t, patience, "two requests under way", func() error {
		if n := p.inFlight(); n != 2 {
			return fmt.Errorf("%d", n)
		}
		return nil
	})
	p.signal(syscall.SIGTERM)
	reasons := map[string]int{}
	for range 2 {
		r := <-replies
		if reasons[r.reason]++; r.status != 503 {
			t.Errorf("%+v", r)
		}
	}
	if reasons["draining"] != 1 || reasons[""] != 1 {
		t.Errorf("reasons: %v", reasons)
	}
	if code := p.exit(patience); code != 0 || strings.Count(p.stdout.String(), `"reason":"draining"`) != 2 {
		t.Errorf("exit code %d, log:\n%s", code, p.stdout.String())
	}
}

// inFlight is how many exchanges are at endpoints.
func (p *larboard) inFlight() (n int) {
	var v struct {
		Endpoints []struct {
			InFlight int `json:"in_flight"`
		}
	}
	p.view("/api/v1/endpoints", &v)
	for _, e := range v.Endpoints {
		n += e.InFlight
	}
	return n
}

// TestReasonOverHTTP2AndGRPC: the field is there in every version, in gRPC beside the
// status, and hidden in all alike.
func TestReasonOverHTTP2AndGRPC(t *testing.T) {
	p := start(t, "proxy", "limits: {fields: 10}\nlisteners:\n- {name: told, address: 127.0.0.1:0, service: app}\n"+
		"- {name: hidden, address: 127.0.0.1:0, service: app, reason_header: false}\nservices: [{name: app, endpoints: ["+freeAddress(t)+"]}]\n")
	client := http2Client(t)
	for _, c := range []struct {
		reason string
		status int
		change func(*http.Request)
	}{
		{"connect_failed", 503, func(*http.Request) {}},
		{"head_too_large", 431, func(r *http.Request) {
			for i := range 20 {
				r.Header.Set(fmt.Sprint("x-field-", i), "x")
			}
		}},
	} {
		for listener, want := range map[string]string{"told": c.reason, "hidden": ""} {
			request, err := http.NewRequest("GET", "http://"+p.address(listener)+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			c.change(request)
			resp, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != c.status || resp.Header.Get("x-larboard-reason") != want || want == "" && strings.Contains(string(body), c.reason) {
				t.Errorf("%s at %s: %d %q %q %v", c.reason, listener, resp.StatusCode, resp.Header.Get("x-larboard-reason"), body, err)
			}
		}
	}
	for listener, want := range map[string]string{"told": "connect_failed: no connection to the endpoint could be made", "hidden": "the service is not available"} {
		var header, trailer metadata.MD
		_, err := newGRPCCaller(t, p.address(listener)).say(t.Context(), "echo", grpc.Header(&header), grpc.Trailer(&trailer))
		reason, _, told := strings.Cut(want, ":")
		if got := strings.Join(append(header.Get("x-larboard-reason"), trailer.Get("x-larboard-reason")...), " "); told && got != reason || !told && got != "" {
			t.Errorf("%s: the reason is %q in %v %v", listener, got, header, trailer)
		}
		if err == nil || !strings.HasSuffix(err.Error(), "desc = "+want) {
			t.Errorf("%s: %v", listener, err)
		}
	}
	eventually(t, patience, "counted by their reasons", func() error {
		for _, c := range []struct {
			reason string
			n      float64
		}{{"connect_failed", 4}, {"head_too_large", 2}} {
			if n := p.scrape().sum("larboard_requests_total", `reason="`+c.reason+`"`); n != c.n {
				return fmt.Errorf("%v with %s", n, c.reason)
			}
		}
		return nil
	})
}

// TestReasonOfAnEndpointsProxy: it passes a caller's sidecar that tells reasons, and another
// one answers in its own words, whether it has tried again or not.
func TestReasonOfAnEndpointsProxy(t *testing.T) {
	mesh := newAuthority(t, meshDomain)
	api := newSVIDFiles(t, mesh.svid("api"), mesh).identity()
	for _, c := range []struct {
		reason, sentence, plain string
		status                  int
		code                    codes.Code
		called                  string
	}{
		{"connect_failed", "no connection to the endpoint could be made", "the service is not available", 503, codes.Unavailable,
			fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0}\n", freeAddress(t))},
		{"not_allowed", "the allow list does not name the caller", "the request is not allowed", 403, codes.PermissionDenied,
			fmt.Sprintf("workload: {service: api, address: %q, listen: 127.0.0.1:0, allow: [/nobody]}\n", freeAddress(t))},
	} {
		t.Run(c.reason, func(t *testing.T) {
			called := start(t, "api", api+"reason_header: false\n"+c.called) // which a mesh listener heeds only where it stands there
			caller := start(t, "web", newSVIDFiles(t, mesh.svid("web"), mesh).identity()+fmt.Sprintf(
				"services: [{name: api, endpoints: [%q], tls: {spiffe: {}}}]\n"+
					"listeners:\n- {name: told, address: 127.0.0.1:0, service: api}\n- {name: hidden, address: 127.0.0.1:0, service: api, reason_header: false}\n",
				called.address("inbound")))
			want := reply{status: c.status, reason: c.reason, body: c.reason + ": " + c.sentence + "\n"}
			if got := replyTo(t, caller.address("told"), nil, plainGet); got != want {
				t.Errorf("told: %+v", got)
			}
			if got := replyTo(t, caller.address("hidden"), nil, plainGet); got != (reply{status: c.status, body: c.plain + "\n"}) {
				t.Errorf("hidden: %+v", got)
			}
			for listener, message := range map[string]string{"told": c.reason + ": " + c.sentence, "hidden": c.plain} {
				var header, trailer metadata.MD
				_, err := newGRPCCaller(t, caller.address(listener)).say(t.Context(), "echo", grpc.Header(&header), grpc.Trailer(&trailer))
				mustFail(t, err, c.code, message)
				if said := append(header.Get("x-larboard-reason"), trailer.Get("x-larboard-reason")...); (len(said) > 0) != (listener == "told") ||
					listener == "hidden" && strings.Contains(err.Error(), c.reason) {
					t.Errorf("%s: %v %q", listener, err, said)
				}
			}
		})
	}
}
