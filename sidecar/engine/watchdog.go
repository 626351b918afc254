package engine

import (
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"time"
)

// WatchdogOptions say when a loop that does not turn is reported, and what is done about it.
// A task that blocks in the Go scheduler or computes without parking is such a loop, and
// with it every connection it owns.
type WatchdogOptions struct {
	// Disabled is for engines whose time is simulated.
	Disabled bool
	// Warn is when the task is named in the log; default 20 ms.
	Warn time.Duration
	// Dump is when all stacks are logged, once in the life of an engine; default 500 ms.
	Dump time.Duration
	// Fatal is when Kill is called; default 5 s.
	Fatal time.Duration
	// Kill ends the process: by default it writes all stacks to standard error and exits
	// with status 1. task is the name of the task, stacks those of all goroutines.
	Kill func(loop int, task string, stacks []byte)
}

func (o WatchdogOptions) withDefaults() WatchdogOptions {
	if o.Warn <= 0 {
		o.Warn = 20 * time.Millisecond
	}
	if o.Dump <= 0 {
		o.Dump = 500 * time.Millisecond
	}
	if o.Fatal <= 0 {
		o.Fatal = 5 * time.Second
	}
	if o.Kill == nil {
		o.Kill = exitWithStacks
	}
	return o
}

func exitWithStacks(_ int, task string, stacks []byte) {
	lastWords(os.Stderr, time.Second, "engine: loop does not turn, in task "+task+"\n", stacks)
	os.Exit(1)
}

// lastWords writes what it can within a time: a process whose standard error nobody
// reads must end all the same.
func lastWords(w io.Writer, within time.Duration, text string, stacks []byte) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		io.WriteString(w, text)
		w.Write(stacks)
	}()
	select {
	case <-said:
	case <-time.After(within):
	}
}

// pulse is what a loop shows of itself: stores by the loop, loads by the watchdog.
type pulse struct {
	beat    atomic.Uint64
	label   atomic.Pointer[string]
	polling atomic.Bool
	stalls  atomic.Uint64
	n       uint64 // owned by the loop
}

func (p *pulse) begin(label *string) {
	p.n++
	p.label.Store(label)
	p.beat.Store(p.n)
}

func (l *Loop) doing(what activity) { l.pulse.begin(&activityNames[what]) }

type watchdog struct {
	engine *Engine
	quit   chan struct{}
	gone   chan struct{}
	views  []loopView
	dumped bool
}

// loopView is what the watchdog saw of a loop.
type loopView struct {
	beat   uint64
	stuck  time.Duration
	warned bool
	killed bool
}

func startWatchdog(e *Engine) *watchdog {
	w := &watchdog{engine: e, quit: make(chan struct{}), gone: make(chan struct{}), views: make([]loopView, len(e.loops))}
	if e.options.Watchdog.Disabled {
		close(w.gone)
		return w
	}
	go w.run()
	return w
}

func (w *watchdog) stop() {
	close(w.quit)
	<-w.gone
}

// run samples twice in the warning time; ten times less often while all loops sleep.
func (w *watchdog) run() {
	defer close(w.gone)
	tick := w.engine.options.Watchdog.Warn / 2
	timer := time.NewTimer(tick)
	defer timer.Stop()
	for {
		select {
		case <-w.quit:
			return
		case <-timer.C:
		}
		wait := tick
		if !w.sample(tick) {
			wait = 10 * tick
		}
		timer.Reset(wait)
	}
}

// sample looks at each loop once and reports whether any was awake. A sample counts for one
// tick however late it comes: a process that was stopped for a minute is not stuck.
func (w *watchdog) sample(tick time.Duration) (awake bool) {
	for i, l := range w.engine.loops {
		v := &w.views[i]
		beat := l.pulse.beat.Load()
		if l.pulse.polling.Load() || beat != v.beat {
			awake = awake || beat != v.beat
			*v = loopView{beat: beat}
			continue
		}
		awake = true
		v.stuck += tick
		w.judge(l, v)
	}
	return awake
}

func (w *watchdog) judge(l *Loop, v *loopView) {
	o := &w.engine.options.Watchdog
	if v.stuck < o.Warn {
		return
	}
	name := ""
	if p := l.pulse.label.Load(); p != nil {
		name = *p
	}
	if !v.warned {
		v.warned = true
		l.pulse.stalls.Add(1)
		w.engine.options.Log.Warn("loop does not turn", "loop", l.index, "task", name, "stuck", v.stuck)
	}
	if v.stuck >= o.Dump && !w.dumped {
		w.dumped = true
		w.engine.options.Log.Warn("stacks of a loop that does not turn", "loop", l.index, "task", name, "stacks", string(allStacks()))
	}
	if v.stuck >= o.Fatal && !v.killed {
		v.killed = true
		o.Kill(l.index, name, allStacks())
	}
}

func allStacks() []byte {
	for size := 1 << 20; ; size *= 2 {
		b := make([]byte, size)
		if n := runtime.Stack(b, true); n < size || size >= 64<<20 {
			return b[:n]
		}
	}
}
