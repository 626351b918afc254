package consul

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// firstProbe and maxProbe bound the time from one probe to the next; it is the
	// second half of a bound that doubles, drawn at random.
	firstProbe = 100 * time.Millisecond
	maxProbe   = time.Second
	// probeLimit is what a probe's answer may take. One at a time may take slack, for the
	// agent that is slow rather than dead: each third at most.
	probeLimit = time.Second
	// Those that were waiting ask again spread over perWaiter for each of them, at most
	// maxSpread: hundreds do not come in the same moment.
	perWaiter = time.Millisecond
	maxSpread = 500 * time.Millisecond
)

// reach is what all that is asked of one datacenter knows together of whether it
// answers. While it does not, those that failed stand in a queue, and the first of
// them asks in place of all (a probe): the rate of questions does not depend on how
// many wait, and yet everybody learns within maxProbe that Consul is back. Its
// methods are safe for concurrent use.
type reach struct {
	mu     sync.Mutex // guards what follows
	queue  []*waiter  // the first of them probes next
	away   bool       // a question failed and none was answered since
	hung   bool       // one of those failures was silence
	probes int        // in a row
	next   time.Time  // when the next probe may begin
	// patient is until when a patient probe may still be under way.
	patient time.Time
	backs   uint64        // how often it came back
	back    chan struct{} // closed when it does the next time
	// sent ends when what was asked under it may have been swallowed by a silence.
	sent context.Context
	over context.CancelFunc
}

func newReach() *reach {
	r := &reach{back: make(chan struct{})}
	r.sent, r.over = context.WithCancel(context.Background())
	return r
}

// waiter is one that failed.
type waiter struct {
	first chan struct{} // closed: the next probe is its own
	led   bool          // first is closed
	crowd int           // how many wait with it, once back is closed
}

// answered notes a good answer, and lets all go who wait.
func (r *reach) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.away {
		return
	}
	for _, w := range r.queue {
		w.crowd = len(r.queue)
	}
	if r.hung {
		r.over()
		r.sent, r.over = context.WithCancel(context.Background())
	}
	r.away, r.hung, r.probes, r.queue, r.patient = false, false, 0, nil, time.Time{}
	r.backs++
	close(r.back)
	r.back = make(chan struct{})
}

// returns is closed when Consul answers again the next time.
func (r *reach) returns() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.back
}

// errStale ends a question that was sent before a silence, once Consul answers again.
var errStale = errors.New("sent before the agent fell silent")

// asking is a question under way.
type asking struct {
	ctx context.Context
	end func()
	// backs is the reach's when it was sent.
	backs uint64
}

// ask begins a question. Its context ends also, for errStale, when Consul answers
// again after a silence, which may have swallowed the question. end must be called.
func (r *reach) ask(parent context.Context) asking {
	r.mu.Lock()
	sent, backs := r.sent, r.backs
	r.mu.Unlock()
	ctx, cancel := context.WithCancelCause(parent)
	forget := context.AfterFunc(sent, func() { cancel(errStale) })
	return asking{ctx: ctx, backs: backs, end: func() {
		forget()
		cancel(nil)
	}}
}

// failure is a question that was not answered.
type failure struct {
	err   error
	count int    // in a row, of its asker
	backs uint64 // of the asking
}

// wait returns when one that failed may ask again, and what the answer may take, or
// ctx's error.
func (r *reach) wait(ctx context.Context, f failure, random func() float64) (limit time.Duration, err error) {
	if refused(f.err) {
		return slack, sleep(ctx, backoff{f.count}.bound(random()))
	}
	w, back := r.join(f, random)
	defer r.leave(w)
	var timer <-chan time.Time
	first := w.first
	for {
		select {
		case <-first:
			first = nil
			t := time.NewTimer(time.Until(r.turn()))
			defer t.Stop()
			timer = t.C
		case <-timer:
			return r.begin(random), nil
		case <-back:
			return slack, sleep(ctx, w.spread(f.count, random()))
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// join queues one that failed. It is let go at once where others were answered
// meanwhile: what it knows is old.
func (r *reach) join(f failure, random func() float64) (*waiter, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := &waiter{first: make(chan struct{})}
	if f.backs != r.backs && !r.away {
		gone := make(chan struct{})
		close(gone)
		return w, gone
	}
	if !r.away {
		r.away, r.probes = true, 0
		r.next = time.Now().Add(probeWait(0, random()))
	}
	r.hung = r.hung || errors.As(f.err, new(hungError))
	r.queue = append(r.queue, w)
	r.lead()
	return w, r.back
}

// leave takes w out of the queue, if it is still there.
func (r *reach) leave(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, other := range r.queue {
		if other == w {
			r.queue = append(r.queue[:i:i], r.queue[i+1:]...)
			break
		}
	}
	r.lead()
}

// lead tells the first of the queue. Called with mu held.
func (r *reach) lead() {
	if len(r.queue) > 0 && !r.queue[0].led {
		r.queue[0].led = true
		close(r.queue[0].first)
	}
}

func (r *reach) turn() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// begin notes that a probe begins and says what its answer may take. The next one does
// not wait for it, since it may never come.
func (r *reach) begin(random func() float64) (limit time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	r.probes++
	r.next = now.Add(probeWait(r.probes, random()))
	if r.probes%3 != 0 || now.Before(r.patient) {
		return probeLimit
	}
	r.patient = now.Add(slack)
	return slack
}

// probeWait is the time to the next probe after so many in a row; random is in [0, 1).
func probeWait(probes int, random float64) time.Duration {
	bound := maxProbe
	if probes < 4 {
		bound = min(maxProbe, firstProbe<<probes)
	}
	return bound/2 + time.Duration(random*float64(bound/2))
}

// spread is how long w waits once Consul is back. One that has failed before by itself
// waits longer: perhaps Consul is well and only its question is not.
func (w *waiter) spread(failures int, random float64) time.Duration {
	bound := min(maxSpread, time.Duration(w.crowd)*perWaiter)
	if failures > 1 {
		bound = max(bound, min(maxSpread, firstProbe<<min(failures, 8)))
	}
	return time.Duration(random * float64(bound))
}

// refused reports whether err says that this question is not to be answered, whatever
// becomes of Consul: only its asker waits then.
func refused(err error) bool {
	var status api.StatusError
	return errors.As(err, &status) && status.Code >= 400 && status.Code < 500 && status.Code != http.StatusTooManyRequests
}
