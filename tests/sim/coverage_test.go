package sim

import "testing"

// checkCoverage: schedules in which nothing went wrong prove little. Each of these has come
// to pass.
func (t *tally) checkCoverage(tb testing.TB) {
	for _, c := range []Counter{
		{"calls", "HTTP/2"}, {"calls", "gRPC"}, {"clients", "asked again after a refusal"}, {"mishaps survived", "refused unseen"},
		{"calls", "request"}, {"calls", "upgrade"}, {"calls", "tcp"}, {"calls", "succeeded"},
		{"clients", "asked again after an announced close"},
		{"events", "a certificate is rotated"}, {"events", "the root is rotated"},
		{"events", "a configuration is reloaded"}, {"events", "a sidecar drains and starts again"},
		{"events", "an endpoint leaves and returns"},
		{"faults", "connection reset"}, {"faults", "link cut"}, {"faults", "address dark"},
		{"faults", "workload dead"}, {"faults", "sidecar dead"}, {"faults", "root withdrawn"},
		{"faults", "workload closes a kept connection"},
		{"failed for", "client aborted"}, {"failed for", "behind a call that failed"},
		{"failed for", "link cut"}, {"failed for", "sidecar dead"},
		{"failed for", "rate limited"}, {"limits", "allowed"}, {"limits", "refused"},
		{"failed for", "breaker open"}, {"breakers", "open"}, {"breakers", "closed"}, {"ejections", "consecutive"},
		{"ejections", "success_rate"}, {"ejections", "capped"}, {"ejections", "returned"},
		{"failed for", "mishap: silence"}, {"failed for", "mishap: answer broken off"},
		{"bytes", "spliced"}, {"clients", "captured"},
		{"mishaps survived", "early answer"}, {"mishaps survived", "reset at the head"},
		{"mishaps survived", "an error"}, {"mishaps survived", "close without answer"}, {"mishaps survived", "silence"},
		{"repeats", "reset made"}, {"repeats", "reset unsafe"}, {"repeats", "status made"}, {"repeats", "grpc_status made"},
		{"repeats", "timeout made"}, {"repeats", "connect_failure made"}, {"repeats", "refused_stream made"},
	} {
		if t.counts[c] == 0 {
			tb.Errorf("%d schedules without %s: %s", t.schedules, c.What, c.Kind)
		}
	}
	if calls, failed := t.counts[Counter{"calls", "request"}], t.counts[Counter{"calls", "succeeded"}]; failed*2 < calls {
		tb.Errorf("%d of %d calls succeeded", failed, calls)
	}
}
