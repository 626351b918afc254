package engine

import (
	"sync"
	"sync/atomic"
)

// posts is how other goroutines reach a loop. A mutex, not a lock-free list: it gives the
// race detector (and the reader) the order that a post implies. The eventfd is written only
// when the loop sleeps.
type posts struct {
	mu     sync.Mutex
	queue  []func() // guarded by mu
	closed bool     // guarded by mu

	pending  atomic.Int64
	sleeping atomic.Bool
	spare    []func() // owned by the loop
}

// Post runs f on the loop, after those posted before it. f must not park. Any goroutine; it
// blocks for no longer than an append. A loop that has ended drops f.
func (l *Loop) Post(f func()) {
	p := &l.posts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.queue = append(p.queue, f)
	p.pending.Add(1)
	if p.sleeping.CompareAndSwap(true, false) {
		l.poller.Wake() // under mu: the poller is closed only after closed is set
	}
}

// close frees the poller: nothing wakes it any more.
func (p *posts) close(l *Loop) {
	p.mu.Lock()
	p.closed = true
	p.queue = nil
	p.mu.Unlock()
	l.poller.Close()
}

func (p *posts) waiting() bool { return p.pending.Load() > 0 }

// sleep announces that the loop is about to wait; false if something was posted meanwhile.
func (p *posts) sleep() bool {
	p.sleeping.Store(true)
	return !p.waiting()
}

func (p *posts) awake() { p.sleeping.Store(false) }

func (l *Loop) runPosts() {
	p := &l.posts
	if !p.waiting() {
		return
	}
	p.mu.Lock()
	batch := p.queue
	p.queue = p.spare[:0]
	p.mu.Unlock()
	p.pending.Add(-int64(len(batch)))
	l.counts.steps += uint64(len(batch))
	for i, f := range batch {
		batch[i] = nil
		l.guard(inPost, f)
	}
	p.spare = batch[:0]
	if cap(p.spare) > maxSparePosts {
		p.spare = nil
	}
}

// maxSparePosts bounds what a burst of posts leaves behind.
const maxSparePosts = 1024
