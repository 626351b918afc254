package load

import (
	"fmt"
	"sort"
	"strings"
	"time"
)

// examplesKept bounds Result.Examples: enough to see a pattern in a test log.
const examplesKept = 10

// Result is what became of every request of a run.
type Result struct {
	// Requests counts those that ended, well or badly, a retried one once.
	Requests int
	// Failed counts by class: "dial", "handshake", "write", "reset",
	// "truncated", "timeout", "protocol", "status 503", "body", "check".
	Failed map[string]int
	// Examples holds the first failures in words, with their time since start.
	Examples []string

	// Retried counts requests repeated once because a kept connection was
	// closed before any byte of an answer, as every HTTP client repeats them.
	Retried int
	// Closes counts answers that asked for the connection to be closed.
	Closes int
	// ClosedIdle counts kept connections found closed before a request was
	// written on them; nothing was lost, the request went to a new one.
	ClosedIdle int
	// Dials counts connections opened.
	Dials int

	// P50, P99 and Max are of the successful requests, from the moment each
	// was due to the last byte of its answer.
	P50, P99, Max time.Duration
	Elapsed       time.Duration
}

// Failures is the number of failed requests of all classes.
func (r Result) Failures() int {
	n := 0
	for _, v := range r.Failed {
		n += v
	}
	return n
}

// String is one line for a test log or a table.
func (r Result) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "requests %d, failed %d", r.Requests, r.Failures())
	classes := make([]string, 0, len(r.Failed))
	for class := range r.Failed {
		classes = append(classes, class)
	}
	sort.Strings(classes)
	for _, class := range classes {
		fmt.Fprintf(&b, " [%s: %d]", class, r.Failed[class])
	}
	fmt.Fprintf(&b, ", retried %d, dials %d, p50 %v, p99 %v, max %v",
		r.Retried, r.Dials, r.P50.Round(time.Microsecond), r.P99.Round(time.Microsecond), r.Max.Round(time.Microsecond))
	return b.String()
}

// record books the end of one request.
func (r *run) record(due time.Time, f *failure) {
	took := time.Since(due)
	if f != nil && r.o.OnFailure != nil {
		r.o.OnFailure(f.class, f.err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.result.Requests++
	if f == nil {
		r.latency.Add(took)
		return
	}
	r.result.Failed[f.class]++
	if len(r.result.Examples) < examplesKept {
		r.result.Examples = append(r.result.Examples,
			fmt.Sprintf("%v: %s: %v", time.Since(r.start).Round(time.Millisecond), f.class, f.err))
	}
}

// count adds one to a counter of the result.
func (r *run) count(counter *int) {
	r.mu.Lock()
	*counter++
	r.mu.Unlock()
}
