//go:build linux

package attack

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestHostileEndpoints: whatever an endpoint does, its callers are answered in time and
// the callers of others notice nothing.
func TestHostileEndpoints(t *testing.T) {
	e := listen(t)
	app := origin(t)
	l := start(t, fmt.Sprintf(configuration, app, e.address))
	tr := browse(t, l.address("ordinary"), app)
	eventually(t, time.Minute, "ordinary traffic", tr.flows)
	var results table
	defer func() { t.Logf("\n%v", &results) }()
	for _, u := range upstreams() {
		t.Run(u.name, func(t *testing.T) { u.judge(t, l, e, tr, &results) })
	}
}

// judge runs one attack and holds the proxy to its promises.
func (u *upstream) judge(t *testing.T, l *larboard, e *endpoint, tr *traffic, results *table) {
	l.t, tr.t = t, t
	before, counted, idle := l.load(), l.reasons(), l.resident()
	worst := l.worst()
	e.become(u)
	callers := call(l.address("in"), u.post)
	u.prove(l, counted)
	answers := callers.end()
	w := compareAgain(t, l, tr, func() func() {
		more := call(l.address("in"), u.post)
		return func() { answers.merge(more.end()) }
	})
	done := e.become(nil)
	peak := worst() - idle
	reasons := minus(l.reasons(), counted)
	verdict := fmt.Sprintf("%-24s %v, +%4.1f MiB; answers: %s; counted: %s; %v", u.name, w, float64(peak)/(1<<20), counts(answers.got), counts(reasons), done)
	results.add("%s", verdict)
	t.Log(verdict)
	if peak > memory {
		t.Errorf("memory grew by %d MiB", peak>>20)
	}
	for status := range answers.got {
		if !slices.Contains(u.answers, status) {
			t.Errorf("a caller got %s", status)
		}
	}
	if done.conns == 0 || sumOf(answers.got) == 0 {
		t.Error("the endpoint was not called")
	}
	if len(u.ends) > 0 && !slices.ContainsFunc(u.ends, func(end string) bool { return done.ends[end] > 0 }) {
		t.Errorf("no connection ended by %q", u.ends)
	}
	if len(u.reasons) > 0 && !slices.ContainsFunc(u.reasons, func(r string) bool { return reasons[r] > 0 }) {
		t.Errorf("nothing counted as %q, but %v", u.reasons, reasons)
	}
	tr.clean()
	l.alive()
	l.calmed(before)
}

// prove waits a second for what comes of it, and longer for what is to be counted.
func (u *upstream) prove(l *larboard, counted map[string]int) {
	for began := time.Now(); time.Since(began) < proof; {
		time.Sleep(time.Second)
		seen := minus(l.reasons(), counted)
		if len(u.reasons) == 0 || slices.ContainsFunc(u.reasons, func(r string) bool { return seen[r] > 0 }) {
			return
		}
	}
}

// reasons are all that is counted by reason.
func (l *larboard) reasons() map[string]int {
	all := l.scrape()
	both := all.byReason("larboard_requests_total")
	for _, name := range []string{"larboard_http2_abuse_total", "larboard_upstream_http2_abuse_total"} {
		for reason, n := range all.byReason(name) {
			both[reason] += n
		}
	}
	delete(both, "none")
	delete(both, "ok")
	return both
}

// callers are clients of the hostile endpoint, of both versions.
type callers struct {
	stop chan struct{}
	all  sync.WaitGroup
	mu   sync.Mutex
	got  map[string]int
}

// asking is how many callers of each version there are; each asks again at once, but
// no more than 50 times a second.
const asking = 4

func call(address string, post bool) *callers {
	c := &callers{stop: make(chan struct{}), got: map[string]int{}}
	for _, version := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := caller(version)
		client.Timeout = 30 * time.Second // beyond the proxy's own times
		for range asking {
			c.all.Go(func() {
				for {
					status := askHostile(client, "http://"+address+"/hostile", post)
					c.mu.Lock()
					c.got[status]++
					c.mu.Unlock()
					select {
					case <-c.stop:
						client.CloseIdleConnections()
						return
					case <-time.After(20 * time.Millisecond):
					}
				}
			})
		}
	}
	return c
}

// end waits until the last of them is answered.
func (c *callers) end() *callers {
	close(c.stop)
	c.all.Wait()
	return c
}

func (c *callers) merge(more *callers) {
	for status, n := range more.got {
		c.got[status] += n
	}
}

// askHostile returns the status, "broken" for an answer or connection that ended early, and
// "hung" for one that did not end.
func askHostile(client *http.Client, url string, post bool) string {
	method, body := http.MethodGet, io.Reader(nil)
	if post {
		method, body = http.MethodPost, strings.NewReader(strings.Repeat("x", 1<<20))
	}
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		return err.Error()
	}
	resp, err := client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded) || err != nil && strings.Contains(err.Error(), "Client.Timeout"):
		return "hung"
	case err != nil:
		return "broken"
	}
	return fmt.Sprint(resp.StatusCode)
}

// sumOf adds up a count.
func sumOf[K comparable](m map[K]int) (n int) {
	for _, v := range m {
		n += v
	}
	return n
}
