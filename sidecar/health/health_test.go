package health

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// network is a fake dialer inside a synctest bubble: each address is up, down or
// hangs.
type network struct {
	mu    sync.Mutex
	state map[string]string
	dials map[string][]time.Time
	open  int // dials under way
	most  int
	takes time.Duration
}

func newNetwork() *network {
	return &network{state: map[string]string{}, dials: map[string][]time.Time{}}
}

func (n *network) set(address, state string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.state[address] = state
}

func (n *network) dial(ctx context.Context, _, address string) (net.Conn, error) {
	n.mu.Lock()
	n.dials[address] = append(n.dials[address], time.Now())
	n.open++
	n.most = max(n.most, n.open)
	state := n.state[address]
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		n.open--
		n.mu.Unlock()
	}()
	time.Sleep(n.takes)
	switch state {
	case "down":
		return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	case "hangs":
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ours, theirs := net.Pipe()
	go func() {
		theirs.Read(make([]byte, 1))
		theirs.Close()
	}()
	return ours, nil
}

func (n *network) count(address string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.dials[address])
}

// bench is a running checker with what it reported.
type bench struct {
	*Checker
	network *network
	mu      sync.Mutex
	changes []Change
	log     bytes.Buffer
	stop    func()
}

func newBench(concurrency int) *bench {
	b := &bench{network: newNetwork()}
	b.Checker = New(Options{
		Report:      b.note,
		Log:         slog.New(slog.NewTextHandler(&b.log, nil)),
		Concurrency: concurrency,
		Dial:        b.network.dial,
	})
	return b
}

func (b *bench) note(c Change) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changes = append(b.changes, c)
}

func (b *bench) got() []Change {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.changes)
}

func (b *bench) run(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- b.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v", err)
		}
	}
	synctest.Wait()
}

// pass lets d go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func target(key string, spec Spec) Target {
	return Target{Key: key, Service: "api", Address: key + ":80", Spec: spec}
}

var second = Spec{Interval: time.Second, Rise: 2, Fall: 3}

func TestCounter(t *testing.T) {
	for _, c := range []struct {
		name    string
		spec    Spec
		results string // of checks: + or -
		want    string // state after each: u or d
	}{
		{"first failure takes down", second, "-", "d"},
		{"then fall failures", second, "+--+---", "uuuuuud"},
		{"rise successes bring up", second, "-+-++", "ddddu"},
		{"back up, the full fall again", second, "-++--+---", "dduuuuuud"},
		{"rise and fall of 1", Spec{Rise: 1, Fall: 1}, "-+-+", "dudu"},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, got, was := newCounter(c.spec), "", true
			for _, r := range c.results {
				changed := n.record(r == '+')
				if changed != (n.up() != was) {
					t.Errorf("after %q: changed %v", got, changed)
				}
				if was = n.up(); was {
					got += "u"
				} else {
					got += "d"
				}
			}
			if got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestRiseAndFallOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.Apply([]Target{target("a", second)})
		b.run(t)
		if s := b.Status()[0]; !s.Up || !s.At.IsZero() {
			t.Errorf("before the first check: %+v", s)
		}
		pass(5 * time.Second)
		b.network.set("a:80", "down")
		pass(2 * time.Second)
		if len(b.got()) != 0 {
			t.Fatalf("after two failures: %+v", b.got())
		}
		pass(time.Second)
		b.network.set("a:80", "up")
		pass(2 * time.Second)
		b.stop()
		if len(b.got()) != 2 {
			t.Fatalf("changes %+v", b.got())
		}
		down, up := b.got()[0], b.got()[1]
		if down.Up || down.Reason != "connect: connection refused" || down.Service != "api" || down.Key != "a" || down.Address != "a:80" {
			t.Errorf("down: %+v", down)
		}
		if !up.Up || up.Reason != "connected" || up.Lasted != 2*time.Second || up.At.Sub(down.At) != up.Lasted {
			t.Errorf("up: %+v", up)
		}
		for _, want := range []string{
			`level=WARN msg="endpoint is down" service=api address=a:80 reason="connect: connection refused" lasted=`,
			`level=INFO msg="endpoint is up" service=api address=a:80 reason=connected lasted=2s`,
		} {
			if !strings.Contains(b.log.String(), want) {
				t.Errorf("log lacks %q:\n%s", want, b.log.String())
			}
		}
		if s := b.Status()[0]; !s.Up || !s.OK || s.Streak != 2 || s.Result != "connected" || !s.Since.Equal(up.At) {
			t.Errorf("status %+v", s)
		}
	})
}

func TestTimeoutIsHard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.network.set("a:80", "hangs")
		b.Apply([]Target{target("a", Spec{Interval: time.Second, Timeout: 300 * time.Millisecond})})
		b.run(t)
		pass(1500 * time.Millisecond)
		b.stop()
		if len(b.got()) != 1 || b.got()[0].Reason != "connect: no answer within 300ms" {
			t.Errorf("changes %+v", b.got())
		}
		if s := b.Status()[0]; s.Duration != 300*time.Millisecond || s.OK || s.Up {
			t.Errorf("status %+v", s)
		}
	})
}

func TestScheduleStartsJitteredAndKeepsTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.network.takes = 100 * time.Millisecond
		var targets []Target
		for _, key := range strings.Split("abcdefghijklmnopqrst", "") {
			targets = append(targets, target(key, second))
		}
		jittered := target("z", Spec{Interval: time.Second, Jitter: 0.2})
		begin := time.Now()
		b.Apply(append(targets, jittered))
		b.run(t)
		pass(10 * time.Second)
		b.stop()
		firsts := map[time.Duration]bool{}
		for _, tt := range targets {
			at := b.network.dials[tt.Address]
			first := at[0].Sub(begin)
			if firsts[first] = true; first >= time.Second {
				t.Errorf("%s: first check after %s", tt.Key, first)
			}
			for i := 1; i < len(at); i++ {
				if d := at[i].Sub(at[i-1]); d != time.Second {
					t.Errorf("%s: %s between checks", tt.Key, d)
				}
			}
		}
		if len(firsts) < len(targets)/2 {
			t.Errorf("only %d different first moments of %d", len(firsts), len(targets))
		}
		at, different := b.network.dials[jittered.Address], map[time.Duration]bool{}
		for i := 1; i < len(at); i++ {
			d := at[i].Sub(at[i-1])
			if different[d] = true; d < 800*time.Millisecond || d > 1200*time.Millisecond {
				t.Errorf("%s between checks with jitter", d)
			}
		}
		if len(different) < 3 {
			t.Errorf("intervals hardly vary: %v", different)
		}
	})
}

func TestConcurrencyIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(2)
		b.network.takes = 200 * time.Millisecond
		b.Apply([]Target{target("a", second), target("b", second), target("c", second), target("d", second), target("e", second)})
		b.run(t)
		pass(5 * time.Second)
		b.stop()
		if b.network.most != 2 {
			t.Errorf("%d checks at once, want 2", b.network.most)
		}
		for _, s := range b.Status() {
			if s.At.IsZero() || s.Duration != b.network.takes {
				t.Errorf("%s: waiting for a slot counted, or starved: %+v", s.Key, s)
			}
		}
	})
}

func TestApply(t *testing.T) {
	for _, c := range []struct {
		name    string
		next    []Target
		changes int // in all
		reason  string
		up      bool // of a afterwards
	}{
		{"unchanged: schedule and state go on", []Target{target("a", second), target("b", second)}, 1, "connect: connection refused", false},
		{"changed spec: state goes on", []Target{target("a", Spec{Interval: 3 * time.Second})}, 1, "connect: connection refused", false},
		{"gone: reported up", nil, 2, "no longer checked", true},
		{"another address: the old one reported up, the new one starts up",
			[]Target{{Key: "a", Service: "api", Address: "z:80", Spec: second}}, 2, "no longer checked", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(0)
				b.network.set("a:80", "down")
				b.Apply([]Target{target("a", second)})
				b.run(t)
				pass(1100 * time.Millisecond)
				if len(b.got()) != 1 || b.got()[0].Up {
					t.Fatalf("changes %+v", b.got())
				}
				before := b.network.count("a:80")
				b.Apply(c.next)
				synctest.Wait()
				if len(b.got()) != c.changes || b.got()[len(b.got())-1].Reason != c.reason {
					t.Errorf("changes %+v", b.got())
				}
				for _, s := range b.Status() {
					if s.Key == "a" && s.Up != c.up {
						t.Errorf("status %+v", s)
					}
				}
				pass(2 * time.Second)
				b.stop()
				after := b.network.count("a:80")
				if kept := len(c.next) > 1; kept && after != before+2 {
					t.Errorf("%d checks in 2 s after an Apply that changed nothing", after-before)
				}
				if len(c.next) == 0 && after != before {
					t.Errorf("checked %d times after it was gone", after-before)
				}
			})
		})
	}
}

func TestApplyDuringACheckDropsItsResult(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.network.set("a:80", "hangs")
		b.Apply([]Target{target("a", second)})
		b.run(t)
		for b.network.count("a:80") == 0 {
			pass(10 * time.Millisecond)
		}
		b.Apply(nil)
		pass(5 * time.Second)
		b.stop()
		if len(b.got()) != 0 {
			t.Errorf("changes %+v", b.got())
		}
	})
}

// A report may take a lock that its receiver holds while it applies.
func TestReportMayLockWhatApplyIsCalledUnder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		reported := 0
		n := newNetwork()
		n.set("a:80", "down")
		c := New(Options{Log: slog.New(slog.DiscardHandler), Dial: n.dial, Report: func(Change) {
			mu.Lock()
			defer mu.Unlock()
			reported++
		}})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- c.Run(ctx) }()
		apply := func(targets ...Target) {
			mu.Lock()
			defer mu.Unlock()
			c.Apply(targets)
		}
		apply(target("a", second))
		pass(2 * time.Second)
		apply()
		synctest.Wait()
		cancel()
		<-done
		if reported != 2 {
			t.Errorf("%d reports, want 2", reported)
		}
	})
}

func TestStopSaysNothingAboutEndpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		b.network.set("a:80", "hangs")
		b.Apply([]Target{target("a", Spec{Interval: 10 * time.Second})})
		b.run(t)
		for b.network.count("a:80") == 0 {
			pass(10 * time.Millisecond)
		}
		b.stop()
		if len(b.got()) != 0 || !b.Status()[0].Up {
			t.Errorf("changes %+v", b.got())
		}
		b.Apply([]Target{target("a", second), target("b", second)})
		b.run(t) // once more, on the states of before
		pass(1500 * time.Millisecond)
		b.stop()
		if b.network.count("b:80") == 0 {
			t.Error("a target applied between two runs was not checked")
		}
	})
}

func TestNoIdentityYetLeavesChecksOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(0)
		a := target("a", second)
		a.TLS = func() *tls.Config { return nil }
		b.Apply([]Target{a})
		b.run(t)
		pass(5 * time.Second)
		if n := b.network.count("a:80"); n != 0 || !b.Status()[0].At.IsZero() {
			t.Errorf("%d checks without an identity", n)
		}
		a.TLS = nil // settings may change under a running target
		b.Apply([]Target{a})
		pass(2 * time.Second)
		b.stop()
		if b.network.count("a:80") == 0 {
			t.Error("not checked after TLS went away")
		}
	})
}

func TestDefaults(t *testing.T) {
	got := Spec{Timeout: time.Hour, Jitter: 7, Rise: -1}.withDefaults()
	want := Spec{Kind: TCP, Method: "GET", Path: "/", Expect: []StatusRange{{200, 399}},
		Interval: 2 * time.Second, Timeout: 2 * time.Second, Rise: 2, Fall: 3, Jitter: 1}
	if !got.equal(want) {
		t.Errorf("got %+v", got)
	}
}
