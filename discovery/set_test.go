package discovery

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// scripted is a source whose updates the test sends.
type scripted struct {
	updates chan Update
	started int
	ended   int
	result  error // returned at once when set
}

func (s *scripted) Run(ctx context.Context, out func(Update)) error {
	s.started++
	defer func() { s.ended++ }()
	if s.result != nil {
		return s.result
	}
	for {
		select {
		case u := <-s.updates:
			out(u)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *scripted) spec(key string) Spec {
	return Spec{Key: key, From: "test", New: func() Source { return s }}
}

// good sends a set made of addresses.
func (s *scripted) good(addresses ...string) {
	u := Update{At: time.Now()}
	for _, a := range addresses {
		u.Endpoints = append(u.Endpoints, Endpoint{Address: a, Weight: 1})
	}
	s.updates <- u
	synctest.Wait()
}

func (s *scripted) bad(err error) {
	s.updates <- Update{Err: err, At: time.Now()}
	synctest.Wait()
}

// recorder notes what OnUpdate was given and when.
type recorder struct {
	mu    sync.Mutex
	start time.Time
	lines []string
}

func (r *recorder) update(u Update) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var addresses []string
	for _, e := range u.Endpoints {
		addresses = append(addresses, e.Address)
	}
	r.lines = append(r.lines, fmt.Sprintf("%v %s [%s]", time.Since(r.start), u.Service, strings.Join(addresses, " ")))
}

func (r *recorder) want(t *testing.T, lines ...string) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if got, want := strings.Join(r.lines, "\n"), strings.Join(lines, "\n"); got != want {
		t.Errorf("updates:\n%s\nwant:\n%s", got, want)
	}
}

// inSet runs a test on a virtual clock with a running Set, which must have ended
// with all its goroutines at the end.
func inSet(t *testing.T, test func(t *testing.T, s *Set, r *recorder)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		r := &recorder{start: time.Now()}
		s := New(nil)
		s.OnUpdate = r.update
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		test(t, s, r)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run returned %v, want the context's error", err)
		}
	})
}

func newScripted() *scripted { return &scripted{updates: make(chan Update)} }

func TestSetFoldsBurstsAndDropsWhatIsNoChange(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a := newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		synctest.Wait()
		a.good("1")
		a.good("1", "2")
		a.good("1", "2", "3")
		time.Sleep(Window)
		synctest.Wait()
		a.good("1", "2", "3")
		time.Sleep(time.Second)
		a.good()
		r.want(t, "0s a [1]", "20ms a [1 2 3]", "1.02s a []")
	})
}

func TestSetKeepsTheLastGoodSet(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a := newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		synctest.Wait()
		a.good("1")
		time.Sleep(time.Second)
		away := errors.New("away")
		a.bad(away)
		time.Sleep(time.Minute)
		a.bad(away)

		u, ok := s.Snapshot("a")
		if !ok || len(u.Endpoints) != 1 {
			t.Fatalf("snapshot while away: %v %v, want the one endpoint", u, ok)
		}
		st := s.Status()[0]
		if st.Err != away || st.Failures != 2 || st.Endpoints != 1 || st.Age(time.Now()) != time.Minute {
			t.Errorf("status while away: %+v, age %v", st, st.Age(time.Now()))
		}
		a.good("1")
		if st := s.Status()[0]; st.Err != nil || st.Failures != 0 || st.Age(time.Now()) != 0 || st.Success != time.Now() {
			t.Errorf("status when back: %+v", st)
		}
		r.want(t, "0s a [1]")
	})
}

func TestSetApply(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a, a2, b := newScripted(), newScripted(), newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}, "b": {b.spec("1")}})
		synctest.Wait()
		a.good("1")
		b.good("9")

		s.Apply(map[string][]Spec{"a": {a2.spec("2")}, "b": {newScripted().spec("1")}})
		synctest.Wait()
		if a.ended != 1 || a2.started != 1 || b.started != 1 || b.ended != 0 {
			t.Errorf("after a change of a's key: a ended %d, its successor started %d; b started %d ended %d",
				a.ended, a2.started, b.started, b.ended)
		}
		a2.bad(errors.New("not yet"))
		if u, ok := s.Snapshot("a"); !ok || len(u.Endpoints) != 1 {
			t.Errorf("a lost its endpoints with a change of key: %v", u)
		}
		time.Sleep(Window)
		a2.good("2")

		s.Apply(map[string][]Spec{"a": {a2.spec("2")}})
		synctest.Wait()
		if _, ok := s.Snapshot("b"); ok || b.ended != 1 {
			t.Errorf("b is still known after it was taken out; ended %d times", b.ended)
		}
		r.want(t, "0s a [1]", "0s b [9]", "20ms a [2]")
	})
}

func TestSetDeliversWhatAnOldSourceLeftWaiting(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a := newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		synctest.Wait()
		a.good("1")
		a.good("2") // waits for the window
		s.Apply(map[string][]Spec{"a": {newScripted().spec("2")}})
		time.Sleep(time.Second)
		r.want(t, "0s a [1]", "20ms a [2]")
	})
}

func TestSetStopsARemovedSourceFromReporting(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, r *recorder) {
		a := newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		synctest.Wait()
		a.good("1")
		a.good("2")
		s.Apply(nil)
		time.Sleep(time.Second)
		r.want(t, "0s a [1]")
	})
}

func TestSetWaitFirst(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, _ *recorder) {
		a, b, c := newScripted(), newScripted(), newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}, "b": {b.spec("1")}, "c": {c.spec("1")}})
		synctest.Wait()
		a.good("1")
		b.bad(errors.New("no leader"))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := s.WaitFirst(ctx)
		cancel()
		want := "discovery: service \"b\": no endpoints yet: no leader\ndiscovery: service \"c\": no answer from test yet"
		if err == nil || err.Error() != want {
			t.Errorf("WaitFirst: %v\nwant: %s", err, want)
		}

		result := make(chan error, 1)
		go func() { result <- s.WaitFirst(t.Context()) }()
		synctest.Wait()
		b.good()
		c.good("3")
		if err := <-result; err != nil {
			t.Errorf("WaitFirst after all answered: %v", err)
		}
	})
}

// Whoever waits for the first sets goes on to use them, so they must have arrived.
func TestSetWaitFirstWaitsForTheDelivery(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, _ *recorder) {
		release, arrived := make(chan struct{}), false
		s.OnUpdate = func(Update) { <-release; arrived = true }
		a, b := newScripted(), newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}, "b": {b.spec("1")}})
		synctest.Wait()
		result := make(chan bool, 1)
		go func() {
			if err := s.WaitFirst(t.Context(), "a"); err != nil {
				t.Error(err)
			}
			result <- arrived
		}()
		a.good("1")
		select {
		case <-result:
			t.Error("returned before OnUpdate had")
		default:
			close(release)
			if !<-result {
				t.Error("returned without the endpoints")
			}
		}
	})
}

func TestSetReportsASourceThatEnds(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, _ *recorder) {
		bad := &scripted{result: errors.New("no such name")}
		s.Apply(map[string][]Spec{"a": {bad.spec("1")}})
		err := s.WaitFirst(t.Context())
		if err == nil || !strings.Contains(err.Error(), "no such name") {
			t.Errorf("WaitFirst: %v, want the source's error", err)
		}
		if st := s.Status()[0]; !st.Ended || st.Known {
			t.Errorf("status %+v, want ended and not known", st)
		}
	})
}

func TestSetDropsASecondHolderOfAnID(t *testing.T) {
	inSet(t, func(t *testing.T, s *Set, _ *recorder) {
		a := newScripted()
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		synctest.Wait()
		a.good("1", "2", "1")
		u, _ := s.Snapshot("a")
		if len(u.Endpoints) != 2 || u.Endpoints[0].ID != "1" || u.Endpoints[1].ID != "2" {
			t.Errorf("endpoints %v, want ids 1 and 2", u.Endpoints)
		}
	})
}

func TestSetAppliedBeforeRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newScripted()
		s := New(nil)
		s.Apply(map[string][]Spec{"a": {a.spec("1")}})
		if a.started != 0 {
			t.Error("a source runs before Run")
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- s.Run(ctx) }()
		synctest.Wait()
		a.good("1")
		if _, ok := s.Snapshot("a"); !ok {
			t.Error("nothing known after Run")
		}
		if err := s.Run(ctx); err == nil {
			t.Error("a second Run returned no error")
		}
		cancel()
		<-done
		s.Apply(map[string][]Spec{"b": {newScripted().spec("1")}}) // starts nothing
	})
}
