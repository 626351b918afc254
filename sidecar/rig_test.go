package sidecar

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// rig is a sidecar that runs for the length of a test, under a configuration that
// the test may exchange.
type rig struct {
	*Sidecar
	t      testing.TB
	cancel context.CancelFunc
	done   chan struct{}
	err    error // of Run; after done

	mu   sync.Mutex
	text string
}

// patience is how long a test waits for what is sure to come.
const patience = 20 * time.Second

func newSidecar(t testing.TB, text string, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, text: text, done: make(chan struct{})}
	o := Options{Load: r.load, Log: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&o)
	}
	var err error
	if r.Sidecar, err = New(o); err != nil {
		t.Fatal(err)
	}
	return r
}

// begin runs it; at the end of the test it is stopped at once.
func (r *rig) begin() *rig {
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		defer close(r.done)
		r.err = r.Run(ctx)
	}()
	r.t.Cleanup(func() {
		cancel()
		r.wait()
	})
	return r
}

// start returns a sidecar that is ready.
func start(t testing.TB, text string) *rig {
	t.Helper()
	r := newSidecar(t, text, nil).begin()
	r.awaitReady()
	return r
}

func (r *rig) awaitReady() {
	r.t.Helper()
	eventually(r.t, "ready", func() bool {
		select {
		case <-r.done:
			r.t.Fatalf("ended: %v", r.err)
		default:
		}
		return r.Ready()
	})
}

// wait returns what Run returned.
func (r *rig) wait() error {
	r.t.Helper()
	select {
	case <-r.done:
		return r.err
	case <-time.After(patience):
		r.t.Fatal("Run does not return")
		return nil
	}
}

func (r *rig) load() (*config.Config, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	text := r.text
	if engine := os.Getenv("LARBOARD_ENGINE"); engine != "" {
		text += "\nengine: " + engine + "\n" // see `make test-goroutines`
	}
	c, problems := config.Load("test.yaml", []byte(text))
	return c, problems.Err()
}

func (r *rig) write(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.text = text
}

// address is where a listener listens.
func (r *rig) address(name string) string {
	for _, l := range r.Listeners() {
		if l.Name == name {
			return l.Addresses[0]
		}
	}
	r.t.Fatalf("no listener %q", name)
	return ""
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// says is an origin that answers with its name.
func says(t testing.TB, name string) string {
	return origin(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, name) })
}

func origin(t testing.TB, h http.HandlerFunc) string {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// get asks over a new connection.
func get(t testing.TB, address string) string {
	t.Helper()
	text, err := fetch(address)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fetch(address string) (string, error) {
	tr := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: tr, Timeout: patience}).Get("http://" + address + "/")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return fmt.Sprintf("%d %s", resp.StatusCode, b), err
}

// taken is an address that somebody else serves, free one that nobody does.
func taken(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func free(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// slow is a registry whose answers the test gives.
type slow struct {
	mu      sync.Mutex
	asked   map[string]int
	answers map[string]chan []string
}

func (s *slow) source(d *config.ConsulDiscovery) discovery.Source {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[d.Service]++
	return slowSource{s.channel(d.Service)}
}

func (s *slow) channel(name string) chan []string {
	if s.answers == nil {
		s.answers = map[string]chan []string{}
	}
	if s.answers[name] == nil {
		s.answers[name] = make(chan []string, 1)
	}
	return s.answers[name]
}

func (s *slow) answer(name string, addresses ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.channel(name) <- addresses
}

func (s *slow) times(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[name]
}

type slowSource struct{ answers chan []string }

func (s slowSource) Run(ctx context.Context, out func(discovery.Update)) error {
	for {
		select {
		case all := <-s.answers:
			u := discovery.Update{At: time.Now()}
			for _, a := range all {
				u.Endpoints = append(u.Endpoints, discovery.Endpoint{ID: a, Address: a, Weight: 1, Source: "slow"})
			}
			out(u)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// noLeaks fails the test if goroutines of ours or descriptors outlive it.
func noLeaks(t testing.TB) {
	t.Helper()
	before := descriptors(t)
	t.Cleanup(func() {
		eventually(t, "our goroutines and descriptors to go", func() bool {
			return len(ours()) == 0 && descriptors(t) <= before
		})
	})
}

func descriptors(t testing.TB) int {
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func ours() (found []string) {
	stacks := make([]byte, 4<<20)
	for _, g := range strings.Split(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if strings.Contains(g, "larboard-proxy/larboard/") && !strings.Contains(g, "testing.tRunner") && !strings.Contains(g, "testing.(*") {
			found = append(found, g)
		}
	}
	return found
}
