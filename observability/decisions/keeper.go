package decisions

import "github.com/larboard-proxy/larboard/policy"

// keeper holds the entries of one loop. When it is full the oldest one goes; but a reason
// that has a quarter of all entries gives up its own, so that a storm of one (limits, an
// endpoint that has died) leaves the others to be seen. Owned by the loop.
type keeper struct {
	size    int
	entries []*entry // in no order
	queues  []queue  // by reason
}

// queue is the entries of one reason, oldest first.
type queue struct {
	first, last *entry
	n           int
}

func newKeeper(size int) *keeper {
	return &keeper{size: size, queues: make([]queue, len(policy.Reasons()))}
}

// place returns an entry for a decision for r, which put adds: a new one while there is
// room, so that a proxy whose traffic succeeds needs no memory for it.
func (k *keeper) place(r policy.Reason) *entry {
	if len(k.entries) < k.size {
		e := &entry{}
		k.entries = append(k.entries, e)
		return e
	}
	q := &k.queues[r]
	if q.n < max(1, k.size/4) {
		q = nil
		for i := range k.queues {
			if c := &k.queues[i]; c.first != nil && (q == nil || c.first.id < q.first.id) {
				q = c
			}
		}
	}
	e := q.first
	q.first = e.next
	if q.n--; q.first == nil {
		q.last = nil
	}
	e.next = nil
	return e
}

func (k *keeper) put(e *entry) {
	q := &k.queues[e.reason]
	if q.last == nil {
		q.first = e
	} else {
		q.last.next = e
	}
	q.last = e
	q.n++
}
