package compile

import (
	"testing"
	"time"

	"github.com/larboard-proxy/larboard/policy"
	"github.com/larboard-proxy/larboard/policy/retry"
)

func TestRetries(t *testing.T) {
	out := compiled(t, `
listeners:
- name: edge
  address: 127.0.0.1:1
  routes:
  - {match: {path: /x}, service: a, retries: {attempts: 2, on: gateway_error, statuses: 429}}
  - {service: a}
services:
- {name: a, endpoints: [127.0.0.1:2], retries: {on: [reset, 5xx], per_try_timeout: 1s, replay: 1KiB, grpc_statuses: [unavailable, cancelled],
    backoff: {base: 1ms, max: 2ms}, budget: {percent: 7, min: 1}}}
- {name: b, endpoints: [127.0.0.1:2]}
`, nil)
	a, b := out.Services["a"].Settings().Retries, out.Services["b"].Settings().Retries
	want := retry.Policy{Attempts: 3, On: retry.Of(retry.Reset), PerTry: time.Second, Replay: 1 << 10,
		Backoff: retry.Backoff{Base: time.Millisecond, Max: 2 * time.Millisecond}, Budget: retry.Limits{Percent: 7, Min: 1}}
	want.Statuses.Add(500, 599)
	want.GRPC.Add(policy.GRPCUnavailable)
	want.GRPC.Add(policy.GRPCCancelled)
	if *a != want {
		t.Errorf("got %+v, want %+v", *a, want)
	}
	want = retry.Policy{Attempts: 3, On: retry.Of(retry.ConnectFailure, retry.RefusedStream, retry.Reset), Replay: 64 << 10,
		Backoff: retry.Backoff{Base: 25 * time.Millisecond, Max: 250 * time.Millisecond}, Budget: retry.Limits{Percent: 20, Min: 3}}
	if *b != want {
		t.Errorf("got %+v, want %+v", *b, want)
	}
	routes := out.Snapshot.Listeners[0].Routes
	if routes[1].Retries != nil {
		t.Error("a route that says nothing has retries of its own")
	}
	r := routes[0].Retries
	if r.Attempts != 2 || r.On != 0 || !r.Statuses.Has(429) || !r.Statuses.Has(503) || r.Statuses.Has(500) {
		t.Errorf("got %+v", r)
	}
}
