package retry

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
)

func upstream(r policy.Reason, phase policy.Phase, retryable, maybe bool) error {
	return &policy.Error{Reason: r, Side: policy.Upstream, Phase: phase, Retryable: retryable, MaybeProcessed: maybe}
}

func policyOf(attempts int, statuses ...int) *Policy {
	p := &Policy{Attempts: attempts, On: Of(ConnectFailure, RefusedStream, Reset)}
	for _, s := range statuses {
		p.Statuses.Add(s, s)
	}
	return p
}

func TestDecide(t *testing.T) {
	var (
		connect = upstream(policy.ConnectFailed, policy.PhaseConnect, true, false)
		reset   = upstream(policy.UpstreamReset, policy.PhaseWait, true, true)
		unsent  = upstream(policy.UpstreamReset, policy.PhaseSend, true, false)
		refused = upstream(policy.UpstreamRefused, policy.PhaseWait, true, false)
		slow    = upstream(policy.UpstreamTimeout, policy.PhaseWait, true, true)
		try     = upstream(policy.TryTimeout, policy.PhaseWait, true, true)
		body    = upstream(policy.UpstreamTruncated, policy.PhaseBody, false, true)
		client  = &policy.Error{Reason: policy.ClientAborted, Side: policy.Downstream, Phase: policy.PhaseWait}
	)
	all := policyOf(3, 502, 503)
	all.On = Of(ConnectFailure, RefusedStream, Reset, Timeout)
	all.GRPC.Add(policy.GRPCUnavailable)
	get := Attempt{Number: 1, Idempotent: true, Replayable: true, Burden: true}
	post := Attempt{Number: 1, Replayable: true, Burden: true}
	with := func(a Attempt, change func(*Attempt)) Attempt {
		change(&a)
		return a
	}
	failed := func(a Attempt, err error) Attempt { return with(a, func(a *Attempt) { a.Err = err }) }
	answered := func(a Attempt, status int) Attempt { return with(a, func(a *Attempt) { a.Status = status }) }
	for _, c := range []struct {
		name string
		p    *Policy
		a    Attempt
		want Verdict
	}{
		{"no policy", nil, failed(get, reset), Verdict{}},
		{"one attempt", policyOf(1), failed(get, reset), Verdict{}},
		{"zero policy", &Policy{}, failed(get, connect), Verdict{}},
		{"200", all, answered(get, 200), Verdict{}},
		{"the client's doing", all, failed(get, client), Verdict{}},
		{"foreign error", all, failed(get, errors.New("x")), Verdict{}},
		{"the answer's body", all, failed(get, body), Verdict{}},

		{"connect: GET", policyOf(3), with(failed(get, connect), func(a *Attempt) { a.Burden = false }),
			Verdict{ConnectFailure, Made, true, true}},
		{"connect: POST", policyOf(3), with(failed(post, connect), func(a *Attempt) { a.Burden = false }),
			Verdict{ConnectFailure, Made, true, true}},
		{"connect: second repeat waits", policyOf(3), with(failed(get, connect), func(a *Attempt) { a.Burden, a.Number = false, 2 }),
			Verdict{ConnectFailure, Made, true, false}},
		{"connect: the last", policyOf(3), with(failed(get, connect), func(a *Attempt) { a.Number = 3 }), Verdict{Cause: ConnectFailure, Result: Spent}},
		{"connect: not asked for", &Policy{Attempts: 3, On: Of(Reset)}, failed(get, connect), Verdict{}},
		{"connect: in the time of an attempt", policyOf(3), with(failed(get, upstream(policy.TryTimeout, policy.PhaseConnect, true, false)),
			func(a *Attempt) { a.Burden = false }), Verdict{ConnectFailure, Made, true, true}},

		{"reset: GET", policyOf(3), failed(get, reset), Verdict{Cause: Reset, Result: Made}},
		{"reset: POST", policyOf(3), failed(post, reset), Verdict{Cause: Reset, Result: Unsafe}},
		{"reset: POST, nothing sent", policyOf(3), with(failed(post, unsent), func(a *Attempt) { a.Burden = false }),
			Verdict{Cause: Reset, Result: Made, Free: true}},
		{"reset of a kept connection", policyOf(3), with(failed(get, reset), func(a *Attempt) { a.Stale = true }),
			Verdict{Cause: Reset, Result: Made, AtOnce: true}},
		{"reset: body gone", policyOf(3), with(failed(get, reset), func(a *Attempt) { a.Replayable = false }), Verdict{Cause: Reset, Result: Unsafe}},
		{"malformed answer", policyOf(3), failed(get, upstream(policy.UpstreamProtocol, policy.PhaseWait, true, true)), Verdict{Cause: Reset, Result: Made}},

		{"refused: POST", policyOf(3), failed(post, refused), Verdict{Cause: RefusedStream, Result: Made, AtOnce: true}},
		{"refused: POST, farewell", policyOf(3), with(failed(post, refused), func(a *Attempt) { a.Burden = false }),
			Verdict{RefusedStream, Made, true, true}},

		{"timeout: GET", all, failed(get, slow), Verdict{Cause: Timeout, Result: Made}},
		{"timeout of an attempt: GET", all, failed(get, try), Verdict{Cause: Timeout, Result: Made}},
		{"timeout: POST", all, failed(post, try), Verdict{Cause: Timeout, Result: Unsafe}},
		{"timeout: not asked for", policyOf(3), failed(get, try), Verdict{}},

		{"503: GET", all, answered(get, 503), Verdict{Cause: Status, Result: Made}},
		{"503: POST", all, answered(post, 503), Verdict{Cause: Status, Result: Unsafe}},
		{"503: the last", all, with(answered(get, 503), func(a *Attempt) { a.Number = 3 }), Verdict{Cause: Status, Result: Spent}},
		{"500: not asked for", all, answered(get, 500), Verdict{}},
		{"call: UNAVAILABLE", all, with(answered(post, 200), func(a *Attempt) { a.GRPC = policy.GRPCUnavailable }),
			Verdict{Cause: GRPCStatus, Result: Made}},
		{"call: UNAVAILABLE of a proxy", all, with(answered(post, 200), func(a *Attempt) { a.GRPC, a.Doubtful = policy.GRPCUnavailable, true }),
			Verdict{Cause: GRPCStatus, Result: Unsafe}},
		{"call: INTERNAL", all, with(answered(post, 200), func(a *Attempt) { a.GRPC = policy.GRPCInternal }), Verdict{}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.p.Decide(c.a); got != c.want {
				t.Errorf("got %+v\nwant %+v", got, c.want)
			}
		})
	}
}

// TestNothingUnsafeIsEverRepeated sweeps what may be said of an attempt.
func TestNothingUnsafeIsEverRepeated(t *testing.T) {
	p := &Policy{Attempts: 3, On: ^CauseSet(0)}
	p.Statuses.Add(100, 599)
	for _, r := range policy.Reasons() {
		for phase := policy.PhaseAccept; phase <= policy.PhaseRecord; phase++ {
			for bits := range 16 {
				on := func(i int) bool { return bits&(1<<i) != 0 }
				e := &policy.Error{Reason: r, Side: policy.Upstream, Phase: phase, Retryable: on(0), MaybeProcessed: true}
				v := p.Decide(Attempt{Err: e, Number: 1, Replayable: on(1), Burden: on(2), Stale: on(3)})
				if v.Result == Made {
					t.Fatalf("%s in phase %s is repeated: %+v", r, phase, v)
				}
			}
		}
	}
	for status := 100; status < 600; status++ {
		if v := p.Decide(Attempt{Status: status, Number: 1, Replayable: true}); v.Result == Made {
			t.Fatalf("%d to a POST is repeated", status)
		}
	}
}

func TestBackoff(t *testing.T) {
	b := Backoff{Base: 25 * time.Millisecond, Max: 150 * time.Millisecond}
	for n, most := range map[int]time.Duration{2: 25, 3: 50, 4: 100, 5: 150, 6: 150, 60: 150, 1000: 150} {
		most *= time.Millisecond
		if got := b.Before(n, 0); got != 0 {
			t.Errorf("attempt %d: at least %v", n, got)
		}
		if got := b.Before(n, 0.5); got != most/2 {
			t.Errorf("attempt %d: %v in the middle, want %v", n, got, most/2)
		}
		if got := b.Before(n, 1-1e-12); got > most || got < most-time.Millisecond {
			t.Errorf("attempt %d: at most %v, want %v", n, got, most)
		}
	}
	if got := (Backoff{}).Before(9, 0.9); got != 0 {
		t.Errorf("no back-off: %v", got)
	}
	if got := (Backoff{Base: time.Second, Max: 10 * time.Millisecond}).Before(2, 0.5); got != 5*time.Millisecond {
		t.Errorf("a maximum below the base: %v", got)
	}
}

func TestStatuses(t *testing.T) {
	var s Statuses
	s.Add(0, 101)
	s.Add(502, 504)
	s.Add(599, 700)
	for status := -1; status < 1000; status++ {
		want := status == 100 || status == 101 || status >= 502 && status <= 504 || status == 599
		if s.Has(status) != want {
			t.Errorf("%d: %v", status, !want)
		}
	}
}

func TestNames(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range append(Causes(), NoCause) {
		seen[c.String()] = true
	}
	for _, r := range append(Results(), Nothing) {
		seen[r.String()] = true
	}
	if len(seen) != int(causeCount)+int(resultCount) || seen[""] {
		t.Errorf("names are missing or not unique: %v", seen)
	}
}

func ExamplePolicy_Decide() {
	p := &Policy{Attempts: 3, On: Of(ConnectFailure, Reset)}
	reset := &policy.Error{Reason: policy.UpstreamReset, Side: policy.Upstream, Phase: policy.PhaseWait, Retryable: true, MaybeProcessed: true}
	get := p.Decide(Attempt{Err: reset, Number: 1, Idempotent: true, Replayable: true, Burden: true})
	post := p.Decide(Attempt{Err: reset, Number: 1, Replayable: true, Burden: true})
	fmt.Println(get.Cause, get.Result, post.Result)
	// Output: reset made unsafe
}
