//go:build linux

package attack

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// origin is the service behind the victim. It answers at once, with very much, or not
// before its client has gone.
func origin(t testing.TB) string {
	t.Helper()
	ending := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/big":
			piece := make([]byte, 64<<10)
			for range 1024 {
				if _, err := w.Write(piece); err != nil {
					return
				}
			}
		case "/wait":
			_, _ = io.Copy(io.Discard, r.Body) // cut off where the client is
			fallthrough
		case "/hold":
			select {
			case <-r.Context().Done():
			case <-ending:
			case <-time.After(10 * time.Second):
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			_, _ = io.WriteString(w, "ok") // seen by the client
		}
	}))
	t.Cleanup(func() {
		close(ending)
		s.Close()
	})
	return s.Listener.Addr().String()
}

// traffic is what ordinary clients send: a fixed rate over HTTP/1.1, the same over
// HTTP/2, and the same again to the service without a proxy, which shows what the
// machine itself does to latency. It runs from when a request was due.
type traffic struct {
	t                testing.TB
	mu               sync.Mutex
	proxied, control []time.Duration // of the window
	requests         int
	failed           map[string]int
	stop             context.CancelFunc
	all              sync.WaitGroup
	clients          []*http.Client
}

// rate is that of each client, in requests a second.
const rate = 100

// underway bounds the requests of one client at a time, so that a machine which cannot
// keep up is not given more to do; those that wait for their turn count as late.
const underway = 16

func browse(t testing.TB, address, origin string) *traffic {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	tr := &traffic{t: t, failed: map[string]int{}, stop: stop}
	tr.keepOn(ctx, "HTTP/1.1", address, &tr.proxied)
	tr.keepOn(ctx, "HTTP/2.0", address, &tr.proxied)
	tr.keepOn(ctx, "HTTP/1.1", origin, &tr.control)
	t.Cleanup(tr.end)
	return tr
}

// caller is a client that speaks one version, over plain text.
func caller(version string) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), MaxIdleConnsPerHost: 64}
	transport.Protocols.SetHTTP1(version == "HTTP/1.1")
	transport.Protocols.SetUnencryptedHTTP2(version == "HTTP/2.0")
	return &http.Client{Timeout: 30 * time.Second, Transport: transport}
}

// keepOn sends at the rate until the context is done.
func (tr *traffic) keepOn(ctx context.Context, version, address string, into *[]time.Duration) {
	client, began := caller(version), time.Now()
	tr.clients = append(tr.clients, client)
	room := make(chan struct{}, underway)
	tr.all.Go(func() {
		for n := 0; ; n++ {
			due := began.Add(time.Duration(n) * time.Second / rate)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Until(due)):
			}
			room <- struct{}{}
			tr.all.Go(func() {
				defer func() { <-room }()
				err := ask(client, version, "http://"+address+"/")
				tr.note(time.Since(due), err, version, into)
			})
		}
	})
}

func (tr *traffic) note(taken time.Duration, err error, version string, into *[]time.Duration) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.requests++
	*into = append(*into, taken)
	if err != nil {
		tr.failed[version+": "+err.Error()]++
	}
}

// ask is nil where everything is as it should be.
func ask(client *http.Client, version, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || string(body) != "ok" || resp.Proto != version) {
		err = fmt.Errorf("%s %d %s %.40q", resp.Proto, resp.StatusCode, resp.Header.Get("x-larboard-reason"), body)
	}
	return err
}

// measure is the p99 of a window that begins now, through the proxy and beside it.
func (tr *traffic) measure(d time.Duration) (proxied, control time.Duration) {
	tr.mu.Lock()
	tr.proxied, tr.control = tr.proxied[:0], tr.control[:0]
	tr.mu.Unlock()
	time.Sleep(d) // the window is what is measured
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return p99(tr.proxied, d), p99(tr.control, d)
}

// p99 of a window; all of its time where nothing was answered in it.
func p99(all []time.Duration, window time.Duration) time.Duration {
	if len(all) == 0 {
		return window
	}
	slices.Sort(all)
	return all[len(all)*99/100]
}

// end stops the sending and waits for what is under way.
func (tr *traffic) end() {
	tr.stop()
	tr.all.Wait()
	for _, c := range tr.clients {
		c.CloseIdleConnections()
	}
}

// clean fails the test where a request has failed.
func (tr *traffic) clean() {
	tr.t.Helper()
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.failed) > 0 || tr.requests == 0 {
		text := counts(tr.failed)
		tr.t.Errorf("of %d ordinary requests failed: %s", tr.requests, text[:min(len(text), 1000)])
		clear(tr.failed)
	}
}

func median(all []time.Duration) time.Duration {
	all = slices.Clone(all)
	slices.Sort(all)
	return all[len(all)/2]
}

// windows compares p99 and CPU with an attack and without, in windows that alternate.
type windows struct {
	with, without, control []time.Duration
	cpuWith, cpuWithout    time.Duration
	each                   time.Duration
}

// compare runs the windows; during starts the attack and returns what ends it.
func compare(l *larboard, tr *traffic, pairs int, each time.Duration, during func() (end func())) windows {
	w := windows{each: each * time.Duration(pairs)}
	for range pairs {
		before := l.cpu()
		without, _ := tr.measure(each)
		w.cpuWithout += l.cpu() - before
		end := during()
		before = l.cpu()
		with, control := tr.measure(each)
		w.cpuWith += l.cpu() - before
		end()
		w.with, w.without, w.control = append(w.with, with), append(w.without, without), append(w.control, control)
		time.Sleep(100 * time.Millisecond) // what the end of the attack costs is in neither
	}
	return w
}

// floor is the p99 below which the clients, which share the machine's CPUs with the
// proxy and the attacker, measure themselves.
const floor = 2 * time.Millisecond

// work is how much of one CPU the proxy may spend on an attack at the stated rates.
const work = 0.5

// ratio is how many times the p99 without an attack it is with one. A machine that makes
// requests wait which go past the proxy is not the proxy's fault.
func (w windows) ratio() float64 {
	return float64(max(median(w.with), floor)) / float64(max(median(w.without), median(w.control), floor))
}

// spent is the CPU time that went into an attack, as a share of one CPU.
func (w windows) spent() float64 { return (w.cpuWith - w.cpuWithout).Seconds() / w.each.Seconds() }

// fault is what is wrong with them, or nothing.
func (w windows) fault() string {
	switch {
	case w.ratio() > 2:
		return fmt.Sprintf("p99 is %.2f times what it is without the attack", w.ratio())
	case w.spent() > work:
		return fmt.Sprintf("the attack costs the proxy %.0f %% of a CPU", 100*w.spent())
	}
	return ""
}

func (w windows) String() string {
	return fmt.Sprintf("p99 %6.2f ms, %6.2f without, %6.2f past the proxy (%.2fx), CPU %+4.0f %%",
		ms(median(w.with)), ms(median(w.without)), ms(median(w.control)), w.ratio(), 100*w.spent())
}

// compareAgain is compare, repeated where something seems wrong: what else the machine
// does can spoil a window, so only what stays counts.
func compareAgain(t testing.TB, l *larboard, tr *traffic, during func() (end func())) (w windows) {
	t.Helper()
	f := lengths()
	for range 8 {
		w = compare(l, tr, f.pairs, f.each, during)
		if w.fault() == "" {
			return w
		}
		t.Logf("once more: %v", w)
	}
	t.Error(w.fault())
	return w
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// table is what a run shows in the end.
type table struct {
	mu    sync.Mutex
	lines []string
}

func (t *table) add(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, fmt.Sprintf(format, args...))
}

func (t *table) String() string { return strings.Join(t.lines, "\n") }
