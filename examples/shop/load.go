package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"sync"
	"time"
)

// tally is what a load has seen.
type tally struct {
	Requests int            `json:"requests"`
	Failed   int            `json:"failed"`
	Last     string         `json:"last_error,omitempty"`
	By       map[string]int `json:"by"` // answers by who gave them, at any place of the chain
}

// loader asks a URL at a steady rate.
type loader struct {
	url    string
	client *http.Client

	mu   sync.Mutex
	seen tally
}

// load asks at a steady rate and tells what came of it, at its address and each ten seconds on
// its output.
func load(ctx context.Context, args []string) error {
	f := flags("load")
	url := f.String("url", "", "what is asked")
	rate := f.Int("rate", 20, "requests a second")
	address := f.String("listen", "127.0.0.1:8080", "where it tells what it has seen")
	_ = f.Parse(args)
	if *url == "" || *rate < 1 || *rate > 10000 {
		return fmt.Errorf("--url is needed, and a --rate of 1 to 10000; got %q and %d", *url, *rate)
	}
	l := &loader{url: *url, client: newClient(), seen: tally{By: map[string]int{}}}
	var wg sync.WaitGroup
	wg.Go(func() { l.run(ctx, *rate) })
	defer wg.Wait()
	return listen(ctx, *address, l)
}

// run sends what is due whether or not the others have been answered, so that a slow answer
// hides nothing.
func (l *loader) run(ctx context.Context, rate int) {
	var wg sync.WaitGroup
	defer wg.Wait()
	due, report := time.NewTicker(time.Second/time.Duration(rate)), time.NewTicker(10*time.Second)
	defer due.Stop()
	defer report.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due.C:
			wg.Go(func() { l.one(context.WithoutCancel(ctx)) })
		case <-report.C:
			_ = json.NewEncoder(os.Stdout).Encode(l.tally())
		}
	}
}

// one asks once.
func (l *loader) one(ctx context.Context) {
	var a *answer
	body, err := get(ctx, l.client, l.url, nil)
	if err == nil {
		err = json.Unmarshal(body, &a)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen.Requests++
	if err != nil {
		l.seen.Failed++
		l.seen.Last = err.Error()
	}
	for ; a != nil; a = a.Via {
		l.seen.By[a.By]++
	}
}

// tally is a copy of what was seen so far.
func (l *loader) tally() tally {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.seen
	t.By = map[string]int{}
	for who, n := range l.seen.By {
		t.By[who] = n
	}
	return t
}

// ServeHTTP implements http.Handler.
func (l *loader) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("content-type", "application/json")
	_ = json.NewEncoder(w).Encode(l.tally())
}
