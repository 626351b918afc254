package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// allowed runs a command with a hard limit of file descriptors.
func allowed(n int) []string {
	return []string{"/bin/sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, n)}
}

// holding is an endpoint that answers when it is told to.
func holding(t testing.TB) (address string, release func()) {
	t.Helper()
	gate := make(chan struct{})
	address = origin(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-gate }))
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	return address, release
}

// TestTooFewDescriptorsEndTheStart: a number of connections that cannot be is refused
// with the numbers, and what would do is right.
func TestTooFewDescriptorsEndTheStart(t *testing.T) {
	configuration := func(limits string) string { return app(plainListener, "127.0.0.1:9") + limits + "\n" }
	p := launchTo(t, nil, shortDir(t), "proxy", configuration("limits: {connections: 10000}"), allowed(1024)...)
	if code := p.exit(patience); code != 2 {
		t.Errorf("exit code %d", code)
	}
	_, rest, _ := strings.Cut(p.log(), "or allow ")
	var most int
	if _, err := fmt.Sscan(rest, &most); err != nil || most < 200 || most > 500 ||
		!strings.Contains(p.log(), "larboard.yaml:3:23: limits.connections: 10000 connections need 20") ||
		!strings.Contains(p.log(), "this process may have 1024; raise it (ulimit -n, LimitNOFILE= of systemd") {
		t.Errorf("%v: %s", err, p.log())
	}
	q := launchTo(t, nil, shortDir(t), "proxy", configuration(fmt.Sprintf("limits: {connections: %d}", most)), allowed(1024)...)
	q.waitReady()
	q.configure(configuration(fmt.Sprintf("limits: {connections: %d}", most+1)))
	if status, body := q.reload(); status != http.StatusUnprocessableEntity || !strings.Contains(body, "raise it") {
		t.Errorf("a reload over the budget: %d %s", status, body)
	}
	if v := q.limits(); v.ConnectionsLimit != int64(most) || v.DescriptorsLimit != 1024 {
		t.Errorf("in force: %+v", v)
	}
	if tiny := launchTo(t, nil, shortDir(t), "proxy", configuration(""), allowed(100)...); tiny.exit(patience) != 2 ||
		!strings.Contains(tiny.log(), "no connection is possible") {
		t.Errorf("with 100 descriptors: %s", tiny.log())
	}
}

// TestDerivedLimitHolds: where nothing is configured, as many connections as the
// descriptors suffice for are served, each with one to an endpoint; those above are
// refused, accepting never pauses, and the admin interface answers.
func TestDerivedLimitHolds(t *testing.T) {
	address, release := holding(t)
	p := launchTo(t, nil, shortDir(t), "proxy", app(plainListener, address), allowed(1024)...)
	p.waitReady()
	limit := int(p.limits().ConnectionsLimit)
	if want := (1024 - p.limits().DescriptorsReserved) / 2; limit != want || limit < 200 {
		t.Fatalf("derived %+v", p.limits())
	}
	p.waitLog(fmt.Sprintf("connections=%d descriptors=1024", limit))
	callers := make([]*caller, limit)
	statuses := make(chan string, limit)
	for i := range callers {
		callers[i] = dialCaller(t, p.address("in"))
		go func() {
			status, _, _, err := callers[i].ask("/")
			statuses <- fmt.Sprintf("%d %v", status, err)
		}()
	}
	eventually(t, patience, "all requests to be with the endpoint", func() error {
		if n := p.scrape().sum("larboard_upstream_connections_total", `outcome="established"`); int(n) != limit {
			return fmt.Errorf("%v of %d", n, limit)
		}
		return nil
	})
	if status, reason, _, err := dialCaller(t, p.address("in")).ask("/"); err != nil || status != 503 || reason != "connection_limit" {
		t.Errorf("one more: %d %q %v", status, reason, err)
	}
	if v := p.limits(); v.Descriptors < 2*limit || v.Descriptors > v.DescriptorsLimit {
		t.Errorf("at the limit: %+v", v)
	}
	release()
	for range callers {
		if got := <-statuses; got != "200 <nil>" {
			t.Errorf("answered %s", got)
		}
	}
	if n := p.scrape().sum("larboard_engine_accept_backoffs_total"); n != 0 {
		t.Errorf("accepting paused %v times", n)
	}
}

// TestDescriptorsRunOutAndComeBack: whoever takes descriptors away at run time finds
// the proxy waiting, saying so once in a while, and well again afterwards.
func TestDescriptorsRunOutAndComeBack(t *testing.T) {
	p := start(t, "proxy", app(plainListener, startWorkload(t, "one").address))
	address := p.address("in")
	open := p.limits().Descriptors
	var was unix.Rlimit
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	few := unix.Rlimit{Cur: uint64(open + 4), Max: was.Max}
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_NOFILE, &few, nil); err != nil {
		t.Fatal(err)
	}
	const callers = 50
	answers := make(chan string, callers)
	for range callers {
		c := dialCaller(t, address)
		go func() {
			status, _, _, err := c.ask("/")
			answers <- fmt.Sprintf("%d %v", status, err)
		}()
	}
	eventually(t, patience, "accepting to pause", func() error {
		if n := p.scrape().sum("larboard_engine_accept_backoffs_total"); n < 5 {
			return fmt.Errorf("%v pauses", n)
		}
		return nil
	})
	if n := strings.Count(p.log(), "accepting paused"); n < 1 || n > 4 {
		t.Errorf("said %d times", n)
	}
	if err := unix.Prlimit(p.pid(), unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	good := 0
	for range callers {
		if got := <-answers; got == "200 <nil>" {
			good++
		} else if got != "503 <nil>" { // accepted, and nothing left for the endpoint
			t.Errorf("answered %s", got)
		}
	}
	if good < callers/2 {
		t.Errorf("%d of %d served", good, callers)
	}
	if again, _ := crowd(t, address, callers); len(again) != callers {
		t.Errorf("%d of %d afterwards", len(again), callers)
	}
	if n := p.scrape().sum("larboard_requests_total", `reason="connect_failed"`); n != 0 {
		t.Errorf("the endpoint was blamed %v times", n)
	}
	p.signal(syscall.SIGTERM)
	if code := p.exit(patience); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
