package sim

import "testing"

// checkCoverage: schedules in which nothing went wrong prove little. Each of these has come
// to pass.
func (t *tally) checkCoverage(tb testing.TB) {
	for _, c := range []Counter{
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
		{"failed for", "mishap: silence"}, {"failed for", "mishap: answer broken off"},
		{"bytes", "spliced"},
		{"mishaps survived", "early answer"}, {"mishaps survived", "reset at the head"},
	} {
		if t.counts[c] == 0 {
			tb.Errorf("%d schedules without %s: %s", t.schedules, c.What, c.Kind)
		}
	}
	if calls, failed := t.counts[Counter{"calls", "request"}], t.counts[Counter{"calls", "succeeded"}]; failed*2 < calls {
		tb.Errorf("%d of %d calls succeeded", failed, calls)
	}
}
