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
	batch    []func() // taken from queue; owned by the loop, like next
	next     int
}

// Post runs f on the loop, after those posted before it. f must not park. Any goroutine; it
// blocks for no longer than an append. A loop that has ended drops f.
func (l *Loop) Post(f func()) { l.post(f) }

// post is Post that reports whether the loop will run f.
func (l *Loop) post(f func()) bool {
	p := &l.posts
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return false
	}
	p.queue = append(p.queue, f)
	p.pending.Add(1)
	if p.sleeping.CompareAndSwap(true, false) {
		l.poller.Wake() // under mu: the poller is closed only after closed is set
	}
	return true
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

// runPosts runs what was posted before it was called. The place in the batch is kept in p: a
// callback that ends the goroutine (runtime.Goexit) does not take the others with it.
func (l *Loop) runPosts() {
	p := &l.posts
	if !p.waiting() {
		return
	}
	if len(p.batch) == 0 {
		p.mu.Lock()
		p.batch, p.queue = p.queue, p.batch
		p.mu.Unlock()
	}
	for p.next < len(p.batch) {
		f := p.batch[p.next]
		p.batch[p.next] = nil
		p.next++
		p.pending.Add(-1)
		l.guard(inPost, f)
	}
	p.batch, p.next = p.batch[:0], 0
	if cap(p.batch) > maxSparePosts {
		p.batch = nil
	}
}

// maxSparePosts bounds what a burst of posts leaves behind.
const maxSparePosts = 1024
