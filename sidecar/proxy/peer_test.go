package proxy

import (
	"errors"
	"testing"

	"github.com/larboard-proxy/larboard/policy"
)

// Every reason of the table, by what it says of a request that a peer's proxy has
// answered itself. What is not listed is the workload's or the caller's affair and
// goes to the client as it is.
func TestUndelivered(t *testing.T) {
	const unseen, maybe = "not seen", "maybe processed"
	want := map[policy.Reason]string{
		policy.NoEndpoints: unseen, policy.NoHealthyEndpoint: unseen, policy.ConnectFailed: unseen, policy.ConnectTimeout: unseen,
		policy.EndpointLimit: unseen, policy.IntentionsUnknown: unseen, policy.BreakerOpen: unseen,
		policy.UpstreamReset: maybe, policy.UpstreamClosed: maybe, policy.Draining: maybe,
	}
	for _, r := range policy.Reasons() {
		got := ""
		var e *policy.Error
		if err := undelivered(r.String()); errors.As(err, &e) {
			got = unseen
			if e.MaybeProcessed {
				got = maybe
			}
			if e.Reason != r || e.Side != policy.Upstream || !e.Retryable || (e.Phase == policy.PhaseConnect) != (got == unseen && r != policy.EndpointLimit) {
				t.Errorf("%v: %+v", r, e)
			}
		}
		if got != want[r] {
			t.Errorf("%v: %q, want %q", r, got, want[r])
		}
	}
	if err := undelivered("forged"); err != nil {
		t.Errorf("a code that is not in the table: %v", err)
	}
}
