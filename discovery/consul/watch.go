package consul

import (
	"context"
	"errors"
	"time"

	"github.com/hashicorp/consul/api"
)

// slack is added to the time an answer may take: an agent that waits for a leader
// holds a query for seven seconds before it gives up.
const slack = 10 * time.Second

// answer is one good reply to a blocking query.
type answer[T any] struct {
	value T
	index uint64
	// wentBack: the index is lower than that of the answer before. The registry was
	// restored, or has forgotten everything.
	wentBack bool
	// confirmed: next.confirm asked for it.
	confirmed bool
	// filtered: an ACL kept part of the value back.
	filtered bool
	// denies: the agent refuses what no ACL rule allows.
	denies bool
}

// next is what an answer asks of the query after it; zero: nothing special.
type next struct {
	// within, when positive, bounds its wait.
	within time.Duration
	// confirm asks for what the leader knows at this moment. That is a query without
	// index: an agent serves those with one from its own view (the streaming backend),
	// whatever mode they ask for.
	confirm bool
}

// watch repeats one blocking query for ever. The rules for the index are those of
// Consul's manual, "Blocking queries": an index of 0 is never sent after an
// answer, and one that went backwards is forgotten.
type watch[T any] struct {
	client *Client
	// what names the watched thing in errors: `watch service "web"`; needs are the ACL
	// permissions for it.
	what, needs string
	// datacenter is the one asked; empty: the client's.
	datacenter string
	// query asks once; q carries context, index, wait and mode, and what is common
	// to all queries of the client.
	query func(q *api.QueryOptions) (T, *api.QueryMeta, error)
	// take gets each answer, also one that brings nothing new: that a query returned
	// is no change.
	take func(answer[T]) next
	// fail gets each error, complete with its place.
	fail func(error)

	// owned by run
	last     uint64 // index of the last answer
	index    uint64 // index to send; 0: answer at once
	next     next
	pace     bucket
	reach    *reach
	failures int           // in a row
	backs    uint64        // of the last question
	limit    time.Duration // what the next answer without index may take
}

// run asks until ctx ends, which also ends a query in flight.
func (w *watch[T]) run(ctx context.Context) error {
	w.pace, w.reach, w.limit = newBucket(burst, refill), w.client.reach(w.datacenter), slack
	for {
		now := time.Now()
		if err := sleep(ctx, max(w.pace.take(now), w.client.pace.take(now))); err != nil {
			return err
		}
		got, err := w.ask(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if err := w.failed(ctx, err); err != nil {
				return err
			}
			continue
		}
		w.failures, w.limit = 0, slack
		w.reach.answered()
		w.advance(&got)
		w.next = w.take(got)
	}
}

// failed waits after an error until it is time to ask again, or for the end of ctx,
// whose error it returns. The next query has no index: it is answered at once and says
// that the agent is back.
func (w *watch[T]) failed(ctx context.Context, err error) error {
	w.index = 0
	if errors.Is(err, errStale) {
		w.limit = slack
		return sleep(ctx, time.Duration(w.client.rand()*float64(maxSpread)))
	}
	w.fail(w.client.explain(w.what, w.needs, err))
	w.next = next{}
	w.failures++
	w.limit, err = w.reach.wait(ctx, failure{err: err, count: w.failures, backs: w.backs}, w.client.rand)
	return err
}

// ask sends one query and bounds the time of its answer.
func (w *watch[T]) ask(ctx context.Context) (answer[T], error) {
	o := w.client.options
	index, wait := w.index, o.Wait-time.Duration(w.client.rand()*float64(o.Wait)/10)
	if w.next.within > 0 {
		wait = min(wait, w.next.within)
	}
	if w.next.confirm {
		index = 0
	}
	limit := w.limit
	if index > 0 {
		limit = slack + wait + wait/16 // the server's own jitter
	}
	asked := w.reach.ask(ctx)
	defer asked.end()
	w.backs = asked.backs
	ctx, cancel := context.WithTimeoutCause(asked.ctx, limit, hungError{limit})
	defer cancel()

	q := &api.QueryOptions{
		Datacenter: o.Datacenter, Namespace: o.Namespace, Partition: o.Partition,
		WaitIndex: index, WaitTime: wait, RequireConsistent: w.next.confirm,
	}
	value, meta, err := w.query(q.WithContext(ctx))
	if err != nil {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return answer[T]{}, err
	}
	return answer[T]{
		value:     value,
		index:     meta.LastIndex,
		confirmed: w.next.confirm,
		filtered:  meta.ResultsFilteredByACLs,
		denies:    meta.DefaultACLPolicy == "deny",
	}, nil
}

// advance chooses the next index.
func (w *watch[T]) advance(got *answer[T]) {
	got.wentBack = got.index < w.last
	w.last = got.index
	switch {
	case got.wentBack:
		w.index = 0
	case got.index == 0:
		w.index = 1
	default:
		w.index = got.index
	}
}
