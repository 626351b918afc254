package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/limit"
	"github.com/larboard-proxy/larboard/sidecar/engine"
	"github.com/larboard-proxy/larboard/sidecar/message"
	"github.com/larboard-proxy/larboard/sidecar/upstream"
)

// counsel is a Quota that answers as a test wants.
type counsel struct {
	calls  *engine.Sem
	open   bool
	answer func(context.Context, *Question) (Answer, error)
	known  func(*Question) (Answer, bool)

	mu    sync.Mutex
	asked []*Question
}

func (c *counsel) Calls() *engine.Sem { return c.calls }
func (c *counsel) FailOpen() bool     { return c.open }
func (c *counsel) Known(q *Question) (Answer, bool) {
	if c.known == nil {
		return Answer{}, false
	}
	return c.known(q)
}
func (c *counsel) Ask(ctx context.Context, q *Question) (Answer, error) {
	c.mu.Lock()
	c.asked = append(c.asked, q)
	c.mu.Unlock()
	return c.answer(ctx, q)
}

func (c *counsel) questions() []*Question {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.asked)
}

func withShared(c *counsel, fields LimitFields, own []RateLimit, ask ...SharedDescriptor) func(*ListenerConfig, *upstream.Settings) {
	return func(l *ListenerConfig, _ *upstream.Settings) {
		shared := []Shared{{Name: "tenants", Quota: c, Domain: "shop", Hits: 2, Ask: ask}}
		l.Routes[0].Steps = []Step{NewLimits(own, shared, fields), &Forwarded{Proto: "http"}}
	}
}

var byPath = SharedDescriptor{{Key: "path", From: FromPath}}

// What becomes of a request for each answer, and of what its own limits have given.
func TestSharedLimit(t *testing.T) {
	failed := errors.New("no connection")
	late := fmt.Errorf("late: %w", ErrQuotaTime)
	for _, c := range []struct {
		name   string
		answer Answer
		err    error
		known  bool // without being asked
		open   bool
		busy   bool // no place for a question
		status int
		reason policy.Reason
		result string
		says   map[string]string // fields of the answer
		spent  bool              // its own limit's token
	}{
		{"allowed", Answer{}, nil, false, false, false, 200, policy.None, quotaOK, map[string]string{"Ratelimit": `"own";r=2;t=1000`}, true},
		{"allowed, with what is left", Answer{Limit: 10, Remaining: 4, Reset: 1500 * time.Millisecond}, nil, false, false, false, 200, policy.None, quotaOK,
			map[string]string{"Ratelimit": `"own";r=2;t=1000`}, true},
		{"allowed, with less left", Answer{Limit: 10, Remaining: 1, Reset: 1500 * time.Millisecond}, nil, false, false, false, 200, policy.None, quotaOK,
			map[string]string{"Ratelimit": `"tenants";r=1;t=2`}, true},
		{"with fields", Answer{ToClient: []Pair{{"x-tier", "blue"}}, ToUpstream: []Pair{{"x-plan", "gold"}}}, nil, false, false, false, 200, policy.None, quotaOK,
			map[string]string{"X-Tier": "blue", "X-Saw": "gold"}, true},
		{"over", Answer{OverLimit: true, Limit: 10, Reset: 2500 * time.Millisecond, ToClient: []Pair{{"x-tier", "blue"}}}, nil, false, false, false, 429, policy.RateLimited, quotaOverLimit,
			map[string]string{"Retry-After": "3", "Ratelimit": `"tenants";r=0;t=3`, "X-Tier": "blue"}, false},
		{"over, without a time", Answer{OverLimit: true}, nil, false, false, false, 429, policy.RateLimited, quotaOverLimit, map[string]string{"Retry-After": "1"}, false},
		{"known to be over", Answer{OverLimit: true, Limit: 10, Reset: time.Second}, nil, true, false, false, 429, policy.RateLimited, quotaKnown, map[string]string{"Retry-After": "1"}, false},
		{"fails, closed", Answer{}, failed, false, false, false, 503, policy.QuotaUnavailable, quotaError, nil, false},
		{"fails, open", Answer{}, failed, false, true, false, 200, policy.None, quotaError, nil, true},
		{"late, closed", Answer{}, late, false, false, false, 503, policy.QuotaUnavailable, quotaTimeout, nil, false},
		{"late, open", Answer{}, late, false, true, false, 200, policy.None, quotaTimeout, nil, true},
		{"too many, closed", Answer{}, nil, false, false, true, 503, policy.QuotaUnavailable, quotaBusy, nil, false},
		{"too many, open", Answer{}, nil, false, true, true, 200, policy.None, quotaBusy, nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			block, blocked := make(chan struct{}), make(chan struct{}, 1)
			q := &counsel{calls: engine.NewSem(1, 0), open: c.open, answer: func(_ context.Context, q *Question) (Answer, error) {
				if q.Descriptors[0][0].Value == "/block" {
					blocked <- struct{}{}
					<-block
				}
				return c.answer, c.err
			}}
			if c.known {
				q.known = func(*Question) (Answer, bool) { return c.answer, true }
			}
			own := limit.NewRegistry().Get("own", "own", limit.Definition{Rate: 0.001, Burst: 3, Keys: 1})
			r := newRig(t, HTTP, withShared(q, LimitFields{When: LimitFieldsAlways}, []RateLimit{{Limit: own}}, byPath), origin(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("X-Saw", r.Header.Get("X-Plan"))
			}))
			cl := client(t)
			if c.busy {
				go func() {
					resp, err := http.Get("http://" + r.addr + "/block")
					if err == nil {
						resp.Body.Close()
					}
				}()
				<-blocked
				limit.GiveBack(r.engine.Nanos(), []limit.Claim{{Limit: own}}) // what the other one holds
			}
			status, _, header := get(t, cl, "http://"+r.addr+"/a?b")
			close(block)
			if status != c.status || header.Get(ReasonHeader) != "" && header.Get(ReasonHeader) != c.reason.String() {
				t.Errorf("%d %v", status, header)
			}
			for name, value := range c.says {
				if got := header.Get(name); got != value {
					t.Errorf("%s: %q, want %q", name, got, value)
				}
			}
			r.records.mu.Lock()
			results, limited := slices.Clone(r.records.quota), len(r.records.limited)
			r.records.mu.Unlock()
			if len(results) == 0 || results[0] != c.result || (limited == 1) != (c.status == 429) {
				t.Errorf("counted %q and %d limited", results, limited)
			}
			if !c.busy {
				if left := 1 + limit.Take(r.engine.Nanos(), []limit.Claim{{Limit: own}}).Remaining; (left == 2) != c.spent {
					t.Errorf("of its own 3 there are %d left", left)
				}
				if rec := r.records.last(t, 1); rec.Reason != c.reason {
					t.Errorf("recorded %v", rec.Reason)
				}
			}
		})
	}
}

// Questions are made of what the request is; where it has no value for an entry the descriptor is left out.
func TestQuestions(t *testing.T) {
	q := &counsel{calls: engine.NewSem(10, 0), answer: func(context.Context, *Question) (Answer, error) { return Answer{}, nil }}
	r := newRig(t, HTTP, withShared(q, LimitFields{}, nil,
		byPath,
		SharedDescriptor{{Key: "tier", Value: "gold"}, {Key: "m", From: FromMethod}, {Key: "host", From: FromAuthority}},
		SharedDescriptor{{Key: "who", From: FromSource}, {Key: "l", From: FromListener}, {Key: "r", From: FromRoute}, {Key: "s", From: FromService}},
		SharedDescriptor{{Key: "key", From: FromHeader, Field: "x-key"}},
		SharedDescriptor{{Key: "q", From: FromQuery, Field: "q"}, {Key: "id", From: FromIdentity}},
		SharedDescriptor{{Key: "q", From: FromQuery, Field: "q"}},
	), origin(t, func(http.ResponseWriter, *http.Request) {}))
	ask := func(path, key string) *Question {
		t.Helper()
		req, err := http.NewRequest("GET", "http://"+r.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "shop.example"
		if key != "" {
			req.Header.Set("X-Key", key)
		}
		resp, err := client(t).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		all := q.questions()
		return all[len(all)-1]
	}
	long := string(make([]byte, 0))
	for range 300 {
		long += "12345"
	}
	got := ask("/a/b?q=x%20y", "secret")
	want := `[[{path /a/b}] [{tier gold} {m GET} {host shop.example}] [{who 127.0.0.1} {l web} {r default} {s api}] [{key secret}] [{q x y}]]`
	if fmt.Sprint(got.Descriptors) != want || got.Domain != "shop" || got.Hits != 2 {
		t.Errorf("asked %v of %s for %d\nwant %s", got.Descriptors, got.Domain, got.Hits, want)
	}
	got = ask("/"+long, "")
	if len(got.Descriptors) != 3 || len(got.Descriptors[0][0].Value) != maxEntry {
		t.Errorf("asked %v", got.Descriptors)
	}
	// Nothing to ask about is nothing asked.
	h := &message.Head{}
	h.SetRequest("GET", "/", "x")
	s := Shared{Ask: []SharedDescriptor{{{Key: "k", From: FromHeader, Field: "x-key"}}}}
	if got := s.question(&Exchange{Req: *h}); got != nil {
		t.Errorf("asked %v", got)
	}
}

// While one request waits for its answer, the others of the loop go on; and a stop ends the wait.
func TestWaitForAnAnswerHoldsUpNobody(t *testing.T) {
	waiting := make(chan struct{}, 100)
	q := &counsel{calls: engine.NewSem(100, 0), open: true, answer: func(ctx context.Context, q *Question) (Answer, error) {
		if q.Descriptors[0][0].Value == "/slow" {
			waiting <- struct{}{}
			<-ctx.Done()
			return Answer{}, ctx.Err()
		}
		return Answer{}, nil
	}}
	r := newRig(t, HTTP, withShared(q, LimitFields{}, nil, byPath), origin(t, func(http.ResponseWriter, *http.Request) {}))
	slow := make(chan int, 8)
	for range cap(slow) {
		go func() {
			resp, err := http.Get("http://" + r.addr + "/slow")
			if err != nil {
				slow <- 0
				return
			}
			resp.Body.Close()
			slow <- resp.StatusCode
		}()
	}
	for range cap(slow) {
		<-waiting
	}
	cl := client(t)
	for range 100 {
		if status, _, _ := get(t, cl, "http://"+r.addr+"/quick"); status != 200 {
			t.Fatalf("status %d", status)
		}
	}
	r.engine.Drain(time.Now()) // at once
	for range cap(slow) {
		if status := <-slow; status != 0 && status != 503 {
			t.Errorf("status %d for one that was cut off", status)
		}
	}
}
