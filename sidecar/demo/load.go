package demo

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

type badStatus struct {
	code   int
	reason string
	body   string
}

func (e *badStatus) Error() string {
	return fmt.Sprintf("status %d, reason %q: %.80s", e.code, e.reason, e.body)
}

// load is the web application: it calls api through its own sidecar at a steady
// rate, and takes note of every answer.
type load struct {
	addr string
	rate int // requests a second

	mu       sync.Mutex
	requests int
	failed   int
	firstErr error
	by       map[string]int // answers by instance of api
	via      map[string]int // and of stock
}

func newLoad(addr string, rate int) *load {
	return &load{addr: addr, rate: rate, by: map[string]int{}, via: map[string]int{}}
}

const loadWorkers = 8

// run calls until ctx ends; calls under way are finished.
func (l *load) run(ctx context.Context) {
	client := newClient()
	defer client.CloseIdleConnections()
	due := make(chan struct{}, loadWorkers)
	var wg sync.WaitGroup
	for range loadWorkers {
		wg.Go(func() {
			for range due {
				a, err := ask(context.WithoutCancel(ctx), client, l.addr)
				l.note(a, err)
			}
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(l.rate))
	defer tick.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-tick.C:
			select {
			case due <- struct{}{}:
			case <-ctx.Done():
			}
		}
	}
	close(due)
	wg.Wait()
}

func (l *load) note(a *answer, err error) {
	if err == nil && (a.By == "" || a.Via == nil || a.Via.By == "") {
		err = errors.New("an answer that does not say who answered")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed++
		if l.firstErr == nil {
			l.firstErr = err
		}
		return
	}
	l.by[a.By]++
	l.via[a.Via.By]++
}

// count is a reading of the load.
type count struct {
	requests, failed int
	err              error
}

func (l *load) read() count {
	l.mu.Lock()
	defer l.mu.Unlock()
	return count{l.requests, l.failed, l.firstErr}
}

// answers is how many came from one instance.
func (l *load) answers(instance string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.by[instance] + l.via[instance]
}
