package dns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/larboard-proxy/larboard/discovery"
)

// watched is a running source on a virtual clock.
type watched struct {
	mu    sync.Mutex // guards lines
	zone  *zone
	start time.Time
	lines []string
}

func watch(t *testing.T, o Options, test func(t *testing.T, w *watched)) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{zone: &zone{}, start: time.Now()}
		o.Name, o.Port = "web.test", 80
		s := newTest(t, o, w.zone.ask)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		w.zone.set(t, "web.test. 10 IN A 10.0.0.1")
		go func() { done <- s.Run(ctx, w.update) }()
		synctest.Wait()
		test(t, w)
		cancel()
		if err := <-done; err != context.Canceled {
			t.Errorf("Run returned %v", err)
		}
	})
}

func (w *watched) update(u discovery.Update) {
	text := fmt.Sprintf("%v #%d %s", time.Since(w.start), u.Index, addressesOf(u.Endpoints))
	if u.Err != nil {
		text = fmt.Sprintf("%v %v", time.Since(w.start), u.Err)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lines = append(w.lines, text)
}

// take returns the updates since the last time.
func (w *watched) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := w.lines
	w.lines = nil
	return lines
}

// want compares the updates since the last time.
func (w *watched) want(t *testing.T, lines ...string) {
	t.Helper()
	synctest.Wait()
	if got, want := strings.Join(w.take(), "\n"), strings.Join(lines, "\n"); got != want {
		t.Errorf("updates:\n%s\nwant:\n%s", got, want)
	}
}

func TestRunAsksAgainWhenTheAnswerExpires(t *testing.T) {
	watch(t, Options{MinTTL: 2 * time.Second, MaxTTL: 20 * time.Second}, func(t *testing.T, w *watched) {
		w.want(t, "0s #1 10.0.0.1:80")
		w.zone.set(t, "web.test. 0 IN A 10.0.0.1", "web.test. 0 IN A 10.0.0.2")
		time.Sleep(12 * time.Second)
		w.want(t, "10s #2 10.0.0.1:80 10.0.0.2:80", "12s #2 10.0.0.1:80 10.0.0.2:80")
		w.zone.set(t, "web.test. 3600 IN A 10.0.0.2")
		time.Sleep(22 * time.Second)
		w.want(t, "14s #3 10.0.0.2:80", "34s #3 10.0.0.2:80")
	})
}

func TestRunKeepsTheLastGoodSetThroughErrors(t *testing.T) {
	watch(t, Options{}, func(t *testing.T, w *watched) {
		w.want(t, "0s #1 10.0.0.1:80")
		w.zone.fail(0, errors.New("silence"))
		time.Sleep(11 * time.Second)
		const failed = " dns: A records of web.test: silence"
		w.want(t, "10s"+failed, "10.25s"+failed, "10.75s"+failed)
		before := w.zone.queries()
		time.Sleep(10 * time.Minute)
		// Each refresh asks the one resolver twice, at the shortest 2.5 s apart.
		if n := w.zone.queries() - before; n > 2*10*60*10/25+20 {
			t.Errorf("%d queries in 10 minutes of failure", n)
		}
		w.zone.set(t, "web.test. 10 IN A 10.0.0.1")
		w.take()
		time.Sleep(maxBackoff)
		if lines := w.take(); len(lines) == 0 || !strings.HasSuffix(lines[0], "#1 10.0.0.1:80") {
			t.Errorf("updates after the resolver is back: %q", lines)
		}
	})
}

func TestRunDoubtsAnEmptyAnswer(t *testing.T) {
	const gone = " dns: A records of web.test: web.test. does not exist (NXDOMAIN); the last endpoints are kept"
	t.Run("confirm", func(t *testing.T) {
		watch(t, Options{}, func(t *testing.T, w *watched) {
			w.zone.set(t, soa)
			time.Sleep(22 * time.Second)
			w.want(t, "0s #1 10.0.0.1:80", "10s"+gone+" until that is confirmed", "15s"+gone+" until that is confirmed", "20s #2 ")
			// Now it is known: asked again when the negative answer expires, in 30 s at most.
			time.Sleep(28 * time.Second)
			w.want(t, "50s #2 ")
			w.zone.set(t, "web.test. 10 IN A 10.0.0.1")
			time.Sleep(30 * time.Second)
			w.want(t, "1m20s #3 10.0.0.1:80")
		})
	})
	t.Run("an error in between", func(t *testing.T) {
		watch(t, Options{}, func(t *testing.T, w *watched) {
			w.zone.set(t, soa)
			time.Sleep(16 * time.Second)
			w.zone.fail(dns.RcodeServerFailure, nil)
			time.Sleep(4 * time.Second)
			w.zone.set(t, soa)
			time.Sleep(5 * time.Second)
			w.take()
			time.Sleep(4 * time.Second)
			for _, line := range w.take() {
				if !strings.Contains(line, "kept until") {
					t.Errorf("the count did not begin anew: %s", line)
				}
			}
		})
	})
	t.Run("keep", func(t *testing.T) {
		watch(t, Options{OnEmpty: keep}, func(t *testing.T, w *watched) {
			w.zone.set(t, soa)
			time.Sleep(time.Minute)
			w.want(t, "0s #1 10.0.0.1:80", "10s"+gone+" as configured", "40s"+gone+" as configured")
		})
	})
	t.Run("accept", func(t *testing.T) {
		watch(t, Options{OnEmpty: accept}, func(t *testing.T, w *watched) {
			w.zone.set(t, soa)
			time.Sleep(11 * time.Second)
			w.want(t, "0s #1 10.0.0.1:80", "10s #2 ")
		})
	})
}

func TestRunBeginsWithANameThatDoesNotExist(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &watched{zone: &zone{}, start: time.Now()}
		s := newTest(t, Options{Name: "web.test", Port: 80}, w.zone.ask)
		if wait := s.refresh(t.Context(), w.update); wait != time.Second {
			t.Errorf("asks again after %v", wait)
		}
		w.want(t, "0s #1 ")
	})
}

func TestLifetimeSpreads(t *testing.T) {
	s := newTest(t, Options{Name: "web.test", Port: 80}, nil)
	s.rand = func() float64 { return 0.5 }
	if got := s.lifetime(&found{endpoints: make([]discovery.Endpoint, 1), ttl: 20 * time.Second}); got != 21*time.Second {
		t.Errorf("%v", got)
	}
}

// The file that names the resolvers is read for each refresh.
func TestResolversOfTheSystem(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	z := &zone{}
	z.set(t, "web.test. 10 IN A 10.0.0.1")
	s := newTest(t, Options{Name: "web.test", Port: 80}, z.ask)
	s.options.Resolvers, s.conf = nil, file
	via := func() string {
		f, err := s.find(t.Context())
		if err != nil {
			return err.Error()
		}
		return f.via
	}
	if got := via(); !strings.Contains(got, "no such file") {
		t.Error(got)
	}
	for _, c := range []struct{ text, want string }{
		{"search a.test\noptions ndots:5\nnameserver 192.0.2.1\nnameserver 192.0.2.2\n", "192.0.2.1:53"},
		{"nameserver fe80::1%eth0\n", "[fe80::1%eth0]:53"},
		{"nameserver dns.test\n", "no resolver is known: " + file + " names none"},
		{"", "no resolver is known: " + file + " names none"},
	} {
		write(c.text)
		if got := via(); got != c.want {
			t.Errorf("with %q: %s, want %s", c.text, got, c.want)
		}
	}
}
