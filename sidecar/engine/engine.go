package engine

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Options configure an Engine. The zero value is one loop on the system's own kind and the real clock.
type Options struct {
	// Loops is the number of event loops, 1 if less. GOMAXPROCS is the caller's to set:
	// loops + 1, and never below 2.
	Loops int
	// Kind is what tasks and sockets stand on.
	Kind Kind
	// Poller makes the network of loop index; nil is the kind's own.
	Poller func(index int) (Poller, error)
	// Clock is the time of loops and timers; nil is the real one.
	Clock Clock
	// Log gets what an operator must know; nil discards.
	Log *slog.Logger
	// HandshakesPerTurn is how many TLS handshakes a loop starts a turn; default 1.
	HandshakesPerTurn int
	// HandshakeQueue bounds the tasks that wait for Loop.Pace, a loop; default 4096.
	HandshakeQueue int
	// HandshakeOffload says when they are computed beside the loops.
	HandshakeOffload HandshakeOffload
	// Handshakes bounds those computed beside the loops at once; 0: half as many as the
	// process may use CPUs.
	Handshakes int
	// Pipes bounds the pipes that a loop splices through, of two descriptors each;
	// default 1024.
	Pipes int
	// DrainGrace is how long Run waits for tasks that were cancelled at the drain deadline
	// and for their offloaded work; default 5 s.
	DrainGrace time.Duration
	// OnDrain runs on each loop when a drain begins, to close what waits idle; may be nil.
	OnDrain func(*Loop)
	// OnPanic is told of a panic that was contained in a task or callback (value nil: the
	// task called runtime.Goexit). It runs on the loop and must not park; may be nil.
	OnPanic func(task string, value any, stack []byte)
	// Seed makes Loop.Rand, and with it every jitter, repeatable; 0 draws one.
	Seed uint64
	// Watchdog configures the detection of loops that do not turn.
	Watchdog WatchdogOptions
}

func (o Options) withDefaults() Options {
	o.Loops = max(o.Loops, 1)
	o.Kind = o.Kind.resolve()
	if o.Poller == nil {
		o.Poller = func(int) (Poller, error) { return o.Kind.newPoller() }
	}
	if o.Clock == nil {
		o.Clock = RealClock()
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.HandshakesPerTurn <= 0 {
		o.HandshakesPerTurn = 1
	}
	if o.HandshakeQueue <= 0 {
		o.HandshakeQueue = 4096
	}
	if o.Handshakes <= 0 {
		o.Handshakes = max(1, min(runtime.NumCPU(), runtime.GOMAXPROCS(0))/2)
	}
	if o.Pipes <= 0 {
		o.Pipes = defaultPipes
	}
	if o.DrainGrace <= 0 {
		o.DrainGrace = 5 * time.Second
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	o.Watchdog = o.Watchdog.withDefaults()
	return o
}

// Engine is a set of loops, their listeners and one watchdog.
type Engine struct {
	// Immutable after New.
	options Options
	pull    pull
	alone   bool // one loop accepts for all
	loops   []*Loop
	cancel  context.CancelFunc
	ctx     context.Context // of offloaded work; ends when the loops have

	handshakes handshakes
	dialled    dialled

	memory      memory
	acceptBurst atomic.Int64
	offloads    sync.WaitGroup
	running     sync.WaitGroup
	started     atomic.Bool
}

// New opens the loops. Nothing runs before Run (or Loop.Step), but Listen, Post and Loops
// may be used at once.
func New(o Options) (*Engine, error) {
	o = o.withDefaults()
	e := &Engine{options: o, pull: o.Kind.pull()}
	e.handshakes.slots = make(chan struct{}, o.Handshakes)
	e.ctx, e.cancel = context.WithCancel(context.Background())
	for i := range o.Loops {
		p, err := o.Poller(i)
		if err != nil {
			e.closePollers()
			return nil, fmt.Errorf("engine: loop %d: %w", i, err)
		}
		if a, ok := p.(aloneAcceptor); ok {
			e.alone = a.acceptsAlone()
		}
		e.loops = append(e.loops, newLoop(e, i, p))
	}
	return e, nil
}

func (e *Engine) closePollers() {
	e.cancel()
	for _, l := range e.loops {
		l.poller.Close()
	}
}

// Loops returns the loops; the slice must not be changed. Any goroutine.
func (e *Engine) Loops() []*Loop { return e.loops }

// Kind is what the engine stands on, never Native. Any goroutine.
func (e *Engine) Kind() Kind { return e.options.Kind }

// Nanos is the engine's clock, which Loop.Nanos caches. Any goroutine.
func (e *Engine) Nanos() int64 { return e.options.Clock.Nanos() }

// Run turns the loops until a drain has ended. The end of ctx is a drain with a deadline
// that has passed. It returns an error if tasks or offloaded work outlived the grace period.
// It may be called once.
func (e *Engine) Run(ctx context.Context) error {
	if e.started.Swap(true) {
		return fmt.Errorf("engine: run twice")
	}
	dog := startWatchdog(e)
	e.running.Add(len(e.loops))
	for _, l := range e.loops {
		go e.runLoop(l)
	}
	stop := context.AfterFunc(ctx, func() { e.Drain(time.Time{}) })
	e.running.Wait()
	stop()
	dog.stop()
	return e.finish()
}

// runLoop turns one loop. A callback that calls runtime.Goexit ends the goroutine but not
// the loop: another goroutine goes on with it.
func (e *Engine) runLoop(l *Loop) {
	normal := false
	defer func() {
		if normal {
			e.running.Done()
			return
		}
		l.counts.goexits++
		go e.runLoop(l)
	}()
	l.run()
	normal = true
}

// finish frees what the loops leave behind, after all of them have ended.
func (e *Engine) finish() error {
	e.cancel()
	var abandoned []string
	for _, l := range e.loops {
		abandoned = append(abandoned, l.abandoned...)
	}
	done := make(chan struct{})
	go func() { e.offloads.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(e.options.DrainGrace):
		abandoned = append(abandoned, "offloaded work")
	}
	if len(abandoned) > 0 {
		return fmt.Errorf("engine: still running after the drain: %q", abandoned)
	}
	return nil
}

// Drain begins the end: listeners close, tasks run on, and at the deadline those left are
// cancelled with ErrDrain and all connections closed. The zero time means at once. A second
// call can only move the deadline. Run returns when all is gone. Any goroutine.
func (e *Engine) Drain(deadline time.Time) {
	for _, l := range e.loops {
		l.Post(func() { l.drain(deadline) })
	}
}

// Close ends an engine that was stepped and never Run. It turns the loops itself.
func (e *Engine) Close() error {
	if e.started.Swap(true) {
		return fmt.Errorf("engine: close after run; use drain")
	}
	e.Drain(time.Time{})
	for _, l := range e.loops {
		l.run()
	}
	return e.finish()
}
