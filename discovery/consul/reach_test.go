package consul

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/larboard-proxy/larboard/discovery"
)

// crowd is many watches of one client, and an agent in front of which a test stands.
type crowd struct {
	mu       sync.Mutex
	asked    []time.Time
	answered map[string]time.Time // last set of each service, or none since the failure
	index    uint64
	fault    func(w http.ResponseWriter, req *http.Request) // nil: the agent is well
	changed  chan struct{}
}

func (c *crowd) RoundTrip(req *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	c.mu.Lock()
	c.asked = append(c.asked, time.Now())
	fault, index, changed := c.fault, c.index, c.changed
	c.mu.Unlock()
	if fault == nil && req.URL.Query().Get("index") == fmt.Sprint(index) {
		wait, _ := time.ParseDuration(req.URL.Query().Get("wait"))
		select {
		case <-time.After(wait):
		case <-changed:
		case <-req.Context().Done():
		}
		c.mu.Lock()
		fault, index = c.fault, c.index
		c.mu.Unlock()
	}
	if fault != nil {
		fault(w, req)
	} else {
		step{index: index, names: []string{fmt.Sprintf("i%d", index)}}.write(w)
	}
	if err := req.Context().Err(); err != nil {
		return nil, err
	}
	return w.Result(), nil
}

// become sets the agent's state, and answers what waits.
func (c *crowd) become(index uint64, fault func(http.ResponseWriter, *http.Request)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = fault
	if index != c.index {
		c.index = index
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// since counts the requests from a moment on.
func (c *crowd) since(from time.Time) (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, at := range c.asked {
		if !at.Before(from) {
			n++
		}
	}
	return n
}

// watch runs n watches for the length of the test.
func (c *crowd) watch(t *testing.T, n int) {
	c.answered, c.changed, c.index = map[string]time.Time{}, make(chan struct{}), 10
	client, err := New(Options{transport: c})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	for i := range n {
		name := fmt.Sprintf("s%d", i)
		all.Go(func() {
			client.Source(Health{Service: name}).Run(ctx, func(u discovery.Update) {
				c.mu.Lock()
				defer c.mu.Unlock()
				if delete(c.answered, name); u.Err == nil {
					c.answered[name] = time.Now()
				}
			})
		})
	}
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
}

// recovered is how long after from the last of n watches had its set.
func (c *crowd) recovered(t *testing.T, n int, from time.Time) time.Duration {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.answered) != n {
		t.Errorf("%d of %d services have their endpoints", len(c.answered), n)
	}
	last := from
	for _, at := range c.answered {
		if at.After(last) {
			last = at
		}
	}
	return last.Sub(from)
}

func status(code int) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { step{code: code}.write(w) }
}

// silent swallows what it is asked: no answer ever comes.
func silent(_ http.ResponseWriter, req *http.Request) { <-req.Context().Done() }

// While Consul is away the rate does not depend on how many watch, and all know soon
// that it is back.
func TestReachAnAgentThatWasAway(t *testing.T) {
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request){
		"answers 500": status(500), "sheds load": status(429), "hangs": silent,
		"holds a question for its leader and gives up": func(w http.ResponseWriter, req *http.Request) {
			if sleep(req.Context(), 7*time.Second) == nil {
				status(500)(w, req)
			}
		},
		"refuses half of what is asked": func(w http.ResponseWriter, req *http.Request) {
			if n := len(req.URL.Path); req.URL.Path[n-1]%2 == 0 {
				status(500)(w, req)
				return
			}
			step{index: 11, names: []string{"a"}}.write(w)
		},
	} {
		for _, n := range []int{1, 2, 20, 500} {
			if n > 20 && name == "refuses half of what is asked" {
				break // then the rate of all together is what counts
			}
			onVirtualClock(t, fmt.Sprintf("%s, %d watches", name, n), func(t *testing.T) {
				c := &crowd{}
				c.watch(t, n)
				time.Sleep(10 * time.Second)
				synctest.Wait()
				c.become(11, fault)
				time.Sleep(2 * time.Minute) // until what was asked before is overdue
				from := time.Now()
				time.Sleep(2 * time.Minute)
				synctest.Wait()
				rate := float64(c.since(from)) / (2 * 60)
				most := 2.0
				if name == "refuses half of what is asked" {
					most = 2 * float64(n) // the others' indexes flap
				}
				if rate > most*1.01 {
					t.Errorf("%.2f requests/s while the agent is away, want at most %v", rate, most)
				}
				back := time.Now()
				c.become(12, nil)
				time.Sleep(12 * time.Second)
				synctest.Wait()
				took := c.recovered(t, n, back)
				again := c.since(back)
				t.Logf("%.2f requests/s while away; recovered %v after the agent, with %d requests", rate, took, again)
				soon := 2 * time.Second
				if n == 1 && (name == "hangs" || strings.HasPrefix(name, "holds")) {
					soon = slack // while its patient probe is lost, nobody else asks
				}
				if took > soon {
					t.Errorf("recovered %v after the agent, want %v", took, soon)
				}
				if again > 4*n+20 {
					t.Errorf("%d requests on recovery of %d watches", again, n)
				}
			})
		}
	}
}

// What a silence swallowed is asked again once anything is answered.
func TestReachAsksAgainWhatASilenceSwallowed(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		c := &crowd{}
		c.watch(t, 50)
		time.Sleep(2 * time.Minute) // so that their waits end at different times
		synctest.Wait()
		c.become(11, silent) // wakes all: 50 questions are swallowed together
		time.Sleep(90 * time.Second)
		c.become(12, nil)
		back := time.Now()
		time.Sleep(5 * time.Second)
		synctest.Wait()
		if took := c.recovered(t, 50, back); took > 2*time.Second {
			t.Errorf("recovered after %v", took)
		}
	})
}

// Hundreds of watches whose index flaps are held to one rate together.
func TestReachFlappingIndexesTogether(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		c := &crowd{}
		n := uint64(10)
		c.fault = func(w http.ResponseWriter, _ *http.Request) {
			c.mu.Lock()
			n++
			step{index: n, names: []string{"a"}}.write(w)
			c.mu.Unlock()
		}
		fault := c.fault
		c.watch(t, 300)
		c.become(0, fault)
		time.Sleep(time.Minute)
		from := time.Now()
		time.Sleep(time.Minute)
		synctest.Wait()
		if rate := float64(c.since(from)) / 60; rate > 1.01*float64(time.Second/allRefill) || rate < 200 {
			t.Errorf("%.0f requests/s, want at most %d", rate, time.Second/allRefill)
		}
	})
}

// A question that is refused waits for its own time, and keeps nobody else.
func TestReachARefusalConcernsItsAskerOnly(t *testing.T) {
	onVirtualClock(t, "", func(t *testing.T) {
		c := &crowd{}
		c.watch(t, 3)
		c.become(11, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/v1/health/service/s1" {
				status(403)(w, req)
				return
			}
			if req.URL.Query().Get("index") != "" {
				sleep(req.Context(), 30*time.Second)
			}
			step{index: 11, names: []string{"a"}}.write(w)
		})
		time.Sleep(time.Minute)
		from := time.Now()
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		if n := c.since(from); n > 10*60/4+60 {
			t.Errorf("%d requests in ten minutes", n)
		}
		if len(c.answered) != 2 {
			t.Errorf("%d services have endpoints, want 2", len(c.answered))
		}
	})
}
