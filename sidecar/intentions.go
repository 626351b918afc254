package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/larboard-proxy/larboard/discovery/consul"
	"github.com/larboard-proxy/larboard/observability/metrics"
	"github.com/larboard-proxy/larboard/policy/authz"
	"github.com/larboard-proxy/larboard/sidecar/compile"
	"github.com/larboard-proxy/larboard/sidecar/config"
)

// intentions keeps Consul's intentions for the destinations that the configuration
// names: one watch each, for as long as a listener asks for it.
type intentions struct {
	// immutable after build
	client  *consul.Client // nil: there is no Consul
	log     *slog.Logger
	changed func() // called after each change

	mu      sync.Mutex // guards what follows
	watched map[string]*watchedIntentions
}

// watchedIntentions are those for one destination.
type watchedIntentions struct {
	destination string
	compiled    atomic.Pointer[authz.Intentions] // nil: not known yet
	first       chan struct{}                    // closed with the first answer
	end         context.CancelFunc

	mu       sync.Mutex // guards what follows
	last     consul.Intentions
	at       time.Time
	err      error
	errSince time.Time
}

var errNoConsul = errors.New("intentions are asked of Consul, and there is none here")

// open begins the watches that c needs and that do not run yet. run starts a goroutine.
func (n *intentions) open(ctx context.Context, c *config.Config, run func(func() error)) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, name := range destinations(c) {
		if n.client == nil {
			return errNoConsul
		}
		if n.watched[name] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		w := &watchedIntentions{destination: name, first: make(chan struct{}), end: cancel, errSince: time.Now()}
		n.watched[name] = w
		run(func() error {
			return n.client.WatchIntentions(ctx, name, func(i consul.Intentions) { n.set(w, i) }, func(err error) { n.fail(ctx, w, err) })
		})
	}
	return nil
}

// keep ends the watches that c does not need.
func (n *intentions) keep(c *config.Config) {
	n.mu.Lock()
	defer n.mu.Unlock()
	needed := map[string]bool{}
	for _, name := range destinations(c) {
		needed[name] = true
	}
	for name, w := range n.watched {
		if !needed[name] {
			w.end()
			delete(n.watched, name)
		}
	}
}

// destinations are those whose intentions decide at a listener of c.
func destinations(c *config.Config) (names []string) {
	for i := range c.Listeners {
		if d := c.Listeners[i].Intentions; d != nil {
			names = append(names, d.Service)
		}
	}
	return names
}

// of is what compile asks for; open has begun the watch.
func (n *intentions) of(destination string) compile.Intentions {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.watched[destination].compiled.Load
}

func (n *intentions) all() []*watchedIntentions {
	n.mu.Lock()
	defer n.mu.Unlock()
	var all []*watchedIntentions
	for _, w := range n.watched {
		all = append(all, w)
	}
	return all
}

// set brings an answer into force.
func (n *intentions) set(w *watchedIntentions, i consul.Intentions) {
	first := w.compiled.Swap(compileIntentions(i)) == nil
	w.mu.Lock()
	recovered := w.err != nil
	w.last, w.at, w.err = i, time.Now(), nil
	w.mu.Unlock()
	if first {
		close(w.first)
	}
	n.changed()
	n.log.Info("intentions changed", "destination", w.destination, "intentions", len(i.List), "default", i.Default.String(),
		"index", i.Index, "recovered", recovered)
}

func (n *intentions) fail(ctx context.Context, w *watchedIntentions, err error) {
	if ctx.Err() != nil {
		return
	}
	w.mu.Lock()
	news := w.err == nil
	if news && !w.at.IsZero() {
		w.errSince = time.Now()
	}
	w.err = err
	w.mu.Unlock()
	if news {
		n.log.Warn("no news of intentions, the last ones stay", "destination", w.destination, "known", w.compiled.Load() != nil, "error", err)
	}
}

// age is for how long the intentions in force may be out of date.
func (w *watchedIntentions) age(now time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.at.IsZero() {
		return 0
	}
	return now.Sub(w.errSince)
}

// compileIntentions turns what Consul says into decisions.
func compileIntentions(i consul.Intentions) *authz.Intentions {
	list := make([]authz.Intention, len(i.List))
	for k, one := range i.List {
		list[k] = authz.Intention{
			Partition: one.Partition, Namespace: one.Namespace, Name: one.Source, Peer: one.Peer, Group: one.Group,
			Destination: one.Destination, Allow: one.Allow, Request: requires(one), Precedence: one.Precedence,
		}
	}
	byDefault := map[consul.DefaultPolicy]authz.Default{consul.DefaultAllow: authz.DefaultAllow, consul.DefaultDeny: authz.DefaultDeny}
	return authz.NewIntentions(list, byDefault[i.Default])
}

// requires says what an intention asks of a request beside its caller.
func requires(i consul.Intention) string {
	switch {
	case i.Permissions:
		return "permissions of the request (L7)"
	case i.JWT:
		return "a JWT"
	}
	return ""
}

// awaitIntentions gives Consul a bounded time for the first answers.
func (s *Sidecar) awaitIntentions(ctx context.Context) {
	within, cancel := context.WithTimeout(ctx, discoveryWithin)
	defer cancel()
	for _, w := range s.intentions.all() {
		select {
		case <-w.first:
		case <-within.Done():
			if ctx.Err() == nil {
				s.log.Warn("no intentions yet: nobody may call until they come", "destination", w.destination)
			}
		}
	}
}

// ready reports whether any listener can know who may call. One that does not takes
// nothing from the others.
func (n *intentions) ready() (bool, []string) {
	all := n.all()
	var reasons []string
	for _, w := range all {
		if w.compiled.Load() == nil {
			reasons = append(reasons, fmt.Sprintf("no intentions for %q yet: see /api/v1/intentions", w.destination))
		}
	}
	return len(reasons) == 0 || len(reasons) < len(all), reasons
}

func (s *Sidecar) registerIntentions() {
	s.metrics.Register(metrics.IntentionsAge, func(emit metrics.Emit) {
		for _, w := range s.intentions.all() {
			emit(w.age(time.Now()).Seconds(), w.destination)
		}
	})
}
