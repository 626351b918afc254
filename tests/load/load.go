// Package load sends HTTP/1.1 requests at a fixed rate and accounts for every
// one of them.
//
// It exists for end-to-end tests, whose claims read "0 failed requests": a
// claim like that is worth what its client counts. So it is open-loop (the
// schedule does not slow down when the server does, and latency runs from the
// moment a request was due, not from when a connection came free), it opens
// its own connections instead of going through net/http's transport (which
// repeats requests silently), and anything but a complete 2xx answer with the
// expected body is a failure with a name.
//
// It must not know the proxy: it speaks to an address. It is made for a few
// thousand requests a second; the benchmark has a cheaper generator of its own.
package load

import (
	"context"
	"crypto/tls"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Options says what to send, where, how fast and for how long. Addr and one of
// Duration and Requests are required; the zero value of the rest is useful.
type Options struct {
	// Network is "tcp" when empty; "unix" takes a socket path as Addr.
	Network string
	Addr    string
	// TLS, when set, wraps each connection. The config is used as it is.
	TLS *tls.Config

	// Method is GET when empty, Path is "/", Host is Addr.
	Method, Path, Host string
	// Header is sent with each request; it is read only.
	Header http.Header
	// Body is sent with each request, with its Content-Length.
	Body []byte

	// Conns bounds the connections and so the requests in flight; 8 when 0.
	Conns int
	// Rate is in requests per second over all connections; 0 sends the next
	// request as soon as a connection is free (closed loop).
	Rate float64
	// Duration ends the sending; requests already sent are waited for. With
	// Requests set as well, whichever is reached first ends the run.
	Duration time.Duration
	Requests int
	// Stop, when closed, ends the sending as Duration does: whatever happens
	// first. Unlike the end of the context it leaves no request uncounted.
	Stop <-chan struct{}
	// Timeout bounds one request from its sending, dial included; 30 s when 0.
	Timeout time.Duration
	// NewConn opens a connection for each request and sends Connection: close.
	NewConn bool

	// WantBody, when not nil, is the exact body every answer must have.
	WantBody []byte
	// Check, when set, judges a complete 2xx answer; an error counts as a
	// failure of class "check". It is called from several goroutines at once
	// and owns neither argument after it returned. The response's Body is
	// already consumed.
	Check func(resp *http.Response, body []byte) error
	// OnFailure, when set, is told of each failed request when it fails, for whoever
	// cannot wait for the Result. It is called from several goroutines at once.
	OnFailure func(class string, err error)
}

// HTTP runs the load until its end or until ctx is done, and returns when the
// last connection is closed. Requests that ctx cut short are not counted.
func HTTP(ctx context.Context, o Options) Result {
	o = o.withDefaults()
	r := &run{o: o, start: time.Now(), request: encode(o)}
	r.result.Failed = map[string]int{}
	var workers sync.WaitGroup
	for range o.Conns {
		workers.Go(func() { (&worker{run: r}).loop(ctx) })
	}
	workers.Wait()
	r.result.Elapsed = time.Since(r.start)
	r.result.P50 = r.latency.Quantile(0.50)
	r.result.P99 = r.latency.Quantile(0.99)
	r.result.Max = r.latency.Max()
	return r.result
}

func (o Options) withDefaults() Options {
	if o.Network == "" {
		o.Network = "tcp"
	}
	if o.Method == "" {
		o.Method = http.MethodGet
	}
	if o.Path == "" {
		o.Path = "/"
	}
	if o.Host == "" {
		o.Host = o.Addr
		if o.Network == "unix" {
			o.Host = "localhost"
		}
	}
	if o.Conns <= 0 {
		o.Conns = 8
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return o
}

// run is what the workers of one call share.
type run struct {
	o       Options
	start   time.Time
	request []byte
	tickets atomic.Int64

	mu      sync.Mutex
	result  Result
	latency Histogram
}

// next takes the next request off the schedule. A worker that comes late gets
// a due time in the past: that is what makes the loop open.
func (r *run) next() (due time.Time, ok bool) {
	select {
	case <-r.o.Stop:
		return time.Time{}, false
	default:
	}
	n := r.tickets.Add(1) - 1
	if r.o.Requests > 0 && n >= int64(r.o.Requests) {
		return time.Time{}, false
	}
	due = time.Now()
	if r.o.Rate > 0 {
		due = r.start.Add(time.Duration(float64(n) / r.o.Rate * float64(time.Second)))
	}
	if r.o.Duration > 0 && due.Sub(r.start) >= r.o.Duration {
		return time.Time{}, false
	}
	return due, r.o.Duration > 0 || r.o.Requests > 0
}
