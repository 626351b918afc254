package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// app is what is served.
type app struct {
	health *health.Server
	first  []answer // what came of the calls at the start
	ill    atomic.Bool

	mu     sync.Mutex
	counts map[string]int // requests by path
	load   *load
}

// answer is what came of a call.
type answer struct {
	Status      int
	Body, Error string
}

var client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}

func call(method, url string) answer {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return answer{Error: err.Error()}
	}
	resp, err := client.Do(req)
	if err != nil {
		return answer{Error: err.Error()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{Error: err.Error()}
	}
	return answer{Status: resp.StatusCode, Body: strings.TrimSpace(string(body))}
}

// ServeHTTP says who answers; /health, how it is; /slow, after a while.
func (a *app) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	if a.counts == nil {
		a.counts = map[string]int{}
	}
	a.counts[r.URL.Path]++
	a.mu.Unlock()
	switch {
	case r.URL.Path == "/health" && a.ill.Load():
		http.Error(w, "ill", http.StatusServiceUnavailable)
		return
	case r.URL.Path == "/slow":
		time.Sleep(500 * time.Millisecond)
	}
	fmt.Fprintf(w, "%s %s\n", os.Getenv("NAME"), hostname())
}

// hostname is the pod's name.
func hostname() string {
	name, _ := os.Hostname()
	return name
}

// control is what the tests ask, in JSON.
func (a *app) control() http.Handler {
	mux := http.NewServeMux()
	tell := func(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }
	mux.HandleFunc("/call", func(w http.ResponseWriter, r *http.Request) {
		tell(w, call(cmp.Or(r.FormValue("method"), http.MethodGet), r.FormValue("url")))
	})
	mux.HandleFunc("/first", func(w http.ResponseWriter, _ *http.Request) { tell(w, a.first) })
	mux.HandleFunc("/counts", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		tell(w, a.counts)
	})
	mux.HandleFunc("/ill", func(w http.ResponseWriter, _ *http.Request) {
		a.ill.Store(true)
		a.health.SetServingStatus("", healthpb.HealthCheckResponse_NOT_SERVING)
		tell(w, "ill")
	})
	mux.HandleFunc("/load", func(w http.ResponseWriter, r *http.Request) {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.load == nil {
			a.load = startLoad(r.FormValue("url"))
		}
		tell(w, a.load.report())
	})
	mux.HandleFunc("/stop", func(w http.ResponseWriter, _ *http.Request) {
		a.mu.Lock()
		l := a.load
		a.load = nil
		a.mu.Unlock()
		tell(w, l.stop())
	})
	return mux
}

// load calls one URL from four goroutines, half of the calls such that nobody may repeat
// them once they have reached a server.
type load struct {
	done chan struct{}
	wait sync.WaitGroup

	mu  sync.Mutex
	got report
}

// report is what came of a load.
type report struct {
	Requests, Failed int
	By               map[string]int // answers by who gave them
	Errors           []string       // the first ones
}

func startLoad(url string) *load {
	l := &load{done: make(chan struct{}), got: report{By: map[string]int{}}}
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodGet, http.MethodPost} {
		l.wait.Go(func() { l.run(method, url) })
	}
	return l
}

func (l *load) run(method, url string) {
	for {
		select {
		case <-l.done:
			return
		case <-time.After(5 * time.Millisecond):
			l.count(method, call(method, url))
		}
	}
}

func (l *load) count(method string, a answer) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.got.Requests++
	if a.Status == http.StatusOK {
		l.got.By[a.Body]++
		return
	}
	l.got.Failed++
	if len(l.got.Errors) < 5 {
		l.got.Errors = append(l.got.Errors, fmt.Sprintf("%s %s: %d %s%s", time.Now().UTC().Format("15:04:05.000"), method, a.Status, a.Body, a.Error))
	}
}

func (l *load) report() report {
	l.mu.Lock()
	defer l.mu.Unlock()
	copied := l.got
	copied.By = maps.Clone(l.got.By)
	return copied
}

// stop ends the load; a nil one has done nothing.
func (l *load) stop() report {
	if l == nil {
		return report{}
	}
	close(l.done)
	l.wait.Wait()
	return l.report()
}
